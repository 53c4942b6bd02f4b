from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.segmentation import random_walker

from weakmedsam_ext.transforms import SeededRandomWalk, SeededRandomWalkd

SHAPE = (24, 24, 6)
OBJECT = np.s_[6:16, 5:17, 1:5]


def scene(classes=1):
    """A bright object, and a soft map that is high in its middle only."""
    generator = np.random.default_rng(0)
    image = (0.3 + 0.02 * generator.random((1, *SHAPE))).astype(np.float32)
    image[0][OBJECT] += 0.5
    rows, columns = np.mgrid[:24, :24]
    logit = 3 - 0.12 * ((rows - 10) ** 2 + (columns - 10) ** 2)
    maps = np.zeros((classes, *SHAPE), np.float32)
    maps[0, :, :, 1:5] = (1 / (1 + np.exp(-logit)))[..., None]
    return torch.from_numpy(maps), torch.from_numpy(image)


def test_it_finds_the_object_from_its_middle():
    maps, image = scene()
    grown = SeededRandomWalk()(maps, image)
    inside = torch.zeros(SHAPE, dtype=torch.bool)
    inside[OBJECT] = True
    assert torch.equal(grown[0] > 0.5, inside)
    before = maps[0] > 0.5
    assert before.sum() < 0.7 * inside.sum()


def test_what_the_solver_leaves_far_from_every_seed_is_dropped(monkeypatch):
    maps, image = scene()
    clean = SeededRandomWalk()(maps, image)

    def with_a_speck(*args, **kwargs):
        probabilities = random_walker(*args, **kwargs)
        probabilities[:, 20:22, 20:22, 2:4] = np.array([0.1, 0.9])[:, None, None, None]
        return probabilities

    monkeypatch.setattr("weakmedsam_ext.transforms.seeded_random_walk.random_walker", with_a_speck)
    torch.testing.assert_close(SeededRandomWalk()(maps, image) > 0.5, clean > 0.5)


def test_it_is_the_walker_of_scikit_image():
    maps, image = scene()
    spacing = (1.5, 1.0, 4.0)
    grown = SeededRandomWalk(0.5, -6.0, 200.0)(maps, image, spacing)
    logit = torch.logit(maps[0]).numpy()
    seeds = np.where(logit < -6, 2, 0)
    seeds[logit >= logit[:, :, 1:5].max() - 0.5] = 1
    expected = random_walker(
        image[0].numpy(), seeds, 200.0, "cg_j", 1e-3, return_full_prob=True, spacing=spacing, prob_tol=1
    )
    np.testing.assert_allclose(grown[0], expected[0] * (maps[0] > 0).numpy(), atol=2e-2)


def test_several_classes_share_the_volume():
    maps, image = scene(3)
    maps[2] = maps[0].flip(0)  # the second class is on no slice
    image[0, 8:18, 5:17, 1:5] = 0.9  # where both touch
    grown = SeededRandomWalk()(maps, image)
    assert grown[1].max() == 0
    assert (grown.sum(0) <= 1.02).all()
    assert grown[0, 8, 10, 2] > 0.5 > grown[0, 15, 10, 2] and grown[2, 15, 10, 2] > 0.5 > grown[2, 8, 10, 2]


def test_a_class_without_a_place_for_seeds_leaves_a_trace():
    maps, image = scene()
    image[..., 2] = 0  # dark
    grown = SeededRandomWalk()(maps, image)
    assert 0 < grown[0, :, :, 2].max() < 0.01 and grown[0, :, :, 2].argmax() == maps[0, :, :, 2].argmax()
    assert grown[0, :, :, 3].max() > 0.99


def test_slices_that_are_known_to_be_empty_and_air_stay_background():
    maps, image = scene()
    image[0, :8] = 0
    grown = SeededRandomWalk()(maps, image)
    assert grown[..., 0].max() == grown[..., 5].max() == 0
    assert grown[0, :8].max() == 0 and grown[0, 9, 10, 2] > 0.5


def test_an_empty_case_and_a_case_of_seeds_alone():
    maps, image = scene()
    assert SeededRandomWalk()(torch.zeros_like(maps), image).max() == 0
    everywhere = torch.full_like(maps, 0.9)
    assert SeededRandomWalk()(everywhere, image).min() == 1


def test_dictionary_version_takes_the_voxel_size_from_the_affine():
    maps, image = scene()
    affine = torch.diag(torch.tensor([1.5, 1.0, 4.0, 1.0], dtype=torch.float64))
    item = SeededRandomWalkd("pred", beta=200.0)({"pred": MetaTensor(maps, affine=affine), "image": image})
    torch.testing.assert_close(
        torch.as_tensor(item["pred"].as_tensor()), SeededRandomWalk(beta=200.0)(maps, image, (1.5, 1.0, 4.0))
    )
    assert isinstance(SeededRandomWalk()(maps.numpy(), image.numpy()), np.ndarray)


def test_errors():
    maps, image = scene()
    with pytest.raises(ValueError, match="seed_margin: expected a positive number, but got 0"):
        SeededRandomWalk(seed_margin=0)
    with pytest.raises(ValueError, match="maps: expected .* on the grid of the image"):
        SeededRandomWalk()(maps, image[..., :3])
    image[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        SeededRandomWalk()(maps, image)
