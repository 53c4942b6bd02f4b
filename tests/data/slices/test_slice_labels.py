import json
import shutil

import numpy as np
import pytest
from tiny_dataset import AFFINE, POSITIVE, SHAPE

from weakmedsam_ext.data import SliceLabels, decathlon_cases, slice_labels_from_masks, write_nifti

ATRIUM = {"left atrium": 1}


def write_mask(case, mask):
    write_nifti(mask, AFFINE, case["label"])


def test_labels_of_one_class(dataset, tmp_path):
    cases = decathlon_cases(dataset)
    labels = slice_labels_from_masks(cases, tmp_path / "slice_labels.json", ATRIUM, progress=False)
    expected = np.zeros((SHAPE[2], 1))
    expected[POSITIVE] = 1
    for case in cases:
        np.testing.assert_array_equal(labels.matrix(case["case"]), expected)
    content = json.loads((tmp_path / "slice_labels.json").read_text())
    assert content["cases"]["la_003"] == [[], [], ["left atrium"], ["left atrium"], ["left atrium"], []]
    assert SliceLabels.read(tmp_path / "slice_labels.json") == labels


def test_several_classes_of_several_values(dataset, tmp_path):
    cases = decathlon_cases(dataset)[:1]
    mask = np.zeros(SHAPE, np.uint8)
    mask[0, 0, 0], mask[1, 0, 1], mask[2, :2, 2], mask[3, 0, 2], mask[4, 0, 4] = 1, 2, 4, 1, 7
    write_mask(cases[0], mask)
    classes = {"whole": [1, 2, 4], "core": [1, 4], "4": 4}
    labels = slice_labels_from_masks(cases, tmp_path / "a.json", classes, progress=False)
    rows = [[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_array_equal(labels.matrix("la_007"), rows)
    # slice 2 has three pixels of "whole" and "core" and two of "4"
    labels = slice_labels_from_masks(cases, tmp_path / "b.json", {"whole": [1, 2, 4]}, min_pixels=3, progress=False)
    np.testing.assert_array_equal(labels.matrix("la_007")[:, 0], [0, 0, 1, 0, 0, 0])


def test_masks_are_opened_once(dataset, tmp_path):
    cases, output = decathlon_cases(dataset), tmp_path / "slice_labels.json"
    labels = slice_labels_from_masks(cases, output, ATRIUM, progress=False)
    shutil.rmtree(dataset / "labelsTr")
    assert slice_labels_from_masks(cases, output, ATRIUM, progress=False) == labels
    assert slice_labels_from_masks(cases[:2], output, ATRIUM, progress=False) == labels


def test_other_settings_or_cases_are_labelled_anew(dataset, tmp_path, caplog):
    cases, output = decathlon_cases(dataset), tmp_path / "slice_labels.json"
    slice_labels_from_masks(cases[:1], output, ATRIUM, progress=False)
    assert set(slice_labels_from_masks(cases, output, ATRIUM, progress=False).cases) == {c["case"] for c in cases}
    assert "made from other cases or settings" in caplog.text
    labels = slice_labels_from_masks(cases, output, {"atrium": 1}, min_pixels=16, progress=False)
    assert labels.classes == ("atrium",)
    with pytest.raises(ValueError, match="occur in no slice"):
        slice_labels_from_masks(cases, output, ATRIUM, min_pixels=17, progress=False)


def test_labels_of_other_images_are_not_reused(dataset, tmp_path):
    """Another data set with the same names, for example phantoms of another seed."""
    cases, output = decathlon_cases(dataset), tmp_path / "slice_labels.json"
    slice_labels_from_masks(cases, output, ATRIUM, progress=False)
    write_nifti(np.random.default_rng(9).normal(size=SHAPE), AFFINE, cases[0]["image"])
    write_mask(cases[0], np.ones(SHAPE, np.uint8))
    assert slice_labels_from_masks(cases, output, ATRIUM, progress=False).matrix("la_007").all()


def test_a_class_that_no_mask_holds(dataset, tmp_path):
    with pytest.raises(
        ValueError, match=r"class_map: \['aorta'\] occur in no slice of 3 masks .*correct the label values"
    ):
        slice_labels_from_masks(decathlon_cases(dataset), tmp_path / "a.json", {**ATRIUM, "aorta": 2}, progress=False)
    assert not (tmp_path / "a.json").exists()


def test_a_mask_on_another_grid(dataset, tmp_path):
    cases = decathlon_cases(dataset)
    write_mask(cases[1], np.ones((20, 14, 5), np.uint8))
    with pytest.raises(ValueError, match=r"labelsTr/la_003.nii.gz: expected the shape \(20, 14, 6\) .* \(20, 14, 5\)"):
        slice_labels_from_masks(cases, tmp_path / "a.json", ATRIUM, progress=False)


def test_a_case_without_a_mask(dataset, tmp_path):
    cases = [{"case": "x", "image": decathlon_cases(dataset)[0]["image"]}]
    with pytest.raises(ValueError, match="case 'x' has no mask; list its slices in a CSV file"):
        slice_labels_from_masks(cases, tmp_path / "a.json", ATRIUM, progress=False)


@pytest.mark.parametrize(("classes", "pixels"), [({}, 1), (ATRIUM, 0)])
def test_bad_settings(dataset, tmp_path, classes, pixels):
    with pytest.raises(ValueError, match="expected at least one class, one case and min_pixels >= 1"):
        slice_labels_from_masks(decathlon_cases(dataset), tmp_path / "a.json", classes, pixels)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no valid JSON"),
        ('{"classes": ["a"]}', "holds no slice labels .*delete it, and the stage slice_labels writes it"),
        (
            '{"classes": ["a"], "source": {}, "cases": {"x": [["b"]]}}',
            r"unknown classes \['b'\], expected some of \['a'\]",
        ),
    ],
)
def test_damaged_file(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        SliceLabels.read(tmp_path / "a.json")


def test_unknown_case():
    with pytest.raises(ValueError, match="case 'x' has no slice labels"):
        SliceLabels(("a",), {}, {}).matrix("x")
