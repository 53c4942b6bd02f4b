"""Images of label maps, with the artefacts of MRI and CT, batched and on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .noise import along_axes, smooth_noise, uniform
from .scene import AIR, Scene

__all__ = ["render", "scale_to_percentiles"]

PERCENTILES = (0.005, 0.995)  # those of the slice and volume stores
FULL_CONTRAST = 45.0  # deviation of the intensities of an image above which textures have their full strength
SAMPLES = 1 << 14  # pixels that percentiles are taken of


def render(scene: Scene, generator: torch.Generator) -> Tensor:
    """Draw images, float32 (B, 1, *spatial) in 0..1.

    A label has a mean and a deviation, U(5, 25), of two textures, whose scales are those of the item, 2 to 32 pixels.
    Each of these comes to a random part of the items, in this order: partial volume, a bias field, low resolution along
    one axis, Gibbs ringing, sharpening, a spike in k-space, noise, gamma, and a window that cuts intensities off.

    Args:
        scene: what is to be seen.
        generator: on the scene's device.
    """
    image, contrast = _textured(scene, generator)
    batch, size = len(image), image.shape[2:]
    ones = (1,) * len(size)
    image = along_axes(image, [_point_spread(batch, length, generator) for length in size])
    bias = smooth_noise(1, size, max(size) * uniform(0.3, 1.0, (batch,), generator), generator)
    image = image * torch.exp(_sometimes(0.5, 0.0, 0.35, batch, ones, generator) * bias)
    image = along_axes(image, _low_resolution(batch, size, generator))
    blurred = along_axes(image, [_gaussian(length, torch.ones_like(bias.view(batch, -1)[:, 0])) for length in size])
    image = image + _sometimes(0.3, 0.2, 1.5, batch, ones, generator) * (image - blurred)
    image = image + contrast * _sometimes(0.15, 1.0, 10.0, batch, ones, generator) * _wave(batch, size, generator)
    image = image + contrast * _noise(batch, size, generator)
    image = scale_to_percentiles(image)
    image = image.pow(torch.exp(uniform(-0.6, 0.6, (batch, 1, *ones), generator)))
    return _window(image, generator)


def scale_to_percentiles(image: Tensor) -> Tensor:
    """Scale every item (B, 1, *spatial) so that its percentiles 0.5 and 99.5 become 0 and 1, and clip."""
    flat = image.flatten(1)
    values = flat[:, :: max(1, flat.shape[1] // SAMPLES)].sort(1).values
    low, high = (values[:, round(share * (values.shape[1] - 1))] for share in PERCENTILES)
    low, high = (x.view(-1, *(1,) * (image.ndim - 1)) for x in (low, high))
    return ((image - low) / (high - low).clamp(min=1e-3)).clamp(0, 1)


def _textured(scene: Scene, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Perfect images (B, 1, *spatial) in about 0..255, and their contrast (B, 1, *ones), at most 1.

    Textures and noise are weaker where the contrast is, so that what is to be clicked stays visible.
    """
    batch, count = scene.mean.shape
    size = scene.fine.shape[1:]
    spread = uniform(5, 25, (batch, count), generator) * uniform(0.1, 1, (batch, 1), generator)
    spread[:, AIR] = uniform(0, 4, (batch,), generator)
    angle = uniform(0, math.pi / 2, (batch, count), generator)
    tables = torch.stack([scene.mean, spread * angle.cos(), spread * angle.sin()], dim=1)
    index = scene.fine.flatten(1).unsqueeze(1).expand(-1, 3, -1)
    mean, first, second = tables.gather(2, index).view(batch, 3, *size).unbind(1)
    contrast = (mean.flatten(1).std(1) / FULL_CONTRAST).clamp(0.1, 1).view(-1, *(1,) * len(size))
    fine = smooth_noise(1, size, torch.exp2(uniform(1, 3, (batch,), generator)), generator)[:, 0]
    wide = smooth_noise(1, size, torch.exp2(uniform(3, 5, (batch,), generator)), generator)[:, 0]
    image = mean + contrast * (first * fine + second * wide)
    return image.clamp(min=0).unsqueeze(1), contrast.unsqueeze(1)


