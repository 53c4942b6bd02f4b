"""Bidirectional copy-paste: labelled volumes in unlabelled ones, and the reverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..losses import MaskedDiceCELoss
from .boxes import paste, random_box
from .mean_teacher_trainer import TeacherTrainer

__all__ = ["CopyPasteTrainer", "draw_box"]

SIDE = 2 / 3  # of the box, as a part of the patch's


@dataclass
class _Mixture:
    """What the network sees: pseudo-labelled boxes in labelled patches, then labelled boxes in the others."""

    box: Tensor  # 1 inside, (1, 1, *spatial)
    label: Tensor  # of the labelled patch of each pair, (N, 1, *spatial)
    pseudo_label: Tensor  # of the unlabelled one
    unlabelled: Tensor  # images, (U, C, *spatial)
    weight: float


class CopyPasteTrainer(TeacherTrainer):
    """Bidirectional copy-paste, BCP (Bai et al., CVPR 2023).

    A box, two thirds of the patch a side, is cut from unlabelled patches and put into labelled ones, and the reverse.
    The student learns the equally mixed masks; those of unlabelled patches come from its teacher, which sees the patch
    as it is and is in evaluation mode. With pairs n and loss l over a part of the voxels,

        loss = l(outside, mask) + w l(inside, pseudo-mask) + l(inside, mask) + w l(outside, pseudo-mask)

    where the first two terms are of unlabelled boxes in labelled patches, and the others of the reverse. As long as w
    is 0, labelled patches are mixed with each other, whose true masks are known.

    Unlabelled and labelled items of a batch are paired in their order, the shorter list from its start again. In the
    output, "image" and "pred" are those of the mixtures. A generalist is asked about the unlabelled patches as they
    are, which takes one more pass of the network. Without unlabelled items this is plain supervised training.

    Args:
        args: see `SemiSupervisedTrainer`.
        pseudo_weight: w at every iteration from 0; 0.5 (published) unless given.
        clean: applied to every pseudo-label (1, *spatial), for example MONAI's `KeepLargestConnectedComponent`.
        kwargs: see `SemiSupervisedTrainer`; also `teacher`, the average of `network`.
    """

    def __init__(
        self,
        *args: Any,
        pseudo_weight: Callable[[int], float] = lambda iteration: 0.5,
        clean: Callable[[Tensor], Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.pseudo_weight = pseudo_weight
        self.clean = clean
        self.mixed_loss = MaskedDiceCELoss()
        self._mixture: _Mixture | None = None
        self._prepare_unmixed: Callable[..., tuple[Tensor, Tensor]] = self.prepare_batch  # type: ignore[has-type]
        self.prepare_batch = self._prepare_mixed

    def _prepare_mixed(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Images of mixtures, and masks of labelled patches."""
        image, label = self._prepare_unmixed(*args, **kwargs)
        self._mixture = None
        labelled, unlabelled = image[: len(label)], image[len(label) :]
        if not len(unlabelled):
            return image, label
        box = draw_box(image.shape[2:]).to(image.device)
        weight = self.pseudo_weight(self.iteration)
        if not weight:
            return paste(labelled, labelled.flip(0), box), paste(label, label.flip(0), box)
        pairs = range(max(len(labelled), len(unlabelled)))
        first, second = [k % len(labelled) for k in pairs], [k % len(unlabelled) for k in pairs]
        pseudo_label = self._pseudo_label(unlabelled)[second]
        self._mixture = _Mixture(box, label[first], pseudo_label, unlabelled, weight)
        labelled, others = labelled[first], unlabelled[second]
        return torch.cat([paste(labelled, others, box), paste(others, labelled, box)]), label

    @torch.no_grad()
    def _pseudo_label(self, image: Tensor) -> Tensor:
        """Class numbers (U, 1, *spatial) by the teacher."""
        numbers = self.teacher.eval()(image).argmax(1, keepdim=True)
        return numbers if self.clean is None else torch.stack([torch.as_tensor(self.clean(one)) for one in numbers])

    def _total_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        mixture = self._mixture
        if mixture is None:
            return super()._total_loss(logits, label)
        outer, inner = logits.chunk(2)  # by where the labelled patch is
        box, parts = mixture.box, {}
        parts["supervised"] = self.mixed_loss(outer, mixture.label, 1 - box) + self.mixed_loss(
            inner, mixture.label, box
        )
        parts["copy_paste"] = self.mixed_loss(outer, mixture.pseudo_label, box) + self.mixed_loss(
            inner, mixture.pseudo_label, 1 - box
        )
        total = parts["supervised"] + mixture.weight * parts["copy_paste"]
        return self._add_unlabelled_losses(total, parts, mixture.unlabelled, lambda: self.network(mixture.unlabelled))


def draw_box(size: Sequence[int]) -> Tensor:
    """A box of two thirds of each side at a random place, by PyTorch's generator: (1, 1, *size), 1 inside."""
    return random_box(size, [max(1, int(SIDE * length)) for length in size]).unsqueeze(0)
