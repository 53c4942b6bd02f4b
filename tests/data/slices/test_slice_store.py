import pickle

import numpy as np
import pytest
from tiny_dataset import AFFINE

from weakmedsam_ext.data import build_slice_store, decathlon_cases, load_volume, write_nifti
from weakmedsam_ext.data.slices import store as slice_store


def build(cases, root, **settings):
    return build_slice_store(cases, root, progress=False, **{"img_size": 20, **settings})


def write_case(path, array):
    write_nifti(array.astype(np.float32), AFFINE, path)
    return {"case": path.name.split(".")[0], "image": str(path)}


def test_values_without_resizing(dataset, tmp_path):
    """20 x 14 slices on a 20 x 20 grid: turned to RAS, scaled, three black columns on either side, nothing else."""
    cases = decathlon_cases(dataset)
    store = build(cases, tmp_path / "store", percentiles=(5, 90), content_threshold=None)
    assert store.cases == ["la_007", "la_003", "la_009"] and "la_003" in store and "la_004" not in store
    for case in cases:
        array = load_volume(case["image"]).array[::-1, ::-1]
        lower, upper = np.percentile(array, (5, 90))
        expected = np.pad(np.clip((array - lower) / (upper - lower), 0, 1).transpose(2, 0, 1), ((0, 0), (0, 0), (3, 3)))
        slices = store[case["case"]]
        assert slices.dtype == np.float16 and isinstance(slices, np.memmap)
        np.testing.assert_allclose(slices, expected, atol=5e-4)


def test_black_margins_are_cropped(tmp_path):
    array = np.zeros((30, 40, 4))  # the first two axes run to the left and the back
    array[5:15, 10:30] = np.random.default_rng(0).uniform(50, 100, (10, 20, 4))
    case = write_case(tmp_path / "a.nii.gz", array)
    assert build([case], tmp_path / "store").geometry("a").box == ((15, 25), (10, 30))
    assert build([case], tmp_path / "store", content_threshold=None).geometry("a").box == ((0, 30), (0, 40))


def test_finished_volumes_are_not_decoded_again(dataset, tmp_path, monkeypatch):
    cases = decathlon_cases(dataset)
    store = build(cases, tmp_path / "store")
    monkeypatch.setattr(slice_store, "load_volume", None)
    again = build(cases, tmp_path / "store")
    assert again == store


def test_changed_files_and_settings_are_decoded_again(dataset, tmp_path):
    cases = decathlon_cases(dataset)
    store = build(cases, tmp_path / "store")
    write_nifti(load_volume(cases[0]["image"]).array[::-1], AFFINE, cases[0]["image"])
    changed = build(cases, tmp_path / "store")
    assert [changed.keys[case] == store.keys[case] for case in store.cases] == [False, True, True]
    np.testing.assert_array_equal(changed["la_007"], store["la_007"][:, ::-1])
    for settings in ({"img_size": 21}, {"percentiles": (0, 100)}, {"content_threshold": None}):
        assert not set(build(cases, tmp_path / "store", **settings).keys.values()) & set(changed.keys.values())


@pytest.mark.parametrize("damage", ["no geometry", "cut array"])
def test_an_unfinished_entry_is_built_again(dataset, tmp_path, damage):
    cases = decathlon_cases(dataset)
    store = build(cases, tmp_path / "store")
    expected = np.array(store["la_003"])
    array = store.root / f"{store.keys['la_003']}.npy"
    if damage == "no geometry":
        array.write_bytes(b"anything")
        array.with_suffix(".json").unlink()
    else:
        array.write_bytes(array.read_bytes()[:-10])
    np.testing.assert_array_equal(build(cases, tmp_path / "store")["la_003"], expected)


def test_it_survives_pickling(dataset, tmp_path):
    store = build(decathlon_cases(dataset), tmp_path / "store")
    copy = pickle.loads(pickle.dumps(store))
    assert copy == store
    np.testing.assert_array_equal(copy["la_009"], store["la_009"])


def test_bad_volumes(tmp_path):
    constant = write_case(tmp_path / "constant.nii.gz", np.full((5, 5, 5), 3.0))
    with pytest.raises(ValueError, match="constant.nii.gz: all voxels have the value 3; export the volume again"):
        build([constant], tmp_path / "store")
    nan = write_case(tmp_path / "nan.nii.gz", np.full((5, 5, 5), np.nan))
    with pytest.raises(ValueError, match="nan.nii.gz: 125 voxels are NaN"):
        build([nan], tmp_path / "store")
    with pytest.raises(FileNotFoundError, match="none.nii.gz does not exist"):
        build([{"case": "none", "image": str(tmp_path / "none.nii.gz")}], tmp_path / "store")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"percentiles": (99, 1)}, r"percentiles: expected 0 <= lower < upper <= 100, but got \(99.0, 1.0\)"),
        ({"img_size": 0}, "img_size: expected a positive number of pixels, but got 0"),
        ({"content_threshold": 1.0}, "content_threshold: expected 0 <= threshold < 1 or None"),
    ],
)
def test_bad_settings(dataset, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        build(decathlon_cases(dataset), tmp_path / "store", **settings)


def test_bad_cases(dataset, tmp_path):
    cases = decathlon_cases(dataset)
    with pytest.raises(ValueError, match="expected at least one, each once, but got 0 items"):
        build([], tmp_path / "store")
    with pytest.raises(ValueError, match="got 4 items of 3 cases"):
        build([*cases, cases[0]], tmp_path / "store")
    with pytest.raises(KeyError, match="case 'x' is not in the slice store"):
        build(cases, tmp_path / "store")["x"]
