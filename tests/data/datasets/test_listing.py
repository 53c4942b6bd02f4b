import pytest

from weakmedsam_ext.data import list_cases, split_dataset


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def abdomen(root):
    names = [name for case in "123456" for name in (f"Image/Case_{case}_0000.nii.gz", f"Mask/Case_{case}.nii.gz")]
    return touch(root, *names)


def test_layouts_are_found(tmp_path):
    brain = touch(tmp_path / "brain", "HGG/a/a_flair.nii.gz", "HGG/a/a_seg.nii.gz")
    assert [case["case"] for case in list_cases(brain)] == ["a"]
    assert len(list_cases(abdomen(tmp_path / "abdomen"))) == 6


def test_a_data_set_as_downloaded_is_split(tmp_path):
    split = split_dataset(abdomen(tmp_path), num_folds=2, num_test=2)
    assert sorted(map(len, split.values())) == [2, 2, 2]
    assert len({case["case"] for part in split.values() for case in part}) == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, FileNotFoundError, "holds no data set in a layout that is known .*; give the folder that holds dataset"),
        ({"layout": "heart"}, ValueError, "heart"),
        ({"layout": "decathlon", "modalities": ["a", "b"]}, ValueError, "modalities: expected one .* 'decathlon'"),
    ],
)
def test_what_is_no_data_set_is_told(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        list_cases(tmp_path, **arguments)


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset_dir: .*nowhere is no folder; correct the path"):
        list_cases(tmp_path / "nowhere")
