from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from skimage.graph import rag_mean_color
from skimage.measure import label
from skimage.segmentation import felzenszwalb, slic

from weakmedsam_ext.data import region_hierarchy
from weakmedsam_ext.data.regions.image_regions import REGION_METHODS
from weakmedsam_ext.data.regions.region_merging import _mean_intensity_graph, adjacent_regions, superpixel_hierarchy


@pytest.fixture
def squares():
    """A dark and a bright half with a small square in one of them, and noise below any threshold."""
    image = np.zeros((96, 96), np.float32)
    image[:, 48:] = 0.9
    image[20:50, 10:40] = 0.45
    return np.clip(image + np.random.default_rng(0).normal(0, 0.005, image.shape).astype(np.float32), 0, 1)


@pytest.fixture
def texture():
    noise = gaussian_filter(np.random.default_rng(1).random((64, 64)), 3)
    return ((noise - noise.min()) / (noise.max() - noise.min())).astype(np.float32)


def found(level, part):
    """IoU of a part with the region that it shares most pixels with."""
    region = level == np.bincount(level[part]).argmax()
    return (region & part).sum() / (region | part).sum()


# the smoothing before graph-based segmentation leaves a band along strong edges
@pytest.mark.parametrize(("method", "least"), [("felzenszwalb", 0.75), ("slic", 0.99), ("intensity", 0.95)])
def test_known_pieces_are_found(squares, method, least):
    regions = region_hierarchy(squares, method=method)
    assert regions.shape == (9 if method == "felzenszwalb" else 3, 96, 96) and regions.dtype == np.uint16
    square, bright = np.zeros((2, 96, 96), bool)
    square[20:50, 10:40], bright[:, 48:] = True, True
    for part in (square, bright):
        assert max(found(level, part) for level in regions) > least


def test_the_slic_pieces_are_exact_at_the_middle_level(squares):
    level = region_hierarchy(squares, (0.05, 0.2, 0.5), method="slic")[1]
    assert len(np.unique(level)) == 3
    # 0 and 0.45 merge at the last level, their mean and 0.9 do not
    assert len(np.unique(region_hierarchy(squares, (0.05, 0.2, 0.5), method="slic")[2])) == 2


@pytest.mark.parametrize("method", REGION_METHODS)
def test_numbers_are_dense_and_repeatable(texture, method):
    regions = region_hierarchy(texture, method=method)
    assert len(regions) == {"felzenszwalb": 9, "slic": 3, "intensity": 3, "mixed": 15}[method]
    for level in regions:
        assert np.array_equal(np.unique(level), np.arange(level.max() + 1))
    assert np.array_equal(regions, region_hierarchy(texture.copy(), method=method))


@pytest.mark.parametrize(("method", "connectivity"), [("felzenszwalb", 2), ("slic", 1), ("intensity", 1)])
def test_every_region_is_one_piece(texture, method, connectivity):
    for level in region_hierarchy(texture, method=method):
        assert label(level, background=-1, connectivity=connectivity).max() == level.max() + 1


@pytest.mark.parametrize("method", REGION_METHODS[:3])
def test_coarser_levels_have_fewer_regions(texture, method):
    counts = [level.max() + 1 for level in region_hierarchy(texture, method=method)]
    for smoothing in range(0, len(counts), 3):  # levels of one smoothing come after each other
        one = counts[smoothing : smoothing + 3]
        assert one == sorted(one, reverse=True) and one[0] > one[2]


def test_every_smoothing_is_segmented_on_its_own(texture):
    both = region_hierarchy(texture, (30, 100), smoothings=(0.5, 2.0))
    apart = [region_hierarchy(texture, (30, 100), smoothings=(one,)) for one in (0.5, 2.0)]
    assert np.array_equal(both, np.concatenate(apart)) and not np.array_equal(*apart)
    expected = felzenszwalb(texture, 100, sigma=2.0, min_size=round(0.002 * texture.size * 100 / 30))
    assert np.array_equal(both[3], expected)


@pytest.mark.parametrize("shape", [(64, 64), (20, 24, 28)])
def test_superpixel_levels_are_nested(shape):
    image = gaussian_filter(np.random.default_rng(0).random(shape), 2).astype(np.float32) * 4 - 1.5
    levels = superpixel_hierarchy(image, (0.05, 0.1, 0.2), 40)
    assert levels.shape == (3, *shape)
    for fine, coarse in zip(levels, levels[1:], strict=False):
        pairs = np.unique(np.stack([fine.ravel(), coarse.ravel()]), axis=1)
        assert len(pairs[0]) == len(np.unique(fine)) > len(np.unique(coarse))


def test_no_neighbours_of_a_level_are_closer_than_its_threshold(texture):
    limits = (0.05, 0.1, 0.2)
    for limit, level in zip(limits, superpixel_hierarchy(texture, limits, 40), strict=True):
        means = np.bincount(level.ravel(), texture.ravel()) / np.bincount(level.ravel())
        pairs = adjacent_regions(level)
        assert np.abs(means[pairs[:, 0]] - means[pairs[:, 1]]).min() >= limit


def test_adjacency_by_hand():
    regions = np.array([[0, 0, 1], [2, 2, 1], [3, 0, 0]])
    assert adjacent_regions(regions).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [2, 3]]


def test_the_graph_is_that_of_skimage(texture):
    superpixels = slic(texture, 60, 0.2, start_label=0, channel_axis=None)
    slow = rag_mean_color(np.repeat(texture[..., None], 3, axis=2), superpixels, connectivity=1)
    fast = _mean_intensity_graph(texture, superpixels)
    edges = {tuple(sorted((a, b))): d["weight"] / np.sqrt(3) for a, b, d in slow.edges(data=True)}
    assert {tuple(sorted(pair)) for pair in fast.edges} == set(edges)
    for a, b, d in fast.edges(data=True):
        assert d["weight"] == pytest.approx(edges[tuple(sorted((a, b)))], abs=1e-5)


@pytest.mark.parametrize("method", REGION_METHODS)
def test_a_blank_slice_is_one_region(method):
    for level in region_hierarchy(np.zeros((32, 32)), method=method):
        assert level.max() == 0


def test_specks_go_to_what_surrounds_them(squares):
    squares[30, 10] = 0.9
    for level in region_hierarchy(squares, (3,), min_size=0.01, method="intensity"):
        assert np.bincount(level.ravel()).min() >= 0.01 * squares.size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "watershed"}, "watershed"),
        ({"scales": ()}, r"scales: expected positive numbers, but got \(\)"),
        ({"scales": (-1.0, 3)}, r"scales: expected positive numbers, but got \(-1.0, 3\)"),
        ({"smoothings": (0.5, 0)}, r"smoothings: expected positive numbers, but got \(0.5, 0\)"),
        ({"smoothings": (1,), "method": "slic"}, r"smoothings: expected None for the method 'slic', but got \(1,\)"),
        ({"scales": (3.5,), "method": "intensity"}, r"scales: expected numbers of classes, at least 2, .*\(3.5,\)"),
        ({"scales": (30,), "method": "mixed"}, r"scales: expected None for the method 'mixed', but got \(30,\)"),
        ({"scales": (0.2, 0.1), "method": "slic"}, r"thresholds: expected ascending numbers, but got \(0.2, 0.1\)"),
        ({"min_size": 0}, "min_size: expected a part of the image between 0 and 1, but got 0"),
    ],
)
def test_wrong_settings_are_refused(squares, arguments, message):
    with pytest.raises(ValueError, match=message):
        region_hierarchy(squares, **arguments)
