import json

import pytest

from weakmedsam_ext.data import decathlon_cases
from weakmedsam_ext.data.datasets.decathlon import check_decathlon_output, write_dataset_json


def edit(root, **changes):
    listing = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps({**listing, **changes}))


def test_cases_in_the_order_of_the_list(dataset, monkeypatch):
    monkeypatch.chdir(dataset.parent)
    cases = decathlon_cases("Task02_Heart")
    assert [case["case"] for case in cases] == ["la_007", "la_003", "la_009"]
    assert cases[1]["image"] == str(dataset / "imagesTr" / "la_003.nii.gz")
    assert cases[1]["label"] == str(dataset / "labelsTr" / "la_003.nii.gz")


def test_unlabelled_and_test_cases_have_no_label(dataset):
    edit(dataset, training=[{"image": "./imagesTr/la_003.nii.gz"}], test=["./imagesTr/la_007.nii.gz"])
    assert [sorted(case) for case in decathlon_cases(dataset)] == [["case", "image"]]
    assert [case["case"] for case in decathlon_cases(dataset, "test")] == ["la_007"]


def test_no_dataset_json(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="dataset.json does not exist; dataset_dir must be the extracted folder"
    ):
        decathlon_cases(tmp_path)


def test_missing_files_are_named(dataset):
    (dataset / "labelsTr" / "la_009.nii.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 files that .* are missing \(.*labelsTr/la_009.nii.gz\); put them there, or take"
    ):
        decathlon_cases(dataset)
    with pytest.raises(FileNotFoundError, match="imagesTs/la_001.nii.gz"):
        decathlon_cases(dataset, "test")


def test_masks_that_nobody_opens_may_be_missing(dataset):
    expected = decathlon_cases(dataset)
    (dataset / "labelsTr/la_009.nii.gz").unlink()
    assert decathlon_cases(dataset, check_masks=False) == expected
    (dataset / "imagesTr/la_009.nii.gz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"1 files that .* are missing \(.*imagesTr/la_009.nii.gz\); put them there, or take"
    ):
        decathlon_cases(dataset, check_masks=False)


def test_a_case_twice(dataset):
    edit(dataset, training=[{"image": "./imagesTr/la_003.nii.gz"}] * 2)
    with pytest.raises(ValueError, match=r"more than once \(la_003\)"):
        decathlon_cases(dataset)


@pytest.mark.parametrize("training", [[], None, {}])
def test_no_case(dataset, training):
    edit(dataset, training=training)
    with pytest.raises(ValueError, match="expected a list of cases under 'training'"):
        decathlon_cases(dataset)


@pytest.mark.parametrize("entry", [3, {"label": "a.nii.gz"}, {"image": ["a.nii.gz", "b.nii.gz"]}])
def test_an_entry_that_names_no_image(dataset, entry):
    edit(dataset, training=[entry])
    with pytest.raises(ValueError, match="every entry of 'training' must name one image file"):
        decathlon_cases(dataset)


def test_unknown_section(dataset):
    with pytest.raises(ValueError, match="training"):
        decathlon_cases(dataset, "trainning")


def test_a_data_set_is_not_overwritten_by_another(dataset):
    with pytest.raises(ValueError, match="already holds the data set 'LeftAtrium'; give another folder"):
        check_decathlon_output(dataset, "Phantom")
    check_decathlon_output(dataset, "LeftAtrium")
    check_decathlon_output(dataset / "new", "Phantom")


def test_what_is_written_can_be_read(dataset):
    write_dataset_json(dataset, "LeftAtrium", "", ("background", "left atrium"), {"la_003": {"from": "x"}})
    assert [case["case"] for case in decathlon_cases(dataset)] == ["la_003"]
    listing = json.loads((dataset / "dataset.json").read_text())
    assert listing["labels"] == {"0": "background", "1": "left atrium"} and listing["modality"] == {"0": "MRI"}
    assert listing["numTraining"] == 1
    assert json.loads((dataset / "cases.json").read_text()) == {"la_003": {"from": "x"}}
