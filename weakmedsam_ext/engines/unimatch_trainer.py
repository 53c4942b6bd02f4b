"""UniMatch: what is sure in a weak view teaches strong views, and a pass with dropped features."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.transforms import Randomizable
from torch import Tensor

from ..losses import MaskedDiceCELoss
from ..networks import dropped_features
from .boxes import paste, random_box
from .semi_supervised_engine import SemiSupervisedTrainer

__all__ = ["UniMatchTrainer", "draw_cut"]

NUM_VIEWS = 2  # strongly changed, of every unlabelled image
CUT_PROBABILITY = 0.5
CUT_VOLUME = (0.02, 0.4)  # of the box, as a part of the image's


class UniMatchTrainer(SemiSupervisedTrainer):
    """Unified dual-stream perturbations, UniMatch (Yang et al., CVPR 2023), for volumes.

    The images of the batch are the weak view. Two strong views are changed in intensity and, each with probability 0.5,
    get a box of the next image of the batch (CutMix, 2 to 40 % of the volume). The classes that the network gives the
    weak view with at least `confidence` are the target, mixed like the images, of the strong views and of a further
    pass over the weak view in which half of the encoder's channels are dropped. With losses h over the voxels that are
    sure,

        loss = supervised + w (h(dropped features) / 2 + h(strong 1) / 4 + h(strong 2) / 4)

    h is Dice and cross-entropy (`MaskedDiceCELoss`); published is w = 1. In the output, "image" and "pred" are of
    labelled images, weak views and strong views, in this order; "sure" is the part of voxels that teach. A generalist
    gets the weak views. Without unlabelled items, or at w = 0, this is plain supervised training.

    Args:
        args: see `SemiSupervisedTrainer`. The network is one of those of `dropped_features`.
        strong: changes the intensities of an image (C, *spatial), for example a `Compose` of MONAI's random array
            transforms, which is seeded by PyTorch's generator for every image.
        pseudo_weight: w at every iteration from 0.
        confidence: least probability of a voxel that teaches, in 0..1; published is 0.95.
        kwargs: see `SemiSupervisedTrainer`.

    Raises:
        ValueError: when `confidence` is out of range.
    """

    def __init__(
        self,
        *args: Any,
        strong: Callable[[Tensor], Tensor],
        pseudo_weight: Callable[[int], float] = lambda iteration: 1.0,
        confidence: float = 0.95,
        **kwargs: Any,
    ) -> None:
        if not 0 <= confidence <= 1:
            raise ValueError(f"confidence: expected a value in 0..1, but got {confidence}.")
        super().__init__(*args, **kwargs)
        self.strong = strong
        self.pseudo_weight = pseudo_weight
        self.confidence = confidence
        self.sure_loss = MaskedDiceCELoss()
        self.unlabelled_losses["unimatch"] = (pseudo_weight, self._unimatch_loss)
        self._boxes: list[Tensor] = []  # of each view, (U, 1, *spatial)
        self._views = torch.empty(0)  # logits of the strong views
        self._prepare_weak: Callable[..., tuple[Tensor, Tensor]] = self.prepare_batch  # type: ignore[has-type]
        self.prepare_batch = self._prepare_views

    def _prepare_views(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Labelled images, weak views and strong views; and masks of the first."""
        image, label = self._prepare_weak(*args, **kwargs)
        unlabelled = image[len(label) :]
        if not len(unlabelled) or not self.pseudo_weight(self.iteration):
            self._boxes = []
            return image, label
        self._boxes = [_draw_cuts(unlabelled) for _ in range(NUM_VIEWS)]
        return torch.cat([image, *(_mix(self._change(unlabelled), box) for box in self._boxes)]), label

    def _change(self, images: Tensor) -> Tensor:
        """Every image with other intensities."""
        changed = []
        for image in images:
            if isinstance(self.strong, Randomizable):
                self.strong.set_random_state(int(torch.randint(2**31, ())))
            changed.append(torch.as_tensor(self.strong(image)))
        return torch.stack(changed).to(images)

    def _total_loss(self, logits: Tensor, label: Tensor) -> Tensor:
        first = len(logits) - sum(map(len, self._boxes))
        self._views = logits[first:]
        return super()._total_loss(logits[:first], label)

    def _unimatch_loss(self, image: Tensor, logits: Tensor) -> Tensor:
        """The loss of weak views (U, C, *spatial), of which no gradient comes, and of `_views`."""
        probability, number = logits.detach().float().softmax(1).max(1, keepdim=True)
        sure = (probability >= self.confidence).float()
        self.state.output["sure"] = sure.mean()
        with dropped_features(self.network):
            loss = self.sure_loss(self.network(image), number, sure) / 2
        for view, box in zip(self._views.chunk(NUM_VIEWS), self._boxes, strict=True):
            loss = loss + self.sure_loss(view, _mix(number, box), _mix(sure, box)) / (2 * NUM_VIEWS)
        return loss


def draw_cut(size: torch.Size | tuple[int, ...]) -> Tensor:
    """With probability 0.5 a box of 2 to 40 % of the volume at a random place, by PyTorch's generator: (1, *size)."""
    low, high = CUT_VOLUME
    part = float(torch.empty(()).uniform_(low, high)) ** (1 / len(size))  # of each side
    if float(torch.rand(())) >= CUT_PROBABILITY:
        return torch.zeros(1, *size)
    return random_box(size, [max(1, round(part * length)) for length in size])


def _draw_cuts(images: Tensor) -> Tensor:
    return torch.stack([draw_cut(images.shape[2:]) for _ in images]).to(images.device)


def _mix(own: Tensor, box: Tensor) -> Tensor:
    """Each with the next one's values in its box."""
    return paste(own, own.roll(-1, 0), box)
