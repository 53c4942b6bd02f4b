"""Pseudo-masks of frozen promptable networks, prompted by the network that is being trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from monai.utils import ensure_tuple, ensure_tuple_rep, look_up_option
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks import ClickDialogue, NextClick, Prompter, build_network, resize_masks
from ..transforms import GENERALIST_NORMALIZATIONS, generalist_input, simulate_clicks

__all__ = ["PROMPTS", "PromptedGeneralist", "PseudoMask", "build_generalist"]

PROMPTS = ("point", "mask", "uncertainty")
NEXT_CLICK = partial(simulate_clicks, rule="center")


class PseudoMask(NamedTuple):
    """Pseudo-masks of a batch, and how much they count.

    Attributes:
        probability: of every foreground class, (B, K, *spatial).
        weight: in 0..1, (B, K, *spatial) or (B, K, 1, 1, 1); 0 where nothing could be asked.
    """

    probability: Tensor
    weight: Tensor


class PromptedGeneralist(nn.Module):
    """Frozen promptable networks for volumes that answer prompts of a specialist (SemiSAM, SemiSAM+, Zhang et al.).

    Prompts are made from the specialist's own logits and from nothing else:

    - "point": clicks where the generalist's answer so far and the specialist's prediction differ, see `ClickDialogue`.
      A volume whose answer agrees everywhere gets no more clicks.
    - "mask": the logits of the foreground, averaged down to the grid of the network's mask prompts.
    - "uncertainty": `num_prompts` such series of clicks, drawn independently. Their mean is the pseudo-mask; the
      standard deviation U over their maps and the specialist's own in every voxel lowers its weight to
      exp(-uncertainty_scale * U).

    Volumes without prediction are not asked about; their weight is 0. Answers of several networks and prompts are
    averaged, weighted by their predicted IoU. Classes are asked about one after the other on the same embedding. Each
    network encodes each volume once; all volumes of a batch are decoded together. Non-cubic patches are padded with
    zeros and background, not stretched, to keep voxels isotropic. Random numbers come from PyTorch's generator of the
    CPU.

    The networks stay in evaluation mode without gradient. Build them once a run, and keep this module out of the
    specialist.

    Args:
        networks: one or several, for example a `SAMMed3D` or a `PromptableVISTA3D`, see `Prompter`.
        normalization: of their input, one for all or one each, see `generalist_input`.
        prompt: "point", "mask" or "uncertainty".
        num_clicks: clicks of a series at most.
        num_prompts: series for "uncertainty", at least 2.
        uncertainty_scale: 10 leaves 0.7 % of the weight where half of the maps disagree (U = 0.5).
        next_click: draws the clicks; `simulate_clicks` with its rule "center" unless given.

    Raises:
        ValueError: when there is no network, one for images, one that does not take the prompt, or a setting is out of
            range.
    """

    def __init__(
        self,
        networks: nn.Module | Sequence[nn.Module],
        normalization: str | Sequence[str],
        prompt: str = "point",
        num_clicks: int = 10,
        num_prompts: int = 4,
        uncertainty_scale: float = 10.0,
        next_click: NextClick = NEXT_CLICK,
    ) -> None:
        super().__init__()
        networks = (networks,) if isinstance(networks, nn.Module) else ensure_tuple(networks)
        _check_networks(networks, prompt)
        if num_clicks < 1 or num_prompts < 2 or uncertainty_scale < 0:
            raise ValueError(
                "expected num_clicks >= 1, num_prompts >= 2 and uncertainty_scale >= 0, but got "
                f"num_clicks={num_clicks}, num_prompts={num_prompts} and uncertainty_scale={uncertainty_scale}."
            )
        self.normalization = ensure_tuple_rep(normalization, len(networks))
        for name in self.normalization:
            look_up_option(name, GENERALIST_NORMALIZATIONS)
        self.prompt: str = look_up_option(prompt, PROMPTS)
        self.num_clicks = num_clicks
        self.num_prompts = num_prompts if prompt == "uncertainty" else 1
        self.uncertainty_scale = uncertainty_scale
        self.next_click = next_click
        self.prompters = nn.ModuleList(Prompter(network) for network in networks)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> PromptedGeneralist:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor, logits: Tensor) -> PseudoMask:
        """Ask for pseudo-masks.

        Args:
            image: unlabelled volumes (B, 1, D, H, W).
            logits: of the specialist, (B, K + 1, D, H, W), background first; not probabilities.

        Returns:
            pseudo-masks of the K foreground classes on the same voxels.

        Raises:
            ValueError: when the shapes do not fit, or probabilities are given.
        """
        logits = logits.detach().float()
        _check_logits(image, logits)
        padding = _padding_to_cube(logits.shape[2:])
        cubes = F.pad(image, padding), _padded_with_background(logits, padding)
        answers = [
            self._answers(prompter, *cubes, normalization)
            for prompter, normalization in zip(self.prompters, self.normalization, strict=True)
        ]
        maps, iou, asked = (torch.cat(parts, dim=1) for parts in zip(*answers, strict=True))  # (B, M, K, ...)
        maps = F.pad(maps, [-width for width in padding])
        # an untrained head may predict any IoU
        share = (iou.clamp(min=1e-3, max=1) * asked)[..., None, None, None]
        share = share / share.sum(1, keepdim=True).clamp(min=1e-3)
        weight = asked.any(1).to(maps.dtype)[..., None, None, None]
        if self.prompt == "uncertainty":
            opinions = torch.cat([maps, logits.softmax(1)[:, None, 1:]], dim=1)
            weight = weight * torch.exp(-self.uncertainty_scale * opinions.std(1, correction=0))
        return PseudoMask((share * maps).sum(1), weight)

    def _answers(
        self, prompter: Any, image: Tensor, logits: Tensor, normalization: str
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Probabilities (B, Q, K, *spatial), predicted IoU and whether anything was asked (B, Q, K), of one network."""
        side = prompter.network.img_size
        embedding = prompter.encode(generalist_input(image, side, normalization))
        cube = F.interpolate(logits, (side,) * 3, mode="trilinear", align_corners=False)
        answer = self._answer_mask if self.prompt == "mask" else self._answer_clicks
        classes = [answer(prompter, embedding, cube, k) for k in range(1, logits.shape[1])]
        low, iou, asked = (torch.stack(parts, dim=2) for parts in zip(*classes, strict=True))
        maps = resize_masks(low.flatten(1, 2), image.shape[2:]).sigmoid()
        return maps.unflatten(1, low.shape[1:3]), iou, asked

    def _answer_clicks(self, prompter: Any, embedding: Tensor, cube: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, Q, *grid), predicted IoU and whether there was a click (B, Q), for class k."""
        wanted = _predicted(cube, k).unsqueeze(1).expand(-1, self.num_prompts, -1, -1, -1)
        dialogue = ClickDialogue(prompter, embedding, wanted, self.next_click)
        for _ in range(self.num_clicks):
            if not dialogue.click():
                break
            dialogue.ask()
        asked = (dialogue.labels >= 0).any(2)
        if dialogue.logits is None or dialogue.iou is None:
            return cube.new_zeros(*asked.shape, *_mask_grid(prompter, embedding)), cube.new_zeros(asked.shape), asked
        return dialogue.logits[:, :, 0].float(), dialogue.iou[:, :, 0].float(), asked

    def _answer_mask(self, prompter: Any, embedding: Tensor, cube: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (B, 1, *grid), predicted IoU and whether class k is predicted (B, 1), which is the mask prompt."""
        mask = F.interpolate(_foreground_logits(cube, k).unsqueeze(1), _mask_grid(prompter, embedding), mode="area")
        points = cube.new_zeros(len(cube), 1, 1, 3)
        labels = cube.new_full((len(cube), 1, 1), -1, dtype=torch.long)  # padding: there is no click
        low, iou = prompter.answer(embedding, points, labels, mask_logits=mask.unsqueeze(1))
        asked = _predicted(cube, k).flatten(1).any(1, keepdim=True)
        return low[:, :, 0].float(), iou[:, :, 0].float(), asked