def _sometimes(
    share: float, low: float, high: float, batch: int, ones: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """U(low, high) in a share of the items, 0 in the others, (B, 1, *ones)."""
    shape = (batch, 1, *ones)
    return uniform(low, high, shape, generator).where(uniform(0, 1, shape, generator) < share, 0)


def _point_spread(batch: int, length: int, generator: torch.Generator) -> Tensor:
    """Partial volume: a Gaussian of U(0.3, 1.1) pixels, (B, length, length)."""
    return _gaussian(length, uniform(0.3, 1.1, (batch,), generator))


def _gaussian(length: int, sigma: Tensor) -> Tensor:
    """Gaussian smoothing by (B,) pixels along an axis, (B, length, length)."""
    place = torch.arange(length, device=sigma.device)
    distance = (place[:, None] - place).float() / sigma[:, None, None]
    weight = torch.exp(-distance.square() / 2)
    return weight / weight.sum(2, keepdim=True)


def _low_resolution(batch: int, size: torch.Size, generator: torch.Generator) -> list[Tensor]:
    """Gibbs ringing, or thick slices along one random axis; one (B, length, length) an axis."""
    device = generator.device
    axis = torch.randint(len(size), (batch,), generator=generator, device=device)
    share = 0.3 if len(size) == 2 else 0.5
    thick = uniform(0, 1, (batch,), generator) < share
    factor = uniform(1.5, 4.5, (batch,), generator)
    ringing = uniform(0, 1, (batch,), generator) < 0.25
    cut = uniform(0.4, 0.9, (batch,), generator)
    operators = []
    for number, length in enumerate(size):
        eye = torch.eye(length, device=device).expand(batch, -1, -1)
        slices = torch.where((thick & (axis == number))[:, None, None], _thick_slices(length, factor), eye)
        operators.append(torch.where(ringing[:, None, None], _truncated(length, cut), eye) @ slices)
    return operators


def _thick_slices(length: int, factor: Tensor) -> Tensor:
    """Averages over `factor` (B,) pixels, interpolated back linearly, (B, length, length)."""
    place = torch.arange(length, device=factor.device) + 0.5
    half = (factor / 2)[:, None, None]
    centre = 2 * half * place[:, None]  # of slices, more than fit
    covered = (half + 0.5 - (place - centre).abs()).clamp(0, 1)  # part of every pixel in every slice
    covered = covered / covered.sum(2, keepdim=True).clamp(min=1e-6)
    last = ((length / factor).ceil() - 1)[:, None]
    position = (place / factor[:, None] - 0.5).clamp(min=0).minimum(last)
    number = torch.arange(length, device=factor.device)
    back = (1 - (position.unsqueeze(2) - number).abs()).clamp(min=0)
    return back @ covered


def _truncated(length: int, cut: Tensor) -> Tensor:
    """Keep the lowest share (B,) of the frequencies along an axis, (B, length, length)."""
    frequency = torch.fft.fftfreq(length, device=cut.device).abs() * 2
    kept = (frequency <= cut[:, None]).float()
    kernel = torch.fft.ifft(kept, dim=1).real
    place = torch.arange(length, device=cut.device)
    return kernel[:, (place[:, None] - place) % length]


def _wave(batch: int, size: torch.Size, generator: torch.Generator) -> Tensor:
    """What a spike in k-space adds: a plane wave of random direction, (B, 1, *spatial)."""
    phase = uniform(0, 2 * math.pi, (batch, *(1,) * len(size)), generator)
    for axis, length in enumerate(size):
        shape = [-1 if number == axis else 1 for number in range(len(size))]
        place = torch.arange(length, device=generator.device).view(shape)
        phase = phase + uniform(-1.2, 1.2, (batch, *(1,) * len(size)), generator) * place
    return phase.cos().unsqueeze(1)


def _noise(batch: int, size: torch.Size, generator: torch.Generator) -> Tensor:
    """White noise, or noise that is smooth as after resampling, (B, 1, *spatial)."""
    ones = (1,) * len(size)
    white = torch.randn((batch, 1, *size), generator=generator, device=generator.device)
    smooth = smooth_noise(1, size, uniform(1.2, 2.5, (batch,), generator), generator)
    white = torch.where(uniform(0, 1, (batch, 1, *ones), generator) < 0.5, white, smooth)
    return _sometimes(0.8, 0.5, 15.0, batch, ones, generator) * white


def _window(image: Tensor, generator: torch.Generator) -> Tensor:
    """Cut intensities off as a CT window does, or use a part of the range only, in half of the items."""
    batch, ones = len(image), (1,) * (image.ndim - 1)
    low = uniform(-0.4, 0.25, (batch, *ones), generator)
    high = uniform(0.75, 1.4, (batch, *ones), generator)
    windowed = ((image - low) / (high - low)).clamp(0, 1)
    return torch.where(uniform(0, 1, (batch, *ones), generator) < 0.5, windowed, image)
