import json

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from weakmedsam_ext.data import SUBTYPES, decathlon_cases, heart_phantom, load_mask, load_volume, write_phantoms

SMALL = (40, 36, 14)


@pytest.fixture(scope="module")
def phantoms():
    return [heart_phantom(np.random.default_rng(seed)) for seed in range(12)]


def slices(mask):
    return set(np.flatnonzero(mask.any((0, 1))).tolist())


def test_the_target_is_on_some_slices_only(phantoms):
    for phantom in phantoms:
        depth = phantom.image.shape[2]
        assert 0.3 * depth <= len(slices(phantom.target)) <= 0.8 * depth


def test_the_look_alike_is_nearly_as_good_a_sign_as_the_target(phantoms):
    differing = [len(slices(phantom.target) ^ slices(phantom.look_alike)) for phantom in phantoms]
    assert max(differing) <= 2 and 0 < np.mean(differing)


def test_the_look_alike_is_small_bright_and_apart(phantoms):
    for phantom in phantoms:
        target, look_alike = phantom.target > 0, phantom.look_alike > 0
        assert phantom.image[look_alike].mean() > 1.1 * phantom.image[target].mean()
        assert 0 < look_alike.sum() < 0.5 * target.sum()
        assert distance_transform_edt(~target)[look_alike].min() >= 3


def test_every_subtype_looks_different():
    means = {}
    for subtype in SUBTYPES:
        phantom = heart_phantom(np.random.default_rng(5), SMALL, subtype)
        assert phantom.subtype == subtype
        values = phantom.image[phantom.target > 0]
        means[subtype] = (values.mean(), values.std())
    assert means["dark"][0] < 0.5 * means["round"][0]
    assert means["mottled"][1] > 1.5 * means["round"][1]
    assert means["walled"][1] > 1.2 * means["round"][1]


def test_targets_differ_in_place_and_size(phantoms):
    volumes = [phantom.target.sum() for phantom in phantoms]
    centres = np.array([np.argwhere(phantom.target).mean(0) for phantom in phantoms])
    assert max(volumes) > 1.3 * min(volumes)
    assert (centres.std(0) > 0.5).all()


def test_decathlon_layout(tmp_path):
    write_phantoms(tmp_path, num_cases=5, seed=3, size=SMALL, progress=False)
    cases = decathlon_cases(tmp_path)
    assert [case["case"] for case in cases] == [f"heart_{number:03d}" for number in range(1, 6)]
    recorded = json.loads((tmp_path / "cases.json").read_text())
    # few cases are enough to show every sub-type
    assert {recorded[case["case"]]["subtype"] for case in cases[:4]} == set(SUBTYPES)
    for case in cases:
        image, mask = load_volume(case["image"]), load_mask(case["label"])
        assert image.shape == mask.shape == SMALL
        assert set(np.unique(mask.array)) == {0, 1}
        np.testing.assert_array_equal(image.affine, mask.affine)
        np.testing.assert_allclose(nib.affines.voxel_sizes(image.affine), (1.25, 1.25, 2.7), atol=1e-5)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert np.count_nonzero(np.abs(image.affine[:3, :3]) > 1e-4) == 9  # oblique


def test_a_case_depends_on_seed_and_number_alone(tmp_path):
    for name, seed, count in (("a", 3, 1), ("b", 3, 2), ("c", 4, 1)):
        write_phantoms(tmp_path / name, num_cases=count, seed=seed, size=SMALL, progress=False)
    first, same, other = ((tmp_path / name / "imagesTr/heart_001.nii.gz").read_bytes() for name in "abc")
    assert first == same != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "decatlon"}, "decathlon"),
        ({"num_cases": 0}, "num_cases: expected a whole number, at least 1, but got 0"),
        ({"num_cases": "many"}, "num_cases: expected a whole number, at least 1, but got 'many'"),
        ({"seed": -1}, "seed: expected a whole number, at least 0, but got -1"),
        ({"size": (40, 36)}, r"size: expected three whole numbers, at least \(32, 32, 8\), but got \(40, 36\)"),
        ({"size": (40, 36, 4)}, "size: expected three whole numbers"),
        ({"size": 64}, "size: expected three whole numbers, .*but got 64"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_unknown_subtype():
    with pytest.raises(ValueError, match="mottled"):
        heart_phantom(np.random.default_rng(0), SMALL, "motled")


def test_real_data_is_not_overwritten(dataset):
    with pytest.raises(ValueError, match="already holds the data set 'LeftAtrium'"):
        write_phantoms(dataset)
