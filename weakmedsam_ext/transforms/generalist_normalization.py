"""Size and intensities of a patch as promptable networks for volumes expect them."""

from __future__ import annotations

from collections.abc import Callable

from monai.utils import convert_to_tensor, look_up_option
from torch import Tensor
from torch.nn import functional as F

__all__ = ["GENERALIST_NORMALIZATIONS", "generalist_input", "normalize_above_zero"]


def normalize_above_zero(volume: Tensor) -> Tensor:
    """Subtract the mean of each volume's voxels above zero from all of its voxels, and divide by their deviation.

    This is the published preprocessing of SAM-Med3D (Wang et al., ECCV Workshops 2024), in which zero is air. MONAI's
    `NormalizeIntensity(nonzero=True)` leaves the zeros where they are and takes negative values along.

    Args:
        volume: (B, C, *spatial); every channel is normalised by its own voxels.

    Returns:
        the same shape. Where no voxel is above zero, or where they are all alike, values are only shifted.
    """
    above = volume > 0
    axes = tuple(range(2, volume.ndim))
    count = above.sum(axes, keepdim=True).clamp(min=1)
    mean = volume.where(above, 0).sum(axes, keepdim=True) / count
    variance = (volume - mean).square().where(above, 0).sum(axes, keepdim=True) / (count - 1).clamp(min=1)
    deviation = variance.sqrt()
    return (volume - mean) / deviation.where(deviation > 0, 1)


def generalist_input(volume: Tensor, img_size: int, normalization: str) -> Tensor:
    """Resample volumes to the cube of a promptable network and normalise them.

    Other shapes than cubes are stretched, not padded. SAM-Med3D was trained with voxels of 1.5 mm: a patch should be
    cut so that its side is about img_size * 1.5 mm.

    Args:
        volume: (B, 1, D, H, W).
        img_size: side of the cube in voxels.
        normalization: "above_zero" for the published weights of SAM-Med3D, its turbo version and SegAnyPET, see
            `normalize_above_zero`: air must be 0 or less and the body above, so do not standardise the specialist's
            images before. "none" for networks that were trained on these intensities, such as those of the promptable
            pre-training bundles on 0..1, or VISTA3D on CT whose window is -964 to 1054 HU.

    Returns:
        (B, 1, img_size, img_size, img_size).

    Raises:
        ValueError: when the normalisation is unknown.
    """
    normalize = look_up_option(normalization, GENERALIST_NORMALIZATIONS)
    volume = convert_to_tensor(volume, track_meta=False).float()
    return normalize(F.interpolate(volume, (img_size,) * 3, mode="trilinear", align_corners=False))


def _as_it_is(volume: Tensor) -> Tensor:
    return volume


GENERALIST_NORMALIZATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "above_zero": normalize_above_zero,
    "none": _as_it_is,
}
