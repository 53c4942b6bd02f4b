from __future__ import annotations

from collections import Counter

import pytest
import torch
from monai.data import DataLoader, Dataset

from weakmedsam_ext.data import TwoStreamSampler, collate_two_streams


def items(labelled, unlabelled):
    with_label = [{"image": torch.full((1, 2), i), "label": torch.full((1, 2), i)} for i in range(labelled)]
    return with_label + [{"image": torch.full((1, 2), labelled + i)} for i in range(unlabelled)]


def test_an_epoch_is_one_pass_over_the_unlabelled_stream_while_the_other_repeats():
    sampler = TwoStreamSampler(items(2, 12), 1, 3)
    batches = list(sampler)
    assert len(sampler) == len(batches) == 4
    assert sorted(index for batch in batches for index in batch[1:]) == list(range(2, 14))
    assert Counter(batch[0] for batch in batches) == {0: 2, 1: 2}
    assert {batches[0][0], batches[1][0]} == {0, 1}  # a permutation ends before the next begins


def test_an_epoch_is_one_pass_over_the_labelled_stream_or_a_number_of_batches():
    assert len(TwoStreamSampler(items(5, 12), 2, 1, epoch_stream="labelled")) == 3
    batches = list(TwoStreamSampler(items(5, 3), 2, 2, num_batches=20))
    assert len(batches) == 20 and all(len(batch) == 4 for batch in batches)
    assert Counter(index for batch in batches for index in batch[:2]) == dict.fromkeys(range(5), 8)
    counts = Counter(index for batch in batches for index in batch[2:])
    assert set(counts) == {5, 6, 7} and max(counts.values()) - min(counts.values()) <= 1


def test_one_labelled_case_is_in_every_batch_of_one_long_epoch_of_workers():
    data = items(1, 7)
    sampler = TwoStreamSampler(data, 1, 3, num_batches=6)
    loader = DataLoader(Dataset(data), num_workers=1, batch_sampler=sampler, collate_fn=collate_two_streams)
    seen = [(batch["image"][:, 0, 0].tolist(), batch["label"].shape) for batch in loader]
    assert [indices for indices, _ in seen] == list(sampler)
    assert all(indices[0] == 0 and shape == (1, 1, 2) for indices, shape in seen)


def test_the_order_depends_on_seed_and_epoch_only():
    sampler = TwoStreamSampler(items(4, 9), 2, 2)
    first = list(sampler)
    torch.manual_seed(7)
    assert list(sampler) == first
    sampler.set_epoch(3)
    third = list(sampler)
    assert third != first
    again = TwoStreamSampler(items(4, 9), 2, 2, seed=3)
    assert list(again) == third
    fewer = TwoStreamSampler(items(4, 9), 2, 0, num_batches=5, seed=3)
    assert [batch[:2] for batch in third] == list(fewer)  # the supervised baseline sees the same labelled items


def test_processes_share_the_batches_of_an_epoch():
    alone = list(TwoStreamSampler(items(3, 14), 1, 2, num_batches=8))
    shared = [TwoStreamSampler(items(3, 14), 1, 2, num_replicas=2, rank=rank) for rank in range(2)]
    assert [len(sampler) for sampler in shared] == [4, 4]
    assert [list(sampler) for sampler in shared] == [alone[::2], alone[1::2]]
    with pytest.raises(ValueError, match="expected 0 <= rank < num_replicas, but got rank=2 and num_replicas=2"):
        TwoStreamSampler(items(3, 14), num_replicas=2, rank=2)


def test_items_are_found_by_their_label_and_collated_first():
    data = items(2, 2)
    data = [data[2], data[0], data[3], data[1]]
    sampler = TwoStreamSampler(data, 2, 1)
    assert (sampler.labelled, sampler.unlabelled) == ([1, 3], [0, 2])
    batch = collate_two_streams([{**data[0], "case": "c"}, [{**data[1], "case": "a"}], {**data[3], "case": "b"}])
    assert batch["case"] == ["a", "b", "c"]
    assert batch["image"][:, 0, 0].tolist() == [0, 1, 2] and batch["label"][:, 0, 0].tolist() == [0, 1]


def test_impossible_streams_are_refused():
    with pytest.raises(ValueError, match="data: expected a labelled item, but none of 3 has a label"):
        TwoStreamSampler(items(0, 3))
    with pytest.raises(ValueError, match="all are labelled; set unlabelled_per_batch to 0"):
        TwoStreamSampler(items(3, 0))
    with pytest.raises(ValueError, match="expected labelled_per_batch >= 1.*but got labelled_per_batch=0"):
        TwoStreamSampler(items(3, 3), 0)
    with pytest.raises(ValueError, match="a pass over them never ends"):
        TwoStreamSampler(items(3, 3), 1, 0)
    with pytest.raises(ValueError, match="lab"):
        TwoStreamSampler(items(3, 3), epoch_stream="lab")
    with pytest.raises(ValueError, match="batch: expected a labelled item"):
        collate_two_streams(items(0, 2))
