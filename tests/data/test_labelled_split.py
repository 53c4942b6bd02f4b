from __future__ import annotations

import numpy as np
import pytest

from weakmedsam_ext.data import semi_supervised_items, validation_items, write_nifti


def write_case(folder, name, shape=(4, 5, 6), foreground=1):
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 1:3, 1:3] = foreground
    write_nifti(np.ones((4, 5, 6), np.float32), np.eye(4), folder / f"{name}_image.nii.gz")
    write_nifti(mask, np.eye(4), folder / f"{name}_mask.nii.gz")
    return {"case": name, "image": str(folder / f"{name}_image.nii.gz"), "label": str(folder / f"{name}_mask.nii.gz")}


@pytest.fixture
def cases(tmp_path):
    return [write_case(tmp_path, name) for name in "dbca"]


def test_only_named_cases_keep_their_masks(cases):
    items = semi_supervised_items(cases, ["c", "b"])
    assert [item["case"] for item in items] == ["b", "c", "a", "d"]
    assert [sorted(item) for item in items] == [["case", "image", "label"]] * 2 + [["case", "image"]] * 2


def test_a_number_draws_cases_and_more_contain_the_fewer(cases):
    drawn = [
        {item["case"] for item in semi_supervised_items(order, count, seed=1) if "label" in item}
        for count, order in ((1, cases), (2, cases[::-1]), (4, cases))
    ]
    assert [len(names) for names in drawn] == [1, 2, 4] and drawn[0] < drawn[1] < drawn[2]
    without = [{"case": "e", "image": "e.nii.gz"}]
    assert semi_supervised_items(cases + without, 4)[-1] == without[0]


def test_masks_of_unlabelled_cases_are_not_looked_for(cases, tmp_path):
    (tmp_path / "a_mask.nii.gz").unlink()
    (tmp_path / "b_mask.nii.gz").write_bytes(b"garbage")
    assert len(semi_supervised_items(cases, ["c"])) == 4


@pytest.mark.parametrize(
    ("labelled", "message"),
    [
        (0, "labelled: expected 1 to 4 cases, as many as have masks, but got 0; .* at least one labelled case"),
        (5, "expected 1 to 4 cases, as many as have masks, but got 5"),
        ([], r"labelled: expected a list of at least one case name, but got \[\]"),
        ("a", "labelled: expected a list of at least one case name, but got 'a'"),
        (["x"], "labelled: case 'x' is not among the 4 training cases; correct the name"),
        (["a", "a"], "labelled: expected each case once"),
    ],
)
def test_labelled_cases_that_cannot_be(cases, labelled, message):
    with pytest.raises(ValueError, match=message):
        semi_supervised_items(cases, labelled)


def test_a_labelled_case_without_mask(cases):
    with pytest.raises(ValueError, match="case 'e' has no mask"):
        semi_supervised_items([*cases, {"case": "e", "image": "e.nii.gz"}], ["e"])


def test_defect_10_held_out_cases_are_no_training_cases_and_each_is_itself(cases):
    with pytest.raises(ValueError, match=r"held_out: \['a', 'd'\] are training cases too; keep each case in one"):
        semi_supervised_items(cases, 1, held_out=["d", "z", "a"])
    with pytest.raises(ValueError, match="cases: expected each once, but got 5 items of 4 cases"):
        semi_supervised_items([*cases, cases[0]], 1)


def test_masks_that_are_empty_or_of_another_shape_are_named(cases, tmp_path):
    write_case(tmp_path, "a", foreground=0)
    with pytest.raises(ValueError, match="a_mask.nii.gz: the mask of a labelled case is empty"):
        semi_supervised_items(cases, ["a"])
    write_case(tmp_path, "b", shape=(4, 5, 7))
    with pytest.raises(ValueError, match="b_mask.nii.gz: expected the shape"):
        semi_supervised_items(cases, ["b"])


def test_a_mask_without_any_value_of_a_class_is_empty(cases, tmp_path):
    write_case(tmp_path, "a", foreground=3)
    assert semi_supervised_items(cases, ["a"], class_map={"tumour": [1, 3]})[0]["case"] == "a"
    with pytest.raises(ValueError, match=r"a_mask.nii.gz: .* is empty of \{'tumour': \[1, 2\]\}; draw it"):
        semi_supervised_items(cases, ["a"], class_map={"tumour": [1, 2]})


def test_none_means_all_that_have_masks(cases):
    without = [{"case": "e", "image": "e.nii.gz"}]
    items = semi_supervised_items(cases + without, None)
    assert [item["case"] for item in items if "label" in item] == ["a", "b", "c", "d"] and items[4:] == without
    with pytest.raises(ValueError, match="expected 1 to 0 cases, as many as have masks, but got 1"):
        semi_supervised_items(without, None)


def test_a_class_that_no_labelled_mask_shows_is_named(tmp_path):
    cases = [write_case(tmp_path, "a", foreground=1), write_case(tmp_path, "b", foreground=2)]
    assert len(semi_supervised_items(cases, None, class_map={"one": 1, "two": [2, 3]})) == 2
    with pytest.raises(ValueError, match=r"class_map: \['three'\] are in none of the 2 labelled masks"):
        semi_supervised_items(cases, None, class_map={"one": [1, 2], "three": 3})


def test_a_number_of_cases_is_whole(cases):
    with pytest.raises(ValueError, match="labelled: expected a list of at least one case name, but got 2.0"):
        semi_supervised_items(cases, 2.0)


def test_masks_of_validation_cases_are_on_the_grid_of_their_image(cases, tmp_path):
    without = {"case": "e", "image": "e.nii.gz"}
    assert [item["case"] for item in validation_items([*cases, without])] == ["d", "b", "c", "a"]
    write_nifti(np.ones((4, 5, 6), np.uint8), np.diag([-1.0, 1, 1, 1]), tmp_path / "b_mask.nii.gz")
    with pytest.raises(ValueError, match="b_mask.nii.gz"):
        validation_items(cases)
