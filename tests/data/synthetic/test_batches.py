from __future__ import annotations

import itertools

import pytest
import torch

from weakmedsam_ext.data.synthetic import SyntheticBatches, region_scales, synthetic_batch
from weakmedsam_ext.data.synthetic.abstract import jittered_spheres, warped_noise
from weakmedsam_ext.data.synthetic.anatomy import anatomy
from weakmedsam_ext.data.synthetic.appearance import render, scale_to_percentiles

SIZES = [(48, 40), (20, 24, 16)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", SIZES)
def test_a_seed_decides_about_everything(size):
    one, other, different = (synthetic_batch(5, size, generator(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))
    assert not torch.equal(one[0], different[0])


@pytest.mark.parametrize("size", SIZES)
def test_images_and_regions_are_what_training_takes(size):
    image, regions = synthetic_batch(6, size, generator())
    assert image.shape == (6, 1, *size) and image.dtype == torch.float32
    assert image.min() >= 0 and image.max() <= 1 and image.flatten(1).std(1).min() > 0.01
    assert regions.shape == (6, 3, *size) and regions.dtype == torch.int32
    assert (regions.flatten(2).amax(2) >= 0).all()


@pytest.mark.parametrize("scene_of", [anatomy, jittered_spheres, warped_noise])
@pytest.mark.parametrize("size", SIZES)
def test_larger_scales_merge_regions_of_smaller_ones(scene_of, size):
    scene = scene_of(3, size, generator())
    assert scene.fine.min() >= 0 and scene.fine.max() < scene.mean.shape[1]
    regions = region_scales(scene, 1)
    assert not ((scene.fine == 0) & (regions >= 0).any(1)).any()  # air is never clicked
    counts = [len(torch.unique(one)) for item in regions for one in item]
    assert all(fine >= coarse for fine, coarse in zip(counts[::3], counts[2::3], strict=True))


@pytest.mark.parametrize("size", SIZES)
def test_regions_are_large_enough_and_connected(size):
    scenes = anatomy(3, size, generator())
    regions = region_scales(scenes, 9)
    for one in regions.flatten(0, 1):
        numbers, counts = one[one >= 0].unique(return_counts=True)
        assert len(numbers) == 0 or counts.min() >= 9


def test_padding_is_black_and_never_clicked(monkeypatch):
    monkeypatch.setattr("weakmedsam_ext.data.synthetic.batches.PADDED", 1.0)
    image, regions = synthetic_batch(8, (40, 40), generator())
    dark = (image == 0)[:, 0]
    ends = dark[:, 0].all(1) | dark[:, :, 0].all(1)
    assert ends.sum() >= 6  # some are padded by nothing
    assert (regions[ends][:, :, 0, 0] == -1).all()


def test_labels_show_in_the_image():
    scene = warped_noise(8, (64, 64), generator())
    image = render(scene, generator(1))[:, 0]
    within = total = 0.0
    for item, labels in zip(image, scene.fine, strict=True):
        total += float(item.var())
        for label in labels.unique():
            inside = item[labels == label]
            within += float(inside.var(correction=0)) * len(inside) / item.numel()
    assert within < 0.7 * total


def test_percentiles_become_zero_and_one():
    image = torch.linspace(-5, 20, 1001).view(1, 1, 7, 143)
    scaled = scale_to_percentiles(image)
    torch.testing.assert_close(scaled.flatten()[[0, 5, 500, 995, 1000]], torch.tensor([0, 0, 0.5, 1, 1]))


def test_batches_of_an_epoch_are_its_own_and_sizes_take_turns():
    batches = SyntheticBatches(2, [(16, 16), (32, 16)], 3, seed=1)
    first = list(batches)
    assert [tuple(one["image"].shape) for one in first] == [(2, 1, 16, 16), (1, 1, 32, 16), (2, 1, 16, 16)]
    assert all(torch.equal(x["label"], y["label"]) for x, y in zip(first, batches, strict=True))
    batches.set_epoch(1)
    images = [one["image"] for one in [*first, *batches] if one["image"].shape[2:] == (16, 16)]
    assert all(not torch.equal(x, y) for x, y in itertools.combinations(images, 2))


def test_batches_can_be_made_in_groups():
    shapes = [tuple(one["image"].shape) for one in SyntheticBatches(3, [(16, 16), (8, 16)], 5, group=2)]
    assert shapes == [(3, 1, 16, 16)] * 2 + [(6, 1, 8, 16)] * 2 + [(3, 1, 16, 16)]


@pytest.mark.parametrize(
    "size, batch_size, message",
    [((64,), 1, "size: expected two or three axes"), ((64, 4), 1, "at least 8"), ((16, 16), 0, "batch_size: expected")],
)
def test_wrong_sizes_are_refused(size, batch_size, message):
    with pytest.raises(ValueError, match=message):
        synthetic_batch(batch_size, size, generator())
