"""Regions of an image from fine to coarse, found without any label: what a click may ask for in pre-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from monai.utils import look_up_option
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_multiotsu
from skimage.measure import label
from skimage.segmentation import felzenszwalb, watershed

from .region_merging import superpixel_hierarchy

__all__ = ["REGION_METHODS", "check_region_settings", "region_hierarchy"]

# method -> its scales, fine to coarse; chosen by how well they hold the organs of cardiac MRI and abdominal CT
DEFAULT_SCALES: dict[str, tuple[float, ...]] = {
    "felzenszwalb": (30, 75, 150),
    "slic": (0.05, 0.1, 0.15),
    "intensity": (5, 4, 3),
}
MIXED = "mixed"
REGION_METHODS = (*DEFAULT_SCALES, MIXED)
HISTOGRAM_BINS = 64  # the time of multi-Otsu grows with the fourth power for five classes


def region_hierarchy(
    image: np.ndarray,
    scales: Sequence[float] | None = None,
    min_size: float = 0.002,
    method: str = "felzenszwalb",
) -> np.ndarray:
    """Regions of a slice, fine to coarse; all pixels of a number hang together (diagonally for "felzenszwalb").

    Methods:
        "felzenszwalb": graph-based segmentation (Felzenszwalb and Huttenlocher, IJCV 2004), once for each scale. Larger
            scales give larger regions.
        "slic": superpixels (Achanta et al., TPAMI 2012) that are merged step by step, see `superpixel_hierarchy`; every
            region is a union of regions of the finer levels. A scale is the difference of mean intensity up to which
            neighbours are merged.
        "intensity": connected pieces of classes of intensity (multi-Otsu, Liao et al., 2001) of the smoothed slice. A
            scale is the number of classes.
        "mixed": the levels of all of them, in this order.

    Args:
        image: (H, W) in 0..1.
        scales: one for each level, see the methods; those of `DEFAULT_SCALES` without.
        min_size: smallest region at the finest scale as a part of the image. It grows with the scale for
            "felzenszwalb"; for "slic" it is the size that superpixels aim at, which some of them miss.
        method: one of `REGION_METHODS`.

    Returns:
        region numbers, uint16 (levels, H, W), from 0 without gaps.

    Raises:
        ValueError: when a setting is wrong, see `check_region_settings`.
    """
    scales = check_region_settings(scales, min_size, method)
    image = np.asarray(image, dtype=np.float32)
    parts = DEFAULT_SCALES.items() if method == MIXED else [(method, scales)]
    levels = np.concatenate([FUNCTIONS[name](image, sizes, min_size) for name, sizes in parts])
    return np.stack([np.unique(level, return_inverse=True)[1].reshape(level.shape) for level in levels]).astype("u2")


def check_region_settings(scales: Sequence[float] | None, min_size: float, method: str) -> tuple[float, ...]:
    """Check the settings of `region_hierarchy` before any slice is read.

    Returns:
        the scales; none for "mixed".

    Raises:
        ValueError: when the method is unknown, a scale is missing or too small, "mixed" is given scales, or `min_size`
            is no part of the image.
    """
    look_up_option(method, REGION_METHODS)
    if not 0 < min_size < 1:
        raise ValueError(f"min_size: expected a part of the image between 0 and 1, but got {min_size}.")
    if method == MIXED:
        if scales is not None:
            raise ValueError(f"scales: expected None for the method {MIXED!r}, but got {scales}; choose one method.")
        return ()
    chosen = tuple(float(scale) for scale in (DEFAULT_SCALES[method] if scales is None else scales))
    if not chosen or min(chosen) <= 0:
        raise ValueError(f"scales: expected positive numbers, but got {chosen}.")
    if method == "intensity" and not all(scale >= 2 and scale.is_integer() for scale in chosen):
        raise ValueError(f"scales: expected numbers of classes, at least 2, for {method!r}, but got {chosen}.")
    return chosen


def _graph_based(image: np.ndarray, scales: Sequence[float], min_size: float) -> np.ndarray:
    pixels = [max(1, round(min_size * image.size * scale / scales[0])) for scale in scales]
    maps = [felzenszwalb(image, scale, sigma=0.8, min_size=size) for scale, size in zip(scales, pixels, strict=True)]
    return np.stack(maps)


def _superpixels(image: np.ndarray, scales: Sequence[float], min_size: float) -> np.ndarray:
    return superpixel_hierarchy(image, scales, min_size * image.size)


def _intensity_components(image: np.ndarray, scales: Sequence[float], min_size: float) -> np.ndarray:
    smooth = gaussian_filter(image, 1.0)
    counts, edges = np.histogram(smooth, HISTOGRAM_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    maps = []
    for classes in scales:
        # a blank slice has fewer intensities than classes
        number = min(int(classes), int(np.count_nonzero(counts)))
        thresholds = threshold_multiotsu(classes=number, hist=(counts, centres)) if number > 1 else []
        maps.append(_without_specks(np.digitize(smooth, thresholds), min_size))
    return np.stack(maps)


def _without_specks(classes: np.ndarray, min_size: float) -> np.ndarray:
    """Connected pieces of a class map (H, W); those below the size go to the pieces around them."""
    pieces = label(classes, background=-1, connectivity=1)
    sizes = np.bincount(pieces.ravel())
    kept = sizes >= min(min_size * classes.size, int(sizes.max()))
    # flooding from the kept pieces leaves every one of them in one piece
    return watershed(np.zeros(classes.shape), np.where(kept[pieces], pieces, 0))


FUNCTIONS: dict[str, Callable[[np.ndarray, Sequence[float], float], np.ndarray]] = {
    "felzenszwalb": _graph_based,
    "slic": _superpixels,
    "intensity": _intensity_components,
}
