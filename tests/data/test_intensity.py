import numpy as np
import pytest
import torch

from weakmedsam_ext.data import IntensityScaling, build_slice_store, write_nifti
from weakmedsam_ext.transforms import ScaleVolumeIntensityd

RAMP = np.arange(1001, dtype=np.float32).reshape(7, 11, 13)


def test_window_is_linear_and_clipped():
    scaled = IntensityScaling(window=(-160.0, 240.0))(np.array([-1000.0, -160.0, 40.0, 240.0, 3000.0]))
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1])


def test_percentiles():
    scaled = IntensityScaling((10.0, 90.0))(RAMP)
    np.testing.assert_allclose(scaled.flat[[0, 100, 500, 900, 1000]], [0, 0, 0.5, 1, 1], atol=1e-6)


def test_foreground_makes_the_air_around_a_head_irrelevant():
    scaling = IntensityScaling(foreground=True)
    head = np.linspace(500, 1000, 4000)
    little, much = (scaling(np.concatenate([head, np.zeros(count)]))[:4000] for count in (4000, 40000))
    np.testing.assert_allclose(little, much, atol=0.02)
    plain = [IntensityScaling()(np.concatenate([head, np.zeros(count)]))[:4000] for count in (4000, 400000)]
    assert np.abs(plain[0] - plain[1]).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"percentiles": (50.0, 50.0)}, "percentiles: expected 0 <= lower < upper"),
        ({"window": (5.0, 5.0)}, "window: expected two intensities, the lower one first"),
        ({"window": (0.0, 1.0), "foreground": True}, "foreground: expected False with a window"),
    ],
)
def test_bad_ranges(arguments, message):
    with pytest.raises(ValueError, match=message):
        IntensityScaling(**arguments)


def test_transform_and_slice_store_scale_alike(tmp_path):
    image = np.random.default_rng(0).normal(0, 300, (16, 16, 3)).astype(np.float32)
    write_nifti(image, np.eye(4), tmp_path / "a.nii.gz")
    case = {"case": "a", "image": str(tmp_path / "a.nii.gz")}
    store = build_slice_store([case], tmp_path / "s", 16, content_threshold=None, progress=False, window=(-160, 240))
    item = ScaleVolumeIntensityd("image", window=(-160, 240))({"image": torch.from_numpy(image)[None]})
    np.testing.assert_allclose(store["a"][1].astype(np.float32), item["image"][0, ..., 1], atol=1e-3)


def test_channels_of_a_case_are_stored_together(tmp_path):
    for name, factor in (("flair", 1), ("t1", -1)):
        write_nifti(factor * RAMP, np.eye(4), tmp_path / f"{name}.nii.gz")
    case = {"case": "a", "image": [str(tmp_path / f"{name}.nii.gz") for name in ("flair", "t1")]}
    store = build_slice_store([case], tmp_path / "s", 16, progress=False)
    assert store["a"].shape == (13, 2, 16, 16)
    image = store.image("a", 5)
    assert image.shape == (2, 16, 16)
    valid = store.geometry("a").valid
    assert torch.corrcoef(torch.stack([image[0][valid], image[1][valid]]))[0, 1] < -0.99
