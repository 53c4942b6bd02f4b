"""Random walk that spreads class-activation maps up to the edges of a guide map: a stencil instead of a matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import torch
from monai.data import MetaTensor
from monai.utils import look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["AffinityRandomWalk", "min_max_scale", "plain_tensor"]

_EPS = 1e-6
# Guide value of the empty cells that pad a row: so far from any real one that the affinity to it is zero.
_OUTSIDE = 1e30
# Without gradients, operations on more elements than this are avoided. PyTorch divides larger ones among the cores of a
# processor: at this size that gains less than waiting for a busy core costs, which is milliseconds.
_CPU_ELEMENTS, _DEVICE_ELEMENTS = 1 << 15, 1 << 20


class AffinityRandomWalk(nn.Module):
    r"""Spread maps over an image so that they fill the objects of a guide map and stop at its edges.

    Cells :math:`i, j` nearer than ``radius`` are linked with affinity
    :math:`A_{ij} = \exp(-\mathrm{mean}_c |m_{ci} - m_{cj}|)^\beta`, :math:`A_{ii} = 1`, where :math:`m` is the guide.
    Each step replaces the maps by :math:`T\,\mathrm{cam}` and scales each to (x - min + 1e-6) / (max - min + 1e-6).

    - ``"averaging"``: :math:`T_{ij} = A_{ij} / \sum_j A_{ij}`; outputs are weighted means, never above the maximum.
    - ``"diffusion"``: :math:`T_{ij} = A_{ij} / \sum_i A_{ij}`; outputs above the maximum of the input occur.

    Half of the neighbourhood is kept as weight maps, symmetry gives the other half; no matrix is built. Weights below
    the square root of the smallest normal number (1e-19 in float32) are exactly zero, because denormal numbers slow a
    processor down. Half precision is computed in float32. Gradients reach cam and guide; where none are needed,
    buffers are reused, and the same result up to rounding takes less time and memory.

    Args:
        radius: cells nearer than this are linked; 5 gives 69 links a cell in 2-D and 485 in 3-D, itself included.
        beta: exponent of the affinity; larger values stop the walk at weaker edges.
        num_steps: number of steps; 0 returns the values of ``cam``.
        propagation: ``"averaging"`` or ``"diffusion"``.
        border: ``"full"`` links all cells of the image; ``"cropped"`` (images only, as released with WeakMedSAM) only
            pairs whose first cell, in reading order, has ``radius - 1`` cells to its left, right and below.
        renormalize: scale after every step. Constant maps become 1: zero absent classes after the walk, not before.

    Shape:
        - cam: (B, C, H, W) or (B, C, D, H, W), finite; with ``renormalize`` its range should be well above 1e-6.
        - guide: (B, G, H, W) or (B, G, D, H, W), finite, such as mask logits or probabilities; scale acts like beta.
        - valid: bool (B, 1, H, W) or (B, 1, D, H, W), False in cells that are padding; all cells are image without.
          Padding has no links and no part in scaling, and is 0 in the output. Where the valid cells are a rectangle,
          the result in it is that of walking on the rectangle alone.
        - output: shape and type of cam.

    Raises:
        ValueError: when a setting is unknown or out of range; when cam or guide has a wrong rank, type or values that
            are not finite; when they or valid do not fit each other; when an image has no valid cell; when
            ``border="cropped"`` meets a volume.

    References:
        Ahn and Kwak, "Learning Pixel-level Semantic Affinity with Image-level Supervision", CVPR 2018 (AffinityNet).
        Ahn et al., "Weakly Supervised Learning of Instance Segmentation with Inter-pixel Relations", CVPR 2019 (IRN).
        Wang et al., "WeakMedSAM", IEEE TMI 2025, doi 10.1109/TMI.2025.3549433.

    Example:
        >>> walk = AffinityRandomWalk(radius=5, beta=4.0, num_steps=4)
        >>> walk(torch.rand(2, 3, 64, 64), torch.randn(2, 1, 64, 64)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(
        self,
        radius: int = 5,
        beta: float = 4.0,
        num_steps: int = 4,
        propagation: str = "averaging",
        border: str = "full",
        renormalize: bool = True,
    ) -> None:
        super().__init__()
        if radius < 1:
            raise ValueError(f"radius: expected at least 1 cell, but got {radius}; 1 links each cell with itself only.")
        if not beta > 0:
            raise ValueError(f"beta: expected a positive exponent, but got {beta}; the published value is 4.")
        if num_steps < 0:
            raise ValueError(f"num_steps: expected 0 or more, but got {num_steps}; 0 leaves the maps as they are.")
        self.radius, self.beta, self.num_steps, self.renormalize = radius, beta, num_steps, renormalize
        self.propagation: str = look_up_option(propagation, ("averaging", "diffusion"))
        self.border: str = look_up_option(border, ("full", "cropped"))

    def forward(self, cam: Tensor, guide: Tensor, valid: Tensor | None = None) -> Tensor:
        """Walk; see the class for shapes and value ranges. Metadata of cam stay."""
        out = self._forward(plain_tensor(cam), plain_tensor(guide), None if valid is None else plain_tensor(valid))
        return MetaTensor(out).copy_meta_from(cam) if isinstance(cam, MetaTensor) else out

    def _forward(self, cam: Tensor, guide: Tensor, valid: Tensor | None) -> Tensor:
        recording = torch.compiler.is_compiling() or torch.jit.is_tracing()
        if not recording:
            self._check(cam, guide, valid)
        dtype = torch.promote_types(torch.promote_types(cam.dtype, guide.dtype), torch.float32)
        maps, guide = cam.to(dtype), guide.to(dtype)
        if valid is not None:
            # padding is as far from any image cell as the cells beyond the border are
            maps, guide = torch.where(valid, maps, 0.0), torch.where(valid, guide, _OUTSIDE)
        links = _Links(cam.shape[2:], self.radius, self.beta, self.border)
        if recording or (torch.is_grad_enabled() and (cam.requires_grad or guide.requires_grad)):
            weights = links.weights(guide, valid)
            degree = links.spread(torch.ones_like(maps[:, :1]), weights)
            return self._walk(maps, degree, valid, lambda x: links.spread(x, weights)).to(cam.dtype)
        return self._walk_in_parts(maps, guide, valid, links).to(cam.dtype)

    def _walk(self, maps: Tensor, degree: Tensor, valid: Tensor | None, spread: Callable[[Tensor], Tensor]) -> Tensor:
        for _ in range(self.num_steps):
            maps = spread(maps) / degree if self.propagation == "averaging" else spread(maps / degree).clone()
            if self.renormalize:
                maps = min_max_scale(maps, valid)
        return maps

    def _walk_in_parts(self, maps: Tensor, guide: Tensor, valid: Tensor | None, links: _Links) -> Tensor:
        limit = _CPU_ELEMENTS if maps.device.type == "cpu" else _DEVICE_ELEMENTS
        out = torch.empty_like(maps)
        if out.numel() == 0:
            return out
        classes = _parts(maps.shape[1], limit // (2 * links.size))
        images = _parts(maps.shape[0], limit // (2 * links.size * classes[0].stop))
        stencil = _Stencil(links, images[0].stop, classes[0].stop, limit, maps)
        for part in images:
            image = None if valid is None else valid[part]
            stencil.load(guide[part], image)
            degree = stencil.spread(maps.new_ones(1)).clone()
            for group in classes:
                out[part, group] = self._walk(maps[part, group], degree, image, stencil.spread)
        return out

    def _check(self, cam: Tensor, guide: Tensor, valid: Tensor | None) -> None:
        for name, value in (("cam", cam), ("guide", guide)):
            shape = tuple(value.shape)
            if value.ndim not in (4, 5) or 0 in shape[1:]:
                raise ValueError(f"{name}: expected (B, C, H, W) or (B, C, D, H, W), but got {shape}; add axes.")
            if not torch.isfinite(value).all():
                raise ValueError(f"{name}: expected finite values, but got NaN or infinity; check what computed it.")
        if not cam.is_floating_point():
            raise ValueError(f"cam: expected a floating point tensor, but got {cam.dtype}; pass cam.float().")
        if cam.shape[0] != guide.shape[0]:
            raise ValueError(f"guide: expected the batch size of cam, {len(cam)}, but got {len(guide)}; repeat images.")
        if cam.shape[2:] != guide.shape[2:]:
            want, got = tuple(cam.shape[2:]), tuple(guide.shape[2:])
            raise ValueError(f"guide: expected the spatial size of cam, {want}, but got {got}; resize one of them.")
        if cam.ndim == 5 and self.border == "cropped":
            raise ValueError('border: expected "full" for volumes, but got "cropped"; it is defined for images only.')
        if valid is None:
            return
        want = (len(cam), 1, *cam.shape[2:])
        if valid.dtype != torch.bool or tuple(valid.shape) != want:
            raise ValueError(f"valid: expected bool of shape {want}, but got {valid.dtype} of {tuple(valid.shape)}.")
        if not valid.flatten(1).any(1).all():
            raise ValueError("valid: expected at least one valid cell in every image, but got none; leave it out.")


def _parts(total: int, size: int) -> list[slice]:
    """Equally long slices that cover range(total), of at most `size` where possible; the last may repeat indices."""
    count = math.ceil(total / max(size, 1))
    size = math.ceil(total / count)
    return [slice(start, start + size) for start in (min(i * size, total - size) for i in range(count))]


def plain_tensor(x: Tensor) -> Tensor:
    """A tensor without MONAI's metadata, whose bookkeeping costs time and lacks some operations."""
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def min_max_scale(maps: Tensor, valid: Tensor | None = None) -> Tensor:
    """Scale each map of (B, C, *shape) to (x - min + 1e-6) / (max - min + 1e-6); a constant map becomes 1.

    Where `valid`, bool (B, 1, *shape), is False, values do not count and become 0.
    """
    axes = tuple(range(2, maps.ndim))
    if valid is None:
        low, high = maps.amin(axes, keepdim=True), maps.amax(axes, keepdim=True)
        return (maps - low + _EPS) / (high - low + _EPS)
    low = torch.where(valid, maps, torch.inf).amin(axes, keepdim=True)
    high = torch.where(valid, maps, -torch.inf).amax(axes, keepdim=True)
    return torch.where(valid, (maps - low + _EPS) / (high - low + _EPS), 0.0)


class _Links:
    """The links of an image whose cells are laid out in one row, so that each link is a fixed step along it.

    Each axis but the first is followed by as many empty cells as a link can reach, and so is the whole row: a link that
    leaves the image ends in an empty cell instead of wrapping around. A link and its reverse are kept once.
    """

    def __init__(self, shape: Sequence[int], radius: int, beta: float, border: str) -> None:
        self.shape, self.radius, self.beta, self.border = tuple(shape), radius, beta, border
        reach = [min(radius, size) - 1 for size in shape]
        self.padded = (shape[0], *(size + gap for size, gap in zip(shape[1:], reach[1:], strict=True)))
        strides = [math.prod(self.padded[axis + 1 :]) for axis in range(len(shape))]
        offsets = product(*(range(-gap, gap + 1) for gap in reach))
        half = [o for o in offsets if o > (0,) * len(shape) and sum(d * d for d in o) < radius**2]
        self.steps = [sum(d * stride for d, stride in zip(o, strides, strict=True)) for o in half]
        self.size = math.prod(self.padded)
        self.length = self.size + max(self.steps, default=0)

    def flatten(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """(B, C, *shape) -> (B, C, length) with `fill` in empty cells."""
        sizes = zip(self.shape[::-1], self.padded[::-1], strict=True)
        row = F.pad(x, [pad for size, padded in sizes for pad in (0, padded - size)], value=fill).flatten(2)
        return F.pad(row, (0, self.length - self.size), value=fill)

    def cells(self, row: Tensor) -> Tensor:
        """(..., at least size) -> view of the cells that are not empty, (..., *shape)."""
        x = row[..., : self.size].unflatten(-1, self.padded)
        for axis, size in enumerate(self.shape):
            x = x.narrow(axis - len(self.shape), 0, size)
        return x

    def starts(self, like: Tensor, valid: Tensor | None = None) -> Tensor:
        """1 in cells where a link may start, 0 elsewhere, (1 or B, 1, size)."""
        if self.border == "full":
            return like.new_ones(1, 1, self.size)
        margin = self.radius - 1
        if valid is not None:
            # cells without padding, which goes on beyond the border, in the margin to the left, right and below
            padding = F.pad((~valid).to(like.dtype), (margin, margin, 0, margin), value=1.0)
            return self.flatten(1 - F.max_pool2d(padding, (margin + 1, 2 * margin + 1), 1))[..., : self.size]
        starts = like.new_zeros(1, 1, *self.shape)
        height, width = (max(size - margin, 0) for size in self.shape)
        starts[..., :height, margin : max(width, margin)] = 1
        return self.flatten(starts)[..., : self.size]

    def weights(self, guide: Tensor, valid: Tensor | None = None) -> list[Tensor]:
        """Affinity of each link at the cell where it starts, (B, 1, size); differentiable."""
        row, starts = self.flatten(guide, _OUTSIDE), self.starts(guide, valid)
        here, weakest = row[..., : self.size], torch.finfo(guide.dtype).tiny ** 0.5
        ends = [row[..., step : step + self.size] for step in self.steps]
        # clamped before exp() because a denormal result is slow, zeroed after it
        exponents = [-self.beta * (there - here).abs().mean(1, keepdim=True) for there in ends]
        return [F.threshold(e.clamp(math.log(weakest) - 1).exp(), weakest, 0.0) * starts for e in exponents]

    def spread(self, maps: Tensor, weights: list[Tensor]) -> Tensor:
        """A times maps, (B, C, *shape); differentiable."""
        row = self.flatten(maps)
        total = here = row[..., : self.size]
        for step, weight in zip(self.steps, weights, strict=True):
            total = torch.addcmul(total, weight, row[..., step : step + self.size])
            total = total + F.pad(weight * here, (step, -step))
        return self.cells(total)


class _Stencil:
    """The same weights and product in buffers that are allocated once; a product is valid until the next one."""

    def __init__(self, links: _Links, batch: int, channels: int, limit: int, like: Tensor) -> None:
        self.links = links
        self.links_at_once = max(1, limit // (batch * links.size))
        self.weights = like.new_empty(len(links.steps), batch, 1, links.size)
        source = like.new_zeros(batch, channels, links.length)
        target = like.new_zeros(2, batch, channels, links.length)
        self.source, self.target = links.cells(source), links.cells(target)
        # One multiply-add serves a link and its reverse, which halves the number of calls:
        #   target[0][p + step] += weight[p] * source[p],  target[1][p] += weight[p] * source[p + step]
        size, (plane, *inner) = (2, batch, channels, links.size), target.stride()
        self.taps = [
            (target.as_strided(size, (plane - step, *inner), step), weight, source.as_strided(size, (step, *inner)))
            for step, weight in zip(links.steps, self.weights.unbind(), strict=True)
        ]

    def load(self, guide: Tensor, valid: Tensor | None = None) -> None:
        """Set the weights from a guide (B, G, *shape)."""
        row, channels = self.links.flatten(guide, _OUTSIDE), guide.shape[1]
        here, weakest = row[..., : self.links.size], torch.finfo(guide.dtype).tiny ** 0.5
        for step, weight in zip(self.links.steps, self.weights.unbind(), strict=True):
            there = row[..., step : step + self.links.size]
            if channels == 1:
                torch.sub(there, here, out=weight)
            else:
                torch.sum((there - here).abs_(), 1, keepdim=True, out=weight)
        starts = self.links.starts(guide, valid)
        # exp2() because exp() is threaded at any size
        for some in self.weights.split(self.links_at_once):
            some.abs_().mul_(-self.links.beta / (channels * math.log(2))).clamp_(math.log2(weakest) - 1).exp2_()
            F.threshold(some, weakest, 0.0, inplace=True)
            if self.links.border == "cropped":
                some.mul_(starts)

    def spread(self, maps: Tensor) -> Tensor:
        """A times maps, which may be anything that broadcasts to (B, C, *shape)."""
        self.source.copy_(maps)
        self.target[0].copy_(maps)
        self.target[1].zero_()
        for target, weight, source in self.taps:
            target.addcmul_(weight, source)
        return self.target[0].add_(self.target[1])
