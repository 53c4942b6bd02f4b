import json
import random

import pytest

from weakmedsam_ext.data import read_split, split_cases

CASES = [f"la_{number:03d}" for number in range(1, 29)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_case_is_in_two_splits(seed):
    folds = [split_cases(CASES, num_folds=8, fold=fold, seed=seed, num_test=5) for fold in range(8)]
    for parts in folds:
        assert sorted(parts["train"] + parts["validation"] + parts["test"]) == CASES
        assert parts["test"] == folds[0]["test"] and len(parts["test"]) == 5
    # every case outside the test set validates exactly once
    validated = [case for parts in folds for case in parts["validation"]]
    assert sorted(validated + folds[0]["test"]) == CASES
    assert (len(folds[0]["train"]), len(folds[0]["validation"])) == (20, 3)


def test_seed_decides_and_order_does_not():
    shuffled = random.Random(0).sample(CASES, len(CASES))
    assert split_cases(shuffled, seed=3, num_test=4) == split_cases(CASES, seed=3, num_test=4)
    assert split_cases(CASES, seed=3, num_test=4) != split_cases(CASES, seed=4, num_test=4)


def test_items_are_returned_as_they_came():
    items = [{"case": case, "image": f"{case}.nii.gz"} for case in CASES]
    parts = split_cases(items, fold=2)
    assert [item["case"] for item in parts["train"]] == split_cases(CASES, fold=2)["train"]
    assert all(item in items for part in parts.values() for item in part)


@pytest.mark.parametrize(
    ("cases", "arguments", "message"),
    [
        ([], {}, "cases: expected at least one, but got an empty list"),
        (CASES[:8], {"num_folds": 5, "num_test": 4}, "expected at least 9 for 5 folds and 4 test cases, but got 8"),
        ([*CASES, CASES[0]], {}, "expected each once, but got 29 items of 28 cases"),
        (CASES, {"num_folds": 1}, "expected num_folds >= 2"),
        (CASES, {"fold": 5}, "0 <= fold < num_folds .*fold=5"),
        (CASES, {"fold": -1}, "fold=-1"),
        (CASES, {"num_test": -1}, "num_test=-1"),
    ],
)
def test_bad_arguments(cases, arguments, message):
    with pytest.raises(ValueError, match=message):
        split_cases(cases, **arguments)


def write(path, **parts):
    path.write_text(json.dumps(parts))
    return path


def test_explicit_lists(tmp_path):
    path = write(tmp_path / "split.json", train=["la_003", "la_001"], validation=["la_002"], test=["la_009"])
    items = [{"case": case} for case in CASES]
    assert read_split(path, items) == {
        "train": [{"case": "la_003"}, {"case": "la_001"}],
        "validation": [{"case": "la_002"}],
        "test": [{"case": "la_009"}],
    }
    path = write(tmp_path / "split.json", train=["la_003"], validation=["la_002"])
    assert read_split(path, CASES)["test"] == []


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": ["la_001"], "validation": ["la_002"], "test": ["la_001"]}, "'la_001' is in 'train' and in 'test'"),
        ({"train": ["la_001", "la_001"], "validation": ["la_002"]}, "'la_001' is in 'train' and in 'train'"),
        ({"train": [], "validation": ["la_002"]}, r"expected a list of case names under 'train', but got \[\]"),
        ({"train": ["la_001"]}, "expected a list of case names under 'validation', but got None"),
        ({"train": ["la_001"], "validation": ["la_1"]}, "'validation' names the case 'la_1', which is not in the data"),
    ],
)
def test_bad_lists(tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        read_split(write(tmp_path / "split.json", **parts), CASES)


def test_no_list(tmp_path):
    with pytest.raises(FileNotFoundError, match="split.json does not exist; write lists of case names"):
        read_split(tmp_path / "split.json", CASES)
