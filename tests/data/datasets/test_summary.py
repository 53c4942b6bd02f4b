from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.data import write_phantoms
from weakmedsam_ext.data.datasets.summary import case_table, dataset_table, skipped_files


def volume(path, shape=(4, 5, 6), size=(1.0, 1.0, 2.5), unit="mm"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*size, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def rows(text):
    """Table printed above the last line."""
    return dict(line.split("  ", 1) for line in text.strip().splitlines()[:-1]), text.strip().splitlines()[-1]


def printed(capsys, *arguments):
    capsys.readouterr()
    assert main(list(map(str, arguments))) == 0
    table, last = rows(capsys.readouterr().out)
    return {name.strip(): text.strip() for name, text in table.items()}, last


def test_sizes_are_ranges_along_each_axis(tmp_path):
    small = volume(tmp_path / "a.nii.gz")
    large = volume(tmp_path / "b.nii.gz", (8, 5, 7), (0.001, 0.00125, 0.0025), "meter")
    many = volume(tmp_path / "c.nii", (4, 5, 6, 3))
    bad = tmp_path / "d.nii.gz"
    bad.write_bytes(b"no volume")
    picture = tmp_path / "e.png"
    cases = [{"image": str(small), "label": "x"}, {"image": str(large)}, {"image": [str(many), str(picture)]}]
    assert case_table(cases, {}, ["T1", "T2"]).splitlines() == [
        "cases       3: 1 with a mask, 2 without",
        "modalities  T1, T2",
        "voxels      4-8 x 5 x 6-7",
        "voxel size  1 x 1-1.25 x 2.5 mm",
        "skipped     nothing",
    ]
    table = case_table([*cases, {"image": str(bad)}], {"of no use": [small, large]}).splitlines()
    assert table[-2] == "unreadable  1 file, d.nii.gz; download, export or compute what is damaged again"
    assert table[-1] == "skipped     2 files, for example a.nii.gz: of no use"


def test_what_is_skipped(tmp_path):
    used, other = volume(tmp_path / "in/a.nii.gz"), volume(tmp_path / "in/deep/b.nii.gz")
    for name in ("in/._a.nii.gz", "in/__MACOSX/a.nii.gz", "in/out/a.nii.gz", "in/.hidden/c.nii.gz"):
        volume(tmp_path / name)
    (tmp_path / "in/notes.txt").write_text("x")
    h5 = tmp_path / "in/c.h5"
    h5.write_text("x")
    found = skipped_files(tmp_path / "in", [{"image": str(used)}], lambda path: path.suffix, tmp_path / "in/out")
    assert found == {".h5": [h5], ".gz": [other]}


@pytest.mark.parametrize("modality", ["flair", "t1", "t2"])
def test_other_modalities_of_brats2019_are_told(tmp_path, capsys, modality):
    write_phantoms(tmp_path / "in", "brats2019", 2, size=(32, 32, 16), progress=False)
    volume(tmp_path / "in/HGG/lonely_seg.nii.gz")
    volume(tmp_path / "in/notes.nii.gz")
    where = ["--source", tmp_path / "in", "--output", tmp_path / "out", "--modality", modality]
    assert main(["prepare", "brats2019", *map(str, where)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "cases       2: 2 with a mask, 0 without" and lines[2] == "voxels      32 x 32 x 16"
    skipped = [line.split("  ", 1)[1].strip() for line in lines if line.startswith("skipped")]
    others = [kind for kind in ("flair", "t1", "t1ce", "t2") if kind != modality]
    expected = [
        f"2 files, for example BraTS19_Phantom_001_1_{kind}.nii.gz: of modality {kind}, which" for kind in others
    ]
    expected += ["1 file, lonely_seg.nii.gz: masks without", "1 file, notes.nii.gz: not named as files of this"]
    assert len(skipped) == 5
    assert all(any(line.startswith(start) for line in skipped) for start in expected)


def test_abdomenct1k(tmp_path, capsys):
    write_phantoms(tmp_path / "in", "abdomenct1k", 3, size=(48, 36, 16), progress=False)
    (tmp_path / "in/Mask/Case_00003.nii.gz").rename(tmp_path / "in/Mask/Case_00009.nii.gz")
    table, last = printed(capsys, "prepare", "abdomenct1k", "--source", tmp_path / "in", "--output", tmp_path / "out")
    assert table["cases"] == "3: 2 with a mask, 1 without" and table["modalities"] == "CT"
    assert table["skipped"] == "1 file, Case_00009.nii.gz: masks without their image" and "wrote" in last


def test_la2018(tmp_path, capsys):
    h5py = pytest.importorskip("h5py")
    for case in "AB":
        (tmp_path / "in" / case).mkdir(parents=True)
        with h5py.File(tmp_path / "in" / case / "mri_norm2.h5", "w") as file:
            file["image"] = np.random.default_rng(0).random((4, 5, 6))
            file["label"] = np.arange(120).reshape(4, 5, 6) % 2
    volume(tmp_path / "in" / "A" / "preview.nii.gz")
    table, _ = printed(capsys, "prepare", "la2018", "--source", tmp_path / "in", "--output", tmp_path / "out")
    assert table["cases"] == "2: 2 with a mask, 0 without" and table["voxel size"] == "0.625 x 0.625 x 0.625 mm"
    assert table["skipped"] == "1 file, preview.nii.gz: not named as files of this data set are"


def test_a_task_of_the_decathlon_that_is_there_already(tmp_path, capsys):
    folder = tmp_path / "Task02_Heart"
    write_phantoms(folder, num_cases=3, size=(32, 36, 8), progress=False)
    listing = json.loads((folder / "dataset.json").read_text())
    listing["training"] = listing["training"][:2]
    (folder / "dataset.json").write_text(json.dumps(listing))
    table, last = printed(capsys, "prepare", "msd_heart", "--output", tmp_path)
    assert table["cases"] == "2: 2 with a mask, 0 without" and table["voxels"] == "32 x 36 x 8"
    assert table["skipped"].endswith("dataset.json does not list them") and table["skipped"].startswith("2 files")
    assert last == f"{folder} is there already, nothing done"


def test_channels_in_one_file_and_images_for_the_test(tmp_path):
    for name in ("imagesTr/a.nii.gz", "imagesTs/b.nii.gz"):
        volume(tmp_path / name, (6, 5, 4, 2))
    volume(tmp_path / "labelsTr/a.nii.gz", (6, 5, 4))
    content = {"modality": {"0": "T2", "1": "ADC"}, "test": ["./imagesTs/b.nii.gz"]}
    content["training"] = [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert dataset_table(tmp_path).splitlines() == [
        "cases       2: 1 with a mask, 1 without",
        "modalities  T2, ADC",
        "voxels      6 x 5 x 4",
        "voxel size  1 x 1 x 2.5 mm",
        "skipped     nothing",
    ]


def test_a_bundle_for_own_images(tmp_path, capsys):
    for name in ("images/a.nii.gz", "images/b.nii.gz", "labels/a.nii.gz", "old/c.nii.gz"):
        volume(tmp_path / "data" / name)
    where = ["--output", tmp_path / "bundle", "--dataset_dir", tmp_path / "data", "--class_map", "{'x': 1}"]
    table, last = printed(capsys, "create", "semisam", *where)
    assert table["cases"] == "2: 1 with a mask, 1 without" and last == f"wrote {Path(tmp_path / 'bundle')}"
    assert table["skipped"] == "1 file, c.nii.gz: neither image nor mask of a case"
