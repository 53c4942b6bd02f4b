"""Simulated clicks of a user who corrects the answer of a network."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.transforms.utils import distance_transform_edt
from monai.utils import convert_to_tensor, look_up_option
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

__all__ = ["CLICK_RULES", "Generators", "click_generator", "draw_below", "draw_numbers", "pick_true", "simulate_clicks"]

PEELS = 4  # erosions of the error that the rule "inner" does at most
_LARGE = 1 << 62  # far above any number of voxels, so that remainders of draws are practically uniform

# one for all items, or one for each image, between which the items are split evenly in their order
Generators = torch.Generator | Sequence[torch.Generator]


def simulate_clicks(
    predicted: Tensor,
    wanted: Tensor,
    rule: str = "uniform",
    generator: Generators | None = None,
    positive_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """Click where masks are wrong.

    Rules: "uniform" clicks anywhere in the error with equal probability, as in SAM's training (Kirillov et al., ICCV
    2023). "center" takes the largest face-connected error region (first on ties), false positives and negatives
    together, and clicks with equal probability where the distance to the region's border exceeds half its largest value
    (Sofiiuk et al., RITM, ICIP 2022); the border of the image counts. "inner" erodes the error by one pixel up to
    four times, as long as some of it is left, and clicks with equal probability there; it needs no distance transform
    and is fast on a GPU. Distances are in pixels or voxels.

    One random number is drawn for every item, on the CPU. A seed gives the same clicks on every device, and an item's
    click does not depend on the rest of the batch.

    Args:
        predicted: answer of the network, bool (B, H, W) or (B, D, H, W).
        wanted: the right answer, bool of the same shape and device.
        rule: "uniform", "center" or "inner".
        generator: of the CPU; PyTorch's own unless given. Several are one for each image: the items, as many for each,
            are split between them in their order.
        positive_only: click only on false negatives, for networks without background clicks.

    Returns:
        points, int64 (B, 2 or 3) in array index order, and labels, int64 (B,): 1 on a false negative, 0 on a false
        positive, -1 with the point 0 where there is nothing to click.

    Raises:
        ValueError: when shapes or types are wrong or the rule is unknown.
    """
    place = look_up_option(rule, CLICK_RULES)
    predicted, wanted = (convert_to_tensor(mask, track_meta=False) for mask in (predicted, wanted))
    for name, mask in (("predicted", predicted), ("wanted", wanted)):
        if mask.dtype != torch.bool or mask.ndim not in (3, 4):
            raise ValueError(
                f"{name}: expected a bool mask (B, H, W) or (B, D, H, W), but got {mask.dtype} {tuple(mask.shape)}."
            )
    if predicted.shape != wanted.shape:
        raise ValueError(f"wanted: expected the shape {tuple(predicted.shape)}, but got {tuple(wanted.shape)}.")
    error = wanted & ~predicted if positive_only else wanted ^ predicted
    draws = draw_numbers((len(error),), generator).to(error.device)
    index = pick_true(place(error).flatten(1), draws)  # of the flattened item
    points = torch.stack(torch.unravel_index(index, error.shape[1:]), dim=-1)
    labels = wanted.flatten(1).gather(1, index[:, None])[:, 0].long()  # the sign is read at the click itself
    return points, torch.where(error.flatten(1).any(1), labels, -1)


def click_generator(seed: int, case: str, number: int = 0) -> torch.Generator:
    """Generator of the clicks on an image. The other cases of a list do not change it, nor does their order.

    Args:
        seed: of the evaluation.
        case: name of the case.
        number: of the image within its case.
    """
    state = np.random.SeedSequence([seed % 2**64, zlib.crc32(case.encode()), number]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def draw_below(high: int, shape: Sequence[int], generator: Generators | None = None) -> Tensor:
    """Random int64 numbers from 0 to high - 1, drawn on the CPU; see `simulate_clicks` for several generators."""
    if generator is None or isinstance(generator, torch.Generator):
        return torch.randint(high, tuple(shape), generator=generator)
    part = (shape[0] // len(generator), *shape[1:])
    return torch.cat([torch.randint(high, part, generator=one) for one in generator])


def draw_numbers(shape: Sequence[int], generator: Generators | None = None) -> Tensor:
    """Random int64 numbers for `pick_true`, see `draw_below`."""
    return draw_below(_LARGE, shape, generator)


def pick_true(candidates: Tensor, draws: Tensor) -> Tensor:
    """Choose one true value in every row.

    Args:
        candidates: bool (B, V).
        draws: (B,) of `draw_numbers`.

    Returns:
        index of a true value, int64 (B,), each as likely as any other; 0 where a row has none.
    """
    rank = candidates.cumsum(1, dtype=torch.int32)
    count = rank[:, -1].long()
    index = torch.searchsorted(rank, (draws % count.clamp(min=1) + 1).int()[:, None])[:, 0]
    return index.where(count > 0, 0)


def _anywhere(error: Tensor) -> Tensor:
    return error


def _inner_half(error: Tensor) -> Tensor:
    """The part of the largest region of every item that is far from the region's border."""
    result = torch.zeros_like(error)
    for item, mask in enumerate(error.cpu().numpy()):
        regions, count = ndimage.label(mask)
        if not count:
            continue
        largest = int(np.bincount(regions.ravel())[1:].argmax()) + 1
        found = regions == largest
        (box,) = ndimage.find_objects(found.astype(np.uint8))  # boxes of all regions would take too long
        region = torch.from_numpy(np.pad(found[box], 1)).to(error.device)
        distance = distance_transform_edt(region[None].float())[0]
        # whole numbers compare alike on every device
        squared = distance.double().square().round()[(slice(1, -1),) * mask.ndim]
        result[(item, *box)] = 4 * squared > squared.max()
    return result


def _peeled(error: Tensor) -> Tensor:
    """What is left of every item after up to `PEELS` erosions by a cube of 3 pixels."""
    pool = F.max_pool2d if error.ndim == 3 else F.max_pool3d
    left = error
    for _ in range(PEELS):
        # outside the image nothing is wrong
        border = F.pad(~left, (1, 1) * (error.ndim - 1), value=True).unsqueeze(1).float()
        smaller = pool(border, 3, stride=1).squeeze(1) == 0
        some = smaller.flatten(1).any(1).view(-1, *(1,) * (error.ndim - 1))
        left = torch.where(some, smaller, left)
    return left


CLICK_RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "uniform": _anywhere,
    "center": _inner_half,
    "inner": _peeled,
}
