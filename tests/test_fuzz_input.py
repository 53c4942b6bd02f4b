"""Random headers, dataset.json and CSV files: a right result or one sentence, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import string
import struct
import time
from functools import wraps

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weakmedsam_ext.data import list_cases, load_mask, load_volume, read_grid, slice_labels_from_csv, write_nifti

SECONDS = 12.0  # for all examples of a test; the five of them take a minute
HANG_MS = 60_000  # the first picture loads ITK, which takes 20 s on a busy machine
USUAL = settings(
    max_examples=150,
    deadline=HANG_MS,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SENTENCE = (ValueError, FileNotFoundError)
number = st.one_of(st.integers(-3, 40), st.sampled_from([-32768, 0, 1, 255, 32767]))
real = st.one_of(st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf")]))


def within_time(test):
    """Answer the examples that come after `SECONDS` without running the test."""
    started = []

    @wraps(test)
    def bounded(*args, **arguments):
        started.append(time.monotonic())
        if started[-1] - started[0] < SECONDS:
            test(*args, **arguments)

    return bounded


def is_sentence(error, path):
    text = str(error)
    return str(path) in text and "\n" not in text and text.endswith(".") and len(text) < 1000


@USUAL
@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    dtype=st.sampled_from(["u1", "i1", "i2", "u2", "i4", "i8", "f4", "f8", "c8"]),
    unit=st.sampled_from(["unknown", "meter", "mm", "micron"]),
    slope=st.tuples(real, real),
    scale=st.floats(0.1, 5.0),
)
@within_time
def test_volumes_as_nibabel_writes_them(tmp_path, shape, dtype, unit, slope, scale):
    path = tmp_path / "a.nii"
    voxels = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    image = nib.Nifti1Image(voxels, np.diag([scale, scale, scale, 1]), dtype=np.dtype(dtype))
    image.header.set_xyzt_units(unit)
    raw = bytearray(image.to_bytes())
    raw[112:120] = struct.pack("<2f", *slope)
    path.write_bytes(raw)
    for read in (load_volume, load_mask, read_grid):
        try:
            volume = read(path)
        except SENTENCE as error:
            assert is_sentence(error, path)
            continue
        assert volume.shape == tuple(shape[:3])
        millimetres = {"meter": 1000.0, "micron": 0.001}.get(unit, 1.0)
        np.testing.assert_allclose(np.diag(volume.affine)[:3], scale * millimetres, rtol=1e-5)
        if read is load_volume:
            usual = np.isfinite(slope[0]) and slope[0] != 0
            expected = voxels.astype(float) * (slope[0] if usual else 1) + (slope[1] if usual else 0)
            np.testing.assert_allclose(volume.array, expected.reshape(volume.shape), rtol=1e-4, atol=1e-30)


@USUAL
@given(
    dims=st.lists(number, min_size=8, max_size=8),
    code=st.sampled_from([0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1536, 1792, 2048, 2304, 77]),
    pixdim=st.lists(real, min_size=8, max_size=8),
    offset=st.one_of(real, st.just(352.0)),
    forms=st.lists(real, min_size=18, max_size=18),
    codes=st.tuples(number, number),
    units=st.integers(0, 255),
    compressed=st.booleans(),
)
@within_time
def test_headers_of_random_numbers(tmp_path, dims, code, pixdim, offset, forms, codes, units, compressed):
    raw = bytearray(nib.Nifti1Image(np.zeros((3, 4, 5), np.int16), np.eye(4)).to_bytes())
    raw[40:56] = struct.pack("<8h", *dims)
    raw[70:72] = struct.pack("<h", code)
    raw[76:108] = struct.pack("<8f", *pixdim)
    raw[108:112] = struct.pack("<f", offset)
    raw[123] = units
    raw[252:256] = struct.pack("<2h", *codes)
    raw[256:328] = struct.pack("<18f", *forms)
    path = tmp_path / ("a.nii.gz" if compressed else "a.nii")
    path.write_bytes(gzip.compress(bytes(raw)) if compressed else raw)
    for read in (load_volume, load_mask, read_grid):
        try:
            assert len(read(path).shape) == 3
        except SENTENCE as error:
            assert is_sentence(error, path)


@USUAL
@given(content=st.binary(max_size=600), ending=st.sampled_from([".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".jpg"]))
@within_time
def test_files_of_random_bytes(tmp_path, content, ending):
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    with pytest.raises(SENTENCE) as caught:
        load_volume(path)
    assert is_sentence(caught.value, path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
path_text = st.sampled_from(["a.nii.gz", "./a.nii.gz", "b.nii.gz", "", "/", "..", "\0", "x" * 300]) | st.text(
    max_size=6
)
entry = (
    anything
    | path_text
    | st.fixed_dictionaries({"image": path_text | anything}, optional={"label": path_text | anything})
)


@USUAL
@given(
    training=anything | st.lists(entry, max_size=4),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    cut=st.integers(0, 30),
)
@within_time
def test_dataset_json(tmp_path, training, encoding, cut):
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).touch()
    content = json.dumps({"training": training}).encode(encoding, "surrogatepass")
    path = tmp_path / "dataset.json"
    path.write_bytes(content[: len(content) - cut] if cut > 20 else content)
    try:
        cases = list_cases(tmp_path)
    except SENTENCE as error:
        assert is_sentence(error, tmp_path)
        return
    assert len(cases) == len(training) and len({case["case"] for case in cases}) == len(cases)


fields = ["case", "slice", "classes", "a", "b", "0", "1", "2", "1.0", "x;y", '"', "", "liver"]
field = st.sampled_from(fields) | st.text(string.printable, max_size=5)


@USUAL
@given(
    rows=st.lists(st.lists(field, max_size=5), max_size=8),
    header=st.booleans(),
    separator=st.sampled_from([",", ";", "\t"]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]),
)
@within_time
def test_csv_files(tmp_path, rows, header, separator, end, encoding):
    image = tmp_path / "a.nii.gz"
    if not image.exists():
        write_nifti(np.zeros((3, 4, 2), np.int16), np.eye(4), image)
    path = tmp_path / "labels.csv"
    lines = ([["case", "slice", "classes"]] if header else []) + rows
    path.write_bytes(end.join(separator.join(row) for row in lines).encode(encoding, "replace"))
    output = tmp_path / "slice_labels.json"
    output.unlink(missing_ok=True)
    try:
        labels = slice_labels_from_csv(path, [{"case": "a", "image": str(image)}], ["liver"], output)
    except SENTENCE as error:
        assert is_sentence(error, path)
        assert not output.exists()
    else:
        assert labels.matrix("a").shape == (2, 1) and output.is_file()
    assert not list(tmp_path.glob("*.partial"))


def test_a_whole_csv_is_read(tmp_path):
    write_nifti(np.zeros((3, 4, 2), np.int16), np.eye(4), tmp_path / "a.nii.gz")
    (tmp_path / "l.csv").write_text("case,slice,classes\na,0,\na,1,liver\n,,\n,,\n")
    labels = slice_labels_from_csv(tmp_path / "l.csv", [{"case": "a", "image": str(tmp_path / "a.nii.gz")}], ["liver"])
    assert labels.matrix("a").tolist() == [[0], [1]]
