"""All problems of a data set are found at once, each with its remedy."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tiny_dataset import AFFINE, NAMES, SHAPE

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.data import check_dataset, decathlon_cases, format_problems, read_json, report_problems, write_nifti

ATRIUM = {"atrium": 1}
CASE = NAMES[1]


def check(dataset, class_map=ATRIUM, **arguments):
    cases = decathlon_cases(dataset, check_masks=False, check_images=False)
    return check_dataset(cases, class_map, progress=False, **arguments)


def change(path, array=lambda values: values, affine=lambda matrix: matrix):
    image = nib.load(path)
    write_nifti(array(np.asarray(image.dataobj, np.float32)), affine(image.affine), path)


def with_value(value, *index):
    def put(array):
        array[index or (0, 0, 0)] = value
        return array

    return put


def with_affine(path, affine):
    """Write an affine that no writer would: straight into the header."""
    image = nib.load(path)
    header = image.header.copy()
    header["srow_x"], header["srow_y"], header["srow_z"] = affine[:3]
    header["sform_code"], header["qform_code"], header["magic"], header["vox_offset"] = 1, 0, b"n+1", 352
    voxels = np.asarray(image.dataobj).astype(header.get_data_dtype())
    content = header.binaryblock + b"\0" * 4 + voxels.tobytes(order="F")
    Path(path).write_bytes(gzip.compress(content))


def test_a_sound_data_set_has_no_problem(dataset):
    assert check(dataset) == check(dataset, None) == check(dataset, read_masks=False) == []


# how a case is spoilt (image, mask), and the only problem that is found: file, severity, what, remedy


def scaled(factor):
    return lambda matrix: matrix @ np.diag([factor, factor, factor, 1])


def both(array=lambda values: values, affine=lambda matrix: matrix):
    def spoil(image, mask):
        for path in (image, mask):
            change(path, array, affine)

    return spoil


def mirrored(matrix):
    return np.diag([-1, 1, 1, 1]) @ matrix


ALONE = [
    ("missing image", lambda i, m: i.unlink(), "image", "error", "does not exist", "correct the path"),
    ("missing mask", lambda i, m: m.unlink(), "mask", "error", "does not exist", "correct the path"),
    (
        "truncated",
        lambda i, m: i.write_bytes(i.read_bytes()[: i.stat().st_size // 2]),
        "image",
        "error",
        "is damaged or no medical volume (",
        "download, export or compute it again",
    ),
    (
        "web page",
        lambda i, m: i.write_text("<html>"),
        "image",
        "error",
        "is damaged or no medical",
        "download, export or compute",
    ),
    (
        "4-D",
        lambda i, m: nib.save(nib.Nifti1Image(np.ones((*SHAPE, 2), np.float32), AFFINE), i),
        "image",
        "error",
        f"expected a 3-D volume, but got shape {(*SHAPE, 2)}",
        "give one volume a file",
    ),
    ("NaN", lambda i, m: change(i, with_value(np.nan)), "image", "error", "1 voxels are NaN or inf", "replace them"),
    (
        "infinity",
        lambda i, m: change(i, with_value(np.inf)),
        "image",
        "error",
        "1 voxels are NaN or inf",
        "replace them",
    ),
    ("NaN in mask", lambda i, m: change(m, with_value(np.nan)), "mask", "error", "1 voxels are NaN", "replace them"),
    (
        "constant",
        lambda i, m: change(i, lambda v: 0 * v + 7),
        "image",
        "error",
        "all voxels have the value 7",
        "export the volume again",
    ),
    (
        "huge voxels",
        both(affine=lambda matrix: np.diag([0.8, 200, 2, 1])),
        "image",
        "error",
        "expected voxel sizes above 0 and up to 100 mm, but got 0.8 x 200 x 2",
        "correct its header",
    ),
    (
        "voxels of no size",
        lambda i, m: with_affine(i, np.diag([0.0, 1, 1, 1])),
        "image",
        "error",
        "expected voxel sizes above 0 and up to 100 mm, but got 0 x 1 x 1",
        "correct its header",
    ),
    (
        "affine of NaN",
        lambda i, m: with_affine(i, np.diag([np.nan, 1, 1, 1])),
        "image",
        "error",
        "its affine holds NaN or infinity",
        "correct its header",
    ),
    (
        "singular affine",
        lambda i, m: with_affine(i, np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        "image",
        "error",
        "its affine is singular",
        "correct its header",
    ),
    (
        "other shape",
        lambda i, m: change(m, lambda v: v[..., :-1]),
        "mask",
        "error",
        f"expected the shape {SHAPE} of ",
        "resample the mask to the image with nearest",
    ),
    (
        "other affine",
        lambda i, m: change(m, affine=lambda a: a + np.diag([0.5, 0, 0, 0])),
        "mask",
        "error",
        "its affine differs from that of ",
        "resample the mask with nearest",
    ),
    (
        "fractions",
        lambda i, m: change(m, with_value(0.5)),
        "mask",
        "error",
        "expected whole label values, but got fractions",
        "resample masks with nearest",
    ),
    (
        "empty mask",
        lambda i, m: change(m, np.zeros_like),
        "mask",
        "warning",
        "no voxel of the mask has a label of class_map",
        "check that nothing is to be seen",
    ),
    (
        "unknown value",
        lambda i, m: change(m, with_value(5)),
        "mask",
        "warning",
        "value 5 of this mask is in no class of class_map",
        "add it to class_map",
    ),
    (
        "one slice",
        both(lambda values: values[:, :, 3:4]),
        "image",
        "warning",
        "the volume is a single slice, of shape (20, 14, 1)",
        "check that no slice was lost",
    ),
    (
        "mirrored",
        both(affine=mirrored),
        "image",
        "warning",
        "its axes point to RPS, most others to LPS",
        "look in a viewer whether left is left",
    ),
    (
        "other spacing",
        both(affine=scaled(4)),
        "image",
        "warning",
        "its voxel size 3.22 x 3.22 x 10 mm differs much from the median 0.806 x 0.806 x 2.5 mm",
        "check its header",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "file", "severity", "what", "remedy"), [row[1:] for row in ALONE], ids=[r[0] for r in ALONE]
)
def test_each_kind_of_problem(dataset, spoil, file, severity, what, remedy):
    paths = {"image": dataset / f"imagesTr/{CASE}.nii.gz", "mask": dataset / f"labelsTr/{CASE}.nii.gz"}
    spoil(paths["image"], paths["mask"])
    (problem,) = check(dataset)
    assert (problem.case, problem.file, problem.severity) == (CASE, str(paths[file]), severity)
    assert problem.what.startswith(what) and problem.remedy.startswith(remedy)


def test_a_spacing_is_compared_along_anatomical_axes(dataset):
    """The same voxels, stored with other axes: only the orientation differs."""
    for folder in ("imagesTr", "labelsTr"):
        path = dataset / folder / f"{CASE}.nii.gz"
        image = nib.load(path).as_reoriented(np.array([[2, 1], [0, 1], [1, 1]]))
        write_nifti(np.asarray(image.dataobj), image.affine, path)
    assert [problem.what for problem in check(dataset)] == ["its axes point to PSL, most others to LPS"]


def test_copies_are_found_whatever_their_header_and_compression(dataset):
    first, second = (dataset / f"imagesTr/{name}.nii.gz" for name in NAMES[::2])
    image = nib.load(first)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), second)
    assert first.read_bytes() != second.read_bytes()
    (problem,) = check(dataset)
    assert problem.is_error and problem.case == NAMES[2]
    assert problem.what == f"has the same voxels as {first} of case {NAMES[0]!r}"
    assert problem.remedy.startswith("remove one of them, as training and test must not share a patient")


def test_one_file_of_two_cases_is_found(dataset):
    cases = decathlon_cases(dataset)
    (problem,) = check_dataset([cases[0], {"case": "again", "image": cases[0]["image"]}], progress=False)
    assert problem.case == "again" and problem.what.startswith("has the same voxels")


def test_modalities_of_a_case_lie_on_one_grid(dataset):
    cases = decathlon_cases(dataset)
    images = [cases[0]["image"], cases[1]["image"]]
    change(images[1], lambda values: values[1:])
    (problem,) = check_dataset([{"case": "a", "image": images}], progress=False)
    assert problem.is_error and problem.file == images[1] and problem.what.startswith(f"expected the shape {SHAPE} of ")
    assert problem.remedy == "resample it to the first image of the case, or pair the right files"


def test_classes_that_no_mask_shows(dataset):
    whole, part = check(dataset, {"aorta": [7, 8], "atrium": [1, 9]})
    assert (
        whole.is_error and whole.what == "class_map: value 7, 8 of 'aorta' occurs in none of 3 masks, which hold [0, 1]"
    )
    assert (
        not part.is_error and part.what == "class_map: value 9 of 'atrium' occurs in none of 3 masks, which hold [0, 1]"
    )
    assert whole.remedy == "correct class_map, or add a case that shows it"


def test_values_that_the_same_masks_hold_are_one_problem(dataset):
    for name in NAMES:
        change(dataset / f"labelsTr/{name}.nii.gz", lambda values: with_value(2, 1, 1, 1)(with_value(3)(values)))
    (problem,) = check(dataset)
    assert problem.what.startswith("value 2, 3 of this mask (and of 2 other masks) is in no class")


def test_without_a_class_map_any_label_will_do(dataset):
    change(dataset / f"labelsTr/{NAMES[0]}.nii.gz", np.zeros_like)
    change(dataset / f"labelsTr/{NAMES[1]}.nii.gz", with_value(5))
    assert [problem.what for problem in check(dataset, None)] == ["no voxel of the mask has a label"]


def test_all_problems_stand_in_one_table_errors_first(dataset):
    change(dataset / f"labelsTr/{NAMES[0]}.nii.gz", with_value(5))
    change(dataset / f"imagesTr/{NAMES[1]}.nii.gz", with_value(np.nan), mirrored)
    change(dataset / f"labelsTr/{NAMES[1]}.nii.gz", with_value(0.5))
    (dataset / f"imagesTr/{NAMES[2]}.nii.gz").unlink()
    problems = check(dataset, {**ATRIUM, "aorta": 7})
    rows = [(problem.severity, problem.case) for problem in problems]
    errors = [("error", name) for name in (NAMES[1], NAMES[1], NAMES[1], NAMES[2], "")]
    assert rows == [*errors, ("warning", NAMES[0]), ("warning", NAMES[1])]
    lines = format_problems(problems).splitlines()
    assert len(lines) == 8 and lines[0].split() == ["severity", "case", "file", "problem", "and", "remedy"]
    assert lines[4].split()[:3] == ["error", NAMES[2], f"imagesTr/{NAMES[2]}.nii.gz"]
    assert lines[4].endswith("does not exist; correct the path, or put the file there")
    assert lines[5].split()[:3] == ["error", "-", "-"]
    assert len({line.index(problem.what) for line, problem in zip(lines[1:], problems, strict=True)}) == 1


def test_masks_are_not_opened_unless_asked(dataset):
    for mask in (dataset / "labelsTr").iterdir():
        mask.write_bytes(b"garbage")
    assert check(dataset, {"aorta": 7}, read_masks=False) == []
    assert [problem.what.split(" (")[0] for problem in check(dataset)] == ["is damaged or no medical volume"] * 3
    shutil.rmtree(dataset / "labelsTr")
    assert check(dataset, read_masks=False) == []


def test_a_class_map_of_another_type_is_refused(dataset):
    with pytest.raises(ValueError, match="class_map: expected names and values, for example .*, but got 'atrium'"):
        check(dataset, "atrium")


def test_a_report_names_the_first_error_and_its_file(dataset, tmp_path, caplog):
    path = tmp_path / "check.json"
    report_problems([], path)
    assert read_json(path, "") == {"problems": []}
    change(dataset / f"labelsTr/{CASE}.nii.gz", np.zeros_like)
    report_problems(check(dataset), path)  # warnings end nothing
    assert "0 errors, 1 warnings in the data set" in caplog.text
    (dataset / f"imagesTr/{CASE}.nii.gz").unlink()
    sentence = rf"^a problem in the data set: .*{CASE}.nii.gz: does not exist; .*put the file there; see {path}"
    with pytest.raises(ValueError, match=sentence):
        report_problems(check(dataset), path)
    assert [row["severity"] for row in read_json(path, "")["problems"]] == ["error", "warning"]


def test_command_line(dataset, capsys):
    arguments = ["check", "--dataset_dir", str(dataset), "--class_map", "{'atrium': 1}"]
    assert main(arguments) == 0 and "no problem in 3 cases" in capsys.readouterr().out
    change(dataset / f"labelsTr/{CASE}.nii.gz", np.zeros_like)
    assert main([*arguments, "--layout", "decathlon"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("severity") and "0 errors, 1 warnings in 3 cases" in output
    (dataset / f"imagesTr/{CASE}.nii.gz").unlink()
    assert main([*arguments, "--modalities", "mri"]) == 1
    output = capsys.readouterr()
    assert "does not exist; correct the path" in output.out
    assert output.err.splitlines()[-1] == "error: 1 errors, 1 warnings in 3 cases; mend the errors and check again."
