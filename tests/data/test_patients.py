"""Splits by patient."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from monai.data import partition_dataset

from weakmedsam_ext.data import patients_of, read_split, split_cases

# two time points of ten patients, one of fourteen, four of one: 38 cases of 25 patients
CASES = [f"BraTS19_P_{number}_{time}" for number in range(10) for time in (1, 2)]
CASES += [f"BraTS19_P_{number}_1" for number in range(10, 24)] + [f"BraTS19_P_24_{time}" for time in range(4)]
PATTERN = r"^(BraTS19_\w+?_\d+)_"


def patient(case: str) -> str:
    return case.rpartition("_")[0]


def write_table(path: Path, rows: list[str], encoding: str = "utf-8") -> Path:
    path.write_text("\n".join(["case,patient", *rows]), encoding=encoding)
    return path


@pytest.mark.parametrize("seed", range(4))
def test_time_points_of_a_patient_are_in_one_part_and_fold(seed):
    folds = [split_cases(CASES, 4, fold, seed, 7, PATTERN) for fold in range(4)]
    for parts in folds:
        homes = {}
        for part, names in parts.items():
            for name in names:
                assert homes.setdefault(patient(name), part) == part
        assert sorted(sum(parts.values(), [])) == sorted(CASES)
        assert parts["test"] == folds[0]["test"] and len(parts["test"]) == 7
    validated = [name for parts in folds for name in parts["validation"]]
    assert sorted(validated + folds[0]["test"]) == sorted(CASES)
    sizes = [len(parts["validation"]) for parts in folds]
    assert sum(sizes) == 31 and max(sizes) - min(sizes) <= 1


def test_seed_decides_and_order_does_not():
    assert split_cases(CASES[::-1], 4, 1, 3, 5, PATTERN) == split_cases(CASES, 4, 1, 3, 5, PATTERN)
    assert split_cases(CASES, 4, 1, 3, 5, PATTERN) != split_cases(CASES, 4, 1, 4, 5, PATTERN)


@pytest.mark.parametrize(("num_folds", "fold", "seed", "num_test"), [(5, 0, 0, 0), (8, 3, 1, 5), (2, 1, 7, 11)])
def test_without_groups_a_split_is_what_it_always_was(num_folds, fold, seed, num_test):
    names = partition_dataset(sorted(CASES), num_partitions=1, shuffle=True, seed=seed)[0]
    folds = partition_dataset(names[num_test:], num_partitions=num_folds)
    expected = {
        "train": sorted(name for number, part in enumerate(folds) if number != fold for name in part),
        "validation": sorted(folds[fold]),
        "test": sorted(names[:num_test]),
    }
    assert split_cases(CASES, num_folds, fold, seed, num_test) == expected
    assert split_cases(CASES, num_folds, fold, seed, num_test, r".*") == expected  # a patient each


def test_number_of_test_cases_is_as_near_as_patients_allow():
    twins = [f"{number}_{time}" for number in range(8) for time in "ab"]
    assert len(split_cases(twins, 2, num_test=5, groups=r"^(\d+)")["test"]) == 4
    assert len(split_cases(twins, 2, num_test=1, groups=r"^(\d+)")["test"]) == 2
    assert split_cases(twins, 2, num_test=0, groups=r"^(\d+)")["test"] == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_table_does_what_a_pattern_does(tmp_path, encoding):
    table = write_table(tmp_path / "p.csv", [f"{case}, {patient(case)}" for case in [*CASES, "other_1"]], encoding)
    assert patients_of(CASES, table) == patients_of(CASES, PATTERN) == {case: patient(case) for case in CASES}
    assert split_cases(CASES, 3, 1, 2, 6, table) == split_cases(CASES, 3, 1, 2, 6, str(table))
    assert split_cases(CASES, 3, 1, 2, 6, table) == split_cases(CASES, 3, 1, 2, 6, PATTERN)


def test_a_table_of_a_spreadsheet(tmp_path):
    table = tmp_path / "p.csv"
    table.write_bytes("sep=;\r\nPatient;CASE;\r\nMüller;007;\r\n;;\r\n".encode("cp1252"))
    assert patients_of(["007"], table) == {"007": "Müller"}
    table.write_text("case\tpatient\n7\ta\n", encoding="utf-16")
    with pytest.raises(ValueError, match="example '007'; a spreadsheet may have read '007' as the number 7"):
        patients_of(["007"], table)


def test_whole_match_without_a_group():
    assert Counter(patients_of(["a1_x", "a1_y", "b2_x"], r"^\w\d").values()) == {"a1": 2, "b2": 1}


def test_explicit_lists_are_checked(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": CASES[:3], "validation": CASES[3:5]}))
    assert read_split(path, CASES)["train"] == CASES[:3]
    with pytest.raises(ValueError, match="split.json: cases 'BraTS19_P_1_1' and 'BraTS19_P_1_2' of patient .* in 'tr"):
        read_split(path, CASES, PATTERN)
    path.write_text(json.dumps({"train": CASES[:4], "validation": CASES[4:6]}))
    assert read_split(path, CASES, PATTERN) == read_split(path, CASES)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (r"^(BraTS20\d+)", "groups: 38 cases have no patient, for example 'BraTS19_P_0_1'; the pattern .* not match"),
        (r"^(BraTS", "is no regular expression"),
        (r"^(BraTS19)", "groups: expected at least 6 patients for 5 folds and 2 test cases, but got 1; lower"),
    ],
)
def test_bad_patterns(groups, message):
    with pytest.raises(ValueError, match=message):
        split_cases(CASES, num_test=2, groups=groups)


def test_bad_tables(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.csv does not exist; give a CSV file with the columns case,pat"):
        patients_of(CASES, tmp_path / "none.csv")
    table = write_table(tmp_path / "p.csv", ["a,1", "b,2", "a,3"])
    with pytest.raises(ValueError, match="p.csv: case 'a' has two patients; keep one row"):
        patients_of(["a"], table)
    with pytest.raises(ValueError, match="groups: 1 cases have no patient, for example 'c'; add a row for it to .*p.c"):
        patients_of(["b", "c"], write_table(table, ["a,1", "b,2"]))
    table.write_text("case,person\na,1")
    with pytest.raises(ValueError, match=r"p.csv: expected the columns case,patient, but got \['case', 'person'\]"):
        patients_of(["a"], table)
    table.write_bytes(b"case\x00\x01")
    with pytest.raises(ValueError, match="p.csv is no CSV file .*UTF-8"):
        patients_of(["a"], table)
