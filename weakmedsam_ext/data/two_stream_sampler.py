"""Sampler and collate function for batches of labelled and unlabelled items."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from monai.data import list_data_collate
from monai.utils import look_up_option
from torch.utils.data import Sampler

__all__ = ["TwoStreamSampler", "collate_two_streams"]

STREAMS = ("unlabelled", "labelled")


class TwoStreamSampler(Sampler[list[int]]):
    """Batch sampler: labelled items first, then unlabelled ones, for `DataLoader(batch_sampler=...)`.

    Each stream is one fresh permutation after the other, as long as the epoch lasts. An epoch is one pass over one of
    the streams, rounded up to whole batches, or any number of batches: workers of a loader start once an epoch, so it
    should be long. A single labelled item is enough; it is then in every batch.

    The order depends on the seed and the number of the epoch only. Our semi-supervised trainers call `set_epoch` as
    MONAI's do for a `DistributedSampler`; with another engine, call it when an epoch starts.

    Args:
        data: items of the data set; those with "label" are labelled.
        labelled_per_batch: at least 1.
        unlabelled_per_batch: 0 for supervised training only.
        epoch_stream: "unlabelled" or "labelled", whose one pass is an epoch.
        num_batches: of an epoch of each process instead.
        seed: of epoch 0.
        num_replicas: processes that share the batches of an epoch.
        rank: of this process; each gets every num_replicas-th batch, and as many as the others.

    Raises:
        ValueError: when a stream that is wanted is empty, or a number is out of range.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        labelled_per_batch: int = 1,
        unlabelled_per_batch: int = 3,
        epoch_stream: str = "unlabelled",
        num_batches: int | None = None,
        seed: int = 0,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if not 0 <= rank < num_replicas:
            raise ValueError(f"expected 0 <= rank < num_replicas, but got rank={rank} and num_replicas={num_replicas}.")
        if labelled_per_batch < 1 or unlabelled_per_batch < 0 or (num_batches is not None and num_batches < 1):
            raise ValueError(
                "expected labelled_per_batch >= 1, unlabelled_per_batch >= 0 and num_batches >= 1, but got "
                f"labelled_per_batch={labelled_per_batch}, unlabelled_per_batch={unlabelled_per_batch} and "
                f"num_batches={num_batches}."
            )
        self.labelled = [index for index, item in enumerate(data) if "label" in item]
        self.unlabelled = [index for index, item in enumerate(data) if "label" not in item]
        self.labelled_per_batch = labelled_per_batch
        self.unlabelled_per_batch = unlabelled_per_batch
        self.seed = seed
        self.num_replicas = num_replicas
        self.rank = rank
        self.epoch = 0
        if not self.labelled:
            raise ValueError(f"data: expected a labelled item, but none of {len(data)} has a label; name one case.")
        if unlabelled_per_batch and not self.unlabelled:
            raise ValueError("data: expected unlabelled items, but all are labelled; set unlabelled_per_batch to 0.")
        self.num_batches = num_batches or self._one_pass(look_up_option(epoch_stream, STREAMS))

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[list[int]]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        # each stream has its own seed: another number of unlabelled items leaves the order of the labelled ones alone
        seeds = torch.randint(1 << 62, (2,), generator=generator).tolist()
        labelled, unlabelled = _endless(self.labelled, seeds[0]), _endless(self.unlabelled, seeds[1])
        for number in range(self.num_batches * self.num_replicas):
            batch = [next(labelled) for _ in range(self.labelled_per_batch)]
            batch += [next(unlabelled) for _ in range(self.unlabelled_per_batch)]
            if number % self.num_replicas == self.rank:
                yield batch

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch before it starts."""
        self.epoch = epoch

    def _one_pass(self, stream: str) -> int:
        if stream == "labelled":
            return -(-len(self.labelled) // (self.labelled_per_batch * self.num_replicas))
        if not self.unlabelled_per_batch:
            raise ValueError(
                'epoch_stream: without unlabelled items a pass over them never ends; use "labelled" or num_batches.'
            )
        return -(-len(self.unlabelled) // (self.unlabelled_per_batch * self.num_replicas))


def _endless(indices: Sequence[int], seed: int) -> Iterator[int]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        for position in torch.randperm(len(indices), generator=generator).tolist():
            yield indices[position]


def collate_two_streams(batch: Sequence[Any]) -> dict[str, Any]:
    """Collate items of which only some have a label, for `DataLoader(collate_fn=...)`.

    Args:
        batch: dictionaries, or lists of them as transforms give that cut several patches.

    Returns:
        labelled items first: {"image" (B, ...), "label" (L, ...)} with L <= B; all other keys that every item has are
        collated as MONAI does.

    Raises:
        ValueError: when no item has a label.
    """
    items = [item for entry in batch for item in (entry if isinstance(entry, list) else [entry])]
    labelled = [item for item in items if "label" in item]
    if not labelled:
        raise ValueError("batch: expected a labelled item, but none has a label; use a TwoStreamSampler.")
    items = labelled + [item for item in items if "label" not in item]
    shared = set.intersection(*map(set, items)) - {"label"}
    collated = list_data_collate([{key: value for key, value in item.items() if key in shared} for item in items])
    return {**collated, **list_data_collate([{"label": item["label"]} for item in labelled])}