def _padding_to_cube(shape: Sequence[int]) -> list[int]:
    """Voxels to add on both sides of every axis, the last axis first, as `torch.nn.functional.pad` has it."""
    missing = [max(shape) - length for length in reversed(shape)]
    return [width for total in missing for width in (total // 2, total - total // 2)]


def _padded_with_background(logits: Tensor, padding: Sequence[int]) -> Tensor:
    background, foreground = logits[:, :1], logits[:, 1:]
    return torch.cat([F.pad(background, padding), F.pad(foreground, padding, value=-20.0)], dim=1)


def _foreground_logits(logits: Tensor, k: int) -> Tensor:
    """Logits (B, *spatial) whose sigmoid is the softmax of class k, of (B, C, *spatial)."""
    others = [logits[:, c] for c in range(logits.shape[1]) if c != k]
    return logits[:, k] - torch.stack(others, dim=1).logsumexp(1)


def _predicted(logits: Tensor, k: int) -> Tensor:
    """Where class k is predicted, bool (B, *spatial)."""
    return logits.argmax(1) == k


def _mask_grid(prompter: Any, embedding: Tensor) -> tuple[int, ...]:
    """Size of answers and mask prompts."""
    return tuple(prompter.mask_scale * size for size in embedding.shape[2:])


def _check_networks(networks: Sequence[nn.Module], prompt: str) -> None:
    if not networks:
        raise ValueError("networks: expected at least one promptable network, but got none; give one.")
    for network in networks:
        prompter = Prompter(network)
        if prompter.spatial_dims != 3:
            raise ValueError(
                f"networks: expected networks for volumes, but got {type(network).__name__}; "
                "use a SAMMed3D, a PromptableVISTA3D or a ClickNet of three dimensions."
            )
        if prompt == "mask" and not prompter.takes_masks:
            raise ValueError(f"prompt: {type(network).__name__} takes no masks; use 'point' or 'uncertainty'.")


def _check_logits(image: Tensor, logits: Tensor) -> None:
    if logits.ndim != 5 or logits.shape[1] < 2 or image.shape != (len(logits), 1, *logits.shape[2:]):
        raise ValueError(
            "expected an image (B, 1, D, H, W) and logits (B, K + 1, D, H, W) with K >= 1, but got "
            f"{tuple(image.shape)} and {tuple(logits.shape)}."
        )
    if (logits >= 0).all() and torch.allclose(logits.sum(1), logits.new_ones(()), atol=1e-3):
        raise ValueError("logits: expected logits, but got probabilities; leave out the softmax.")


def build_generalist(
    networks: Sequence[Mapping[str, Any]], device: str | torch.device = "cpu", **settings: Any
) -> PromptedGeneralist | None:
    """Read promptable networks from their checkpoints, once a run.

    Args:
        networks: {"name", "checkpoint", "normalization"} of each, and other arguments of `build_network`, for example
            {"name": "sam_med3d", "checkpoint": "sam_med3d_turbo.pth", "normalization": "above_zero"}. A checkpoint of
            None means random weights, a control; "click_net_3d" then also needs {"pretrained": False}.
        device: where they work.
        settings: of `PromptedGeneralist`.

    Returns:
        the generalist; None when `networks` is empty.

    Raises:
        FileNotFoundError: when there is no such checkpoint.
        ValueError: when a network lacks one of the three, is unknown or not for volumes, or a checkpoint is another's.
    """
    for network in networks:
        if not isinstance(network, Mapping):
            raise ValueError(
                f"generalists: expected a list of settings of each, but got {networks!r}; put it in a list."
            )
        missing = {"name", "checkpoint", "normalization"} - set(network)
        if missing:
            raise ValueError(f"generalist {dict(network)}: {sorted(missing)} are missing; give them.")
    if not networks:
        return None
    others = [{key: value for key, value in network.items() if key != "normalization"} for network in networks]
    built = [build_network(**arguments) for arguments in others]
    return PromptedGeneralist(built, [network["normalization"] for network in networks], **settings).to(device)
