"""From class-activation maps and known image-level labels to pseudo-masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from monai.networks.layers import separable_filtering
from monai.utils import look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

from .affinity_random_walk import AffinityRandomWalk, min_max_scale, plain_tensor
from .prompt_affinity import PromptAffinity
from .weakmedsam_net import encode_features

__all__ = ["CAMPseudoLabeler", "PseudoLabelSteps"]

WEIGHT_EPS = 1e-6
SIZE_STEP = 32  # pixels
LAST_CHOICE = 1e-6  # times the value of a pixel that a class takes only where its map is zero elsewhere


class PseudoLabelSteps(NamedTuple):
    """What happens on the way to a pseudo-label.

    Attributes:
        cam: scaled class-activation maps on the walk's grid, (B, K, h, w) in 0..1.
        guide: guide maps, (B, G, h, w); None without affinity.
        refined: maps after the random walk, (B, K, h, w) in 0..1.
        soft: maps at the image's size, blurred, scaled and gated by the known labels, (B, K, H, W) in 0..1; the maximum
            of a class that is present is 1, the padding is 0.
        mask: 0 background, k + 1 for class k, uint8 (B, 1, H, W).
    """

    cam: Tensor
    guide: Tensor | None
    refined: Tensor
    soft: Tensor
    mask: Tensor


class CAMPseudoLabeler(nn.Module):
    """Pseudo-masks of slices whose classes are known (stage 3 of WeakMedSAM, Wang et al., IEEE TMI 2025).

    CAM -> random walk guided by prompt affinity -> image size -> blur -> classes that the label excludes to zero ->
    threshold. Where classes overlap, the larger value wins. A class that the label names never vanishes: each map is
    scaled to a maximum of 1 after the blur, and a class that others cover entirely keeps its peak. Padding around a
    slice takes no part in scaling, prompts, walk and blur, and belongs to no class.

    Args:
        cam_network: network with `backbone` and `class_head`, such as `WeakMedSAMNet`.
        affinity: guide maps for the walk; None leaves the CAMs as they are. When its backbone is that of `cam_network`,
            the image is encoded only once.
        walk: the random walk; `AffinityRandomWalk()` unless given.
        walk_size: side of the grid of the walk in cells, without `affinity`; else the affinity's.
        blur_kernel_size: odd number of pixels; 1 for no blur.
        threshold: above which a pixel belongs to a class, relative to the class's maximum in the image; with scaling
            "logit" a probability.
        scaling: of the maps. "minmax", as published, makes 0 and 1 of every map's extremes, so that its values mean
            nothing across images; "logit" takes the sigmoid, so that 0.5 is where the classifier itself decides. It
            wants a class head with bias.
        flip: average the maps of the image and of its mirror image.
        scales: average the maps of the image at these sizes, relative to its own; others than 1 want a classifier that
            takes any size.
        output: "soft" or "mask", what a call returns.

    Raises:
        ValueError: when a setting is out of range or unknown.
    """

    def __init__(
        self,
        cam_network: nn.Module,
        affinity: PromptAffinity | None = None,
        walk: AffinityRandomWalk | None = None,
        walk_size: int = 64,
        blur_kernel_size: int = 21,
        threshold: float = 0.5,
        output: str = "soft",
        scaling: str = "minmax",
        flip: bool = False,
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        if blur_kernel_size < 1 or blur_kernel_size % 2 == 0:
            raise ValueError(f"blur_kernel_size: expected an odd number of pixels, but got {blur_kernel_size}.")
        if not 0 < threshold < 1:
            raise ValueError(f"threshold: expected a value between 0 and 1, but got {threshold}.")
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales: expected at least one positive number, but got {scales}.")
        self.cam_network = cam_network
        self.affinity = affinity
        self.walk = walk or AffinityRandomWalk()
        self.walk_size = affinity.size if affinity else walk_size
        self.threshold = threshold
        self.output: str = look_up_option(output, ("soft", "mask"))
        self.scaling: str = look_up_option(scaling, ("minmax", "logit"))
        self.flip = flip
        self.scales = tuple(scales)
        # OpenCV's sigma for a kernel size, which the released code relies on
        sigma = 0.3 * ((blur_kernel_size - 1) / 2 - 1) + 0.8
        offsets = torch.arange(blur_kernel_size) - blur_kernel_size // 2
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        self.kernel: Tensor
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, image: Tensor, class_label: Tensor, valid: Tensor | None = None) -> Tensor:
        """Pseudo-label slices.

        Args:
            image: (B, C, H, W), intensities in 0..1.
            class_label: (B, K), 1 where the class is known to be visible, else 0.
            valid: bool (B, 1, H, W), False where the image is padding; all of it is image without.

        Returns:
            soft maps (B, K, H, W) or masks (B, 1, H, W), see `output` and `PseudoLabelSteps`.

        Raises:
            ValueError: when shapes or values do not fit.
        """
        return getattr(self.steps(image, class_label, valid), self.output)

    def steps(self, image: Tensor, class_label: Tensor, valid: Tensor | None = None) -> PseudoLabelSteps:
        """Pseudo-label slices and return every step; arguments as for a call."""
        image, class_label = plain_tensor(image), plain_tensor(class_label)
        valid = _checked_valid(valid, image)
        cam, embedding = self._cam(image, valid)
        if tuple(class_label.shape) != tuple(cam.shape[:2]):
            raise ValueError(f"class_label: expected shape {tuple(cam.shape[:2])}, but got {tuple(class_label.shape)}.")
        if not ((class_label == 0) | (class_label == 1)).all():
            raise ValueError("class_label: expected 0 or 1 for every class, but got other values.")
        cells = _valid_cells(valid, self.walk_size)
        cam = self._scaled(cam, cells)
        guide = self._guide(image, embedding, valid)
        refined = cam if guide is None else self.walk(cam, guide, cells)
        soft = self._soft(refined, image.shape[-1], cells, valid) * (class_label > 0)[..., None, None]
        return PseudoLabelSteps(cam, guide, refined, soft, soft_to_mask(soft, self.threshold))

    def _cam(self, image: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Unscaled maps on the walk's grid, and the embedding where the classifier's backbone is prompted too."""
        network: Any = self.cam_network
        shared = self.affinity is not None and self.affinity.backbone is network.backbone
        embedding, maps = None, []
        for scale in self.scales:
            sized = image if scale == 1 else _rescaled(image, scale)
            if shared and scale == 1:
                features, embedding = network.backbone.encode(sized)
            else:
                features = encode_features(network.backbone, sized)
            cam = network.class_head(features).float()
            if self.flip:  # the first axis of a slice runs from left to right
                mirrored = encode_features(network.backbone, sized.flip(2))
                cam = (cam + network.class_head(mirrored).float().flip(2)) / 2
            maps.append(_resize(cam, self.walk_size, _valid_cells(valid, cam.shape[-1])))
        return torch.stack(maps).mean(0), embedding

    def _scaled(self, maps: Tensor, valid: Tensor | None) -> Tensor:
        if self.scaling == "minmax":
            return min_max_scale(maps, valid)
        return _without_padding(maps.sigmoid(), valid)

    def _guide(self, image: Tensor, embedding: Tensor | None, valid: Tensor | None) -> Tensor | None:
        if self.affinity is None:
            return None
        if embedding is not None:
            return self.affinity.guide(embedding, valid)
        return self.affinity(image, valid)

    def _soft(self, refined: Tensor, size: int, cells: Tensor | None, valid: Tensor | None) -> Tensor:
        soft = _resize(refined, size, cells)
        if len(self.kernel) > 1:
            soft = _weighted(self._blurred, soft, valid)
        if self.scaling == "minmax":
            return min_max_scale(soft, valid)
        return _without_padding(soft, valid)

    def _blurred(self, maps: Tensor) -> Tensor:
        # mirrored borders: zeros would darken what touches the border
        return separable_filtering(maps, [self.kernel, self.kernel], mode="reflect")


