"""Folders of images of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from weakmedsam_ext.data import list_cases, split_dataset
from weakmedsam_ext.data.datasets.image_folder import is_image_folder, list_image_folder


def touch(root: Path, *names: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def names(root: Path) -> list[str]:
    return [case["case"] for case in list_cases(root)]


def test_volumes_pictures_and_series_in_sub_folders(tmp_path):
    root = touch(tmp_path, "c.nii.gz", "a.b.nrrd", "deep/er/d.JPG", "e.png", "f.mha", "g.nii", "notes.txt", ".h.png")
    touch(root, "1.2.840.113/1.dcm", "1.2.840.113/2.dcm", "1.2.840.113/preview.png", "__MACOSX/c.nii.gz", ".x/y.png")
    (root / "bare").mkdir()
    (root / "bare" / "IM1").write_bytes(bytes(128) + b"DICM")
    assert names(root) == ["1.2.840.113", "a.b", "bare", "c", "d", "e", "f", "g"]
    cases = {case["case"]: case for case in list_cases(root)}
    assert cases["bare"] == {"case": "bare", "image": str(root / "bare")}
    assert cases["d"]["image"] == str(root / "deep/er/d.JPG")
    assert list_cases(root, layout="folder") == list_cases(root)


@pytest.mark.parametrize("masks", ["labels", "masks"])
def test_masks_have_the_names_of_images(tmp_path, masks):
    root = touch(tmp_path, "images/a.png", "images/b.jpg", "images/s/1.dcm", f"{masks}/a.nii.gz", f"{masks}/s.nrrd")
    touch(root, "other/z.png", f"{masks}/.hidden.png")
    assert list_cases(root) == [
        {"case": "a", "image": str(root / "images/a.png"), "label": str(root / f"{masks}/a.nii.gz")},
        {"case": "b", "image": str(root / "images/b.jpg")},
        {"case": "s", "image": str(root / "images/s"), "label": str(root / f"{masks}/s.nrrd")},
    ]


def test_a_folder_is_split(tmp_path):
    touch(tmp_path, *(f"{number}.png" for number in range(6)))
    assert sorted(map(len, split_dataset(tmp_path, num_folds=2, num_test=2).values())) == [2, 2, 2]


def test_links_are_followed_but_not_in_circles(tmp_path):
    series = touch(tmp_path / "far", "1.dcm")
    root = touch(tmp_path / "root", "a/b.png")
    (root / "linked").symlink_to(series)
    (root / "a" / "up").symlink_to(root)
    assert names(root) == ["b", "linked"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x/a.nii.gz", "y/a.png"], "x/a.nii.gz and .*y/a.png both name the case 'a'; rename one"),
        (["a.png", "labels/a.png"], "a.png and .*labels/a.png both name the case 'a'; .* folders images and labels"),
        (["images/a.png", "labels/a_mask.png"], "a_mask.png: there is no image of that name in .*; name masks like"),
        (["images/a.png", "labels/a.png", "masks/a.png"], "holds both labels and masks; keep one"),
        (["1.dcm", "2.dcm"], "holds DICOM files itself; put each series into a sub-folder"),
        (["images/1.dcm"], "images holds DICOM files itself"),
    ],
)
def test_what_is_not_clear_is_told(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(ValueError, match=message):
        list_cases(tmp_path)


def test_no_image_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no image .*; add images"):
        list_image_folder(touch(tmp_path / "a", "notes.txt"))
    with pytest.raises(FileNotFoundError, match="nowhere is no folder; give the folder that holds the images"):
        list_image_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="holds no data set in a layout that is known .*images of your own"):
        list_cases(touch(tmp_path / "b", "notes.txt"))


@pytest.mark.parametrize(
    "files",
    [
        ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz"],
        ["HGG/a/a.nii.gz"],
        ["AbdomenCT-1K-ImagePart1/a.nii.gz"],
        ["case1/lgemri.nrrd", "case1/laendo.nrrd"],
        ["dataset.json", "a.nii.gz"],
    ],
)
def test_folders_of_other_layouts_are_left_to_them(tmp_path, files):
    assert not is_image_folder(touch(tmp_path, *files))


def test_other_layouts_come_first(tmp_path):
    brain = touch(tmp_path, "HGG/a/a_flair.nii.gz", "HGG/a/a_seg.nii.gz")
    assert [case["case"] for case in list_cases(brain)] == ["a"]