def soft_to_mask(soft: Tensor, threshold: float) -> Tensor:
    """Masks (B, 1, H, W) of soft maps (B, K, H, W): the class of the largest value where that exceeds the threshold.

    A class whose map is positive somewhere, but which others cover entirely, gets the pixel of its maximum, unless that
    is all that another class has: then the next best one.
    """
    value, index = soft.max(dim=1, keepdim=True)
    mask = torch.where(value > threshold, index + 1, 0)
    maps, flat = soft.flatten(2), mask.flatten(1)  # views
    present = maps.amax(-1) > 0
    for k in range(soft.shape[1]):
        covered = present[:, k] & ~(flat == k + 1).any(1)
        held = flat[covered]
        sizes = torch.stack([(held == number).sum(1) for number in range(soft.shape[1] + 1)], 1)
        last = (held > 0) & (sizes.gather(1, held) == 1)
        wanted = maps[covered, k]
        peaks = torch.where(last, LAST_CHOICE * wanted, wanted).argmax(-1)
        flat[covered, peaks] = k + 1
    return mask.to(torch.uint8)


def _checked_valid(valid: Tensor | None, image: Tensor) -> Tensor | None:
    """The mask of valid pixels; None when all are."""
    if valid is None:
        return None
    valid, expected = plain_tensor(valid), (len(image), 1, *image.shape[2:])
    if tuple(valid.shape) != expected:
        raise ValueError(f"valid: expected shape {expected}, but got {tuple(valid.shape)}; see SliceDataset.")
    valid = valid > 0
    if not valid.flatten(1).any(1).all():
        raise ValueError("valid: expected at least one valid pixel in every image, but got none; leave it out.")
    return None if valid.all() else valid


def _valid_cells(valid: Tensor | None, size: int) -> Tensor | None:
    """Cells of a coarser or finer grid of which at least half is valid, and the best ones where there is no such."""
    if valid is None:
        return None
    share = F.adaptive_avg_pool2d(valid.float(), size)
    return share >= share.amax((2, 3), keepdim=True).clamp(max=0.5)


def _resize(maps: Tensor, size: int, valid: Tensor | None) -> Tensor:
    """Resize maps (B, K, h, w); values where `valid`, bool (B, 1, h, w), is False take no part."""
    return _weighted(lambda x: F.interpolate(x, (size, size), mode="bilinear", align_corners=False), maps, valid)


def _rescaled(image: Tensor, scale: float) -> Tensor:
    """Images of another size, a multiple of what classifiers want."""
    size = [max(round(scale * side / SIZE_STEP), 1) * SIZE_STEP for side in image.shape[2:]]
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=scale < 1)


def _without_padding(maps: Tensor, valid: Tensor | None) -> Tensor:
    return maps if valid is None else torch.where(valid, maps, 0.0)


def _weighted(smooth: Callable[[Tensor], Tensor], maps: Tensor, valid: Tensor | None) -> Tensor:
    """Smooth or resize maps by means over the valid values only; 0 where none is near."""
    if valid is None:
        return smooth(maps)
    return smooth(_without_padding(maps, valid)) / smooth(valid.to(maps.dtype)).clamp_min(WEIGHT_EPS)
