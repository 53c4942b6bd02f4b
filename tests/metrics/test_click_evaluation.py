from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from weakmedsam_ext.data import build_region_store, build_slice_store, write_nifti
from weakmedsam_ext.metrics import (
    NetworkAnswer,
    SliceClickItems,
    SuperpixelAnswer,
    best_single_click_mask,
    best_superpixel_levels,
    click_dialogue,
    evaluate_clicks,
    evaluate_superpixels,
    find_structures,
    format_click_table,
)
from weakmedsam_ext.networks import build_network


class Scripted:
    """Answers what it is told: for click n, the masks and predicted IoU that `script(item, n)` gives."""

    def __init__(self, script, takes_background_clicks=True, takes_masks=False):
        self.script = script
        self.takes_background_clicks = takes_background_clicks
        self.takes_masks = takes_masks
        self.seen = []

    def start(self, item):
        return item

    def answer(self, started, points, point_labels, multimask, mask_logits):
        self.seen.append((points.clone(), point_labels.clone(), multimask, mask_logits))
        return self.script(started, points.shape[2])


def logits(masks):
    """(Q, *spatial) as logits (1, Q, 1, *spatial) and an IoU for each."""
    masks = torch.as_tensor(masks)
    return masks[None, :, None].float() * 2 - 1, torch.ones(1, len(masks), 1)


def item(*structures, case="a", classes=None, regions=None):
    structures = torch.stack([torch.as_tensor(one) for one in structures])
    found = {"case": case, "classes": classes or ["organ"] * len(structures), "structures": structures}
    found["image"] = torch.zeros(1, *structures.shape[1:])
    return found | ({} if regions is None else {"regions": torch.as_tensor(regions)})


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


LEFT = box((8, 8), (0, 8), (0, 4))
SINGLE = box((8, 8), (0, 2), (0, 4))
RIM = box((8, 8), (0, 8), (0, 3))
QUARTERS = np.arange(8).repeat(8).reshape(8, 8).T // 2  # columns in pairs: 0, 1, 2, 3
REGIONS = np.stack([QUARTERS, QUARTERS // 2])
PERFECT = Scripted(lambda one, _: logits(one["structures"]))
EMPTY = Scripted(lambda one, _: logits(torch.zeros_like(one["structures"])))


@pytest.mark.parametrize("shape", [(9, 12), (6, 7, 8)])
def test_a_perfect_answer_scores_1_and_an_empty_one_0(shape):
    one = item(box(shape, (1, 5), (2, 6)), box(shape, (2, 6), (4, 7)))
    for answerer, expected in ((PERFECT, 1), (EMPTY, 0)):
        (row,) = evaluate_clicks(answerer, [one], progress=False).rows
        assert row == {"case": "a", "class": "organ", "structures": 2, **{f"iou_{n}": expected for n in (1, 3, 5)}}


def test_superpixels_by_hand():
    """The first click is in one of two pairs of columns, the second in the other one, which the answer lacks."""
    scores = click_dialogue(SuperpixelAnswer(0), item(LEFT, regions=REGIONS), (1, 2))
    assert scores[1].tolist() == [0.5] and scores[2].tolist() == [1]
    assert click_dialogue(SuperpixelAnswer(1), item(LEFT, regions=REGIONS), (1,))[1].tolist() == [1]


def test_the_last_click_in_a_region_decides():
    """24 of 32 pixels are right; the click on the rest takes all away, and the third one gives them back."""
    scores = click_dialogue(SuperpixelAnswer(1), item(RIM, regions=REGIONS), (1, 2, 3))
    assert [scores[number].tolist() for number in (1, 2, 3)] == [[0.75], [0], [0.75]]


def test_the_best_level_is_chosen_on_training_items_for_each_number_of_clicks():
    # columns 0-2: the pairs give 16/24 or 8/24 at first, then 24/32; the halves 0.75 and, with three clicks, 0.75
    assert best_superpixel_levels([item(RIM, regions=REGIONS)], (1,), progress=False) == {1: 1}
    flags = box((8, 8), (0, 8), (2, 6))
    # the middle columns: one pair gives 0.5, one half 16/48; two clicks give 1 with pairs
    levels = best_superpixel_levels([item(flags, regions=REGIONS)], (1, 2), progress=False)
    assert levels == {1: 0, 2: 0}
    run = evaluate_superpixels([item(LEFT, regions=REGIONS)], {1: 1, 2: 0}, progress=False)
    assert run.rows == [{"case": "a", "class": "organ", "structures": 1, "iou_1": 1.0, "iou_2": 1.0}]
    assert run.metrics["superpixel_levels"] == {"1": 1, "2": 0}


def test_superpixels_need_regions():
    with pytest.raises(ValueError, match="items: expected 'regions' for the superpixels; give the region store"):
        best_superpixel_levels([item(LEFT)], progress=False)


def test_the_mask_of_the_highest_predicted_iou_answers_the_first_click():
    def three(one, number):
        if number > 1:
            return logits(one["structures"])
        masks = torch.stack([one["structures"][0], torch.ones(8, 8, dtype=bool), torch.zeros(8, 8, dtype=bool)])
        return masks[None, None].float() * 2 - 1, torch.tensor([[[0.2, 0.9, 0.3]]])

    answerer = Scripted(three)
    scores = click_dialogue(answerer, item(LEFT), (1, 2))
    assert scores[1].tolist() == [0.5] and scores[2].tolist() == [1]  # everything: 32 of 64
    assert [multimask for *_, multimask, _ in answerer.seen] == [True, False]
    assert [labels.tolist() for _, labels, *_ in answerer.seen] == [[[[1]]], [[[1, 0]]]]
    column = answerer.seen[1][0][0, 0, 1, 1]
    assert column >= 4  # the second click is on what is too much


class ThreeHalves(torch.nn.Module):
    """Three masks of an image of 8 x 8: everything, the left half, nothing; surest of the first.

    The single mask is the upper quarter of that half.
    """

    spatial_dims = 2
    takes_background_clicks = True
    takes_masks = False

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        masks = torch.stack([torch.ones(8, 8), torch.from_numpy(LEFT).float(), torch.zeros(8, 8)])
        self.masks, self.single = 2 * masks - 1, 2 * torch.from_numpy(SINGLE).float()[None] - 1

    def encode(self, image):
        return image, image

    def decode(self, embedding, points, point_labels, multimask=False):
        masks = self.masks if multimask else self.single
        return masks.expand(1, points.shape[1], -1, -1, -1), torch.tensor([0.9, 0.5, 0.1])[: len(masks)].expand(
            1, points.shape[1], -1
        )


def test_the_mask_that_is_best_on_training_items_answers_the_first_click():
    network = ThreeHalves()
    assert best_single_click_mask(network, [item(LEFT)], progress=False) == 1
    assert best_single_click_mask(network, [item(np.ones((8, 8), bool))], progress=False) is None  # as good as mask 0
    assert best_single_click_mask(network, [item(SINGLE)], progress=False) == "single"
    for choice, expected in ((None, [0.5]), (1, [1]), (2, [0]), ("single", [0.25])):
        assert click_dialogue(NetworkAnswer(network, choice), item(LEFT), (1,))[1].tolist() == expected
    # the second click is answered by the single mask
    assert click_dialogue(NetworkAnswer(network, 0), item(LEFT), (2,))[2].tolist() == [0.25]
    run = evaluate_clicks(NetworkAnswer(network, 1), [item(LEFT)], num_clicks=(1,), progress=False)
    assert run.metrics["single_click_mask"] == 1


def test_networks_without_background_clicks_get_none():
    everything = Scripted(lambda one, _: logits(torch.ones_like(one["structures"])), takes_background_clicks=False)
    assert click_dialogue(everything, item(LEFT), (1, 3))[3].tolist() == [0.5]
    assert everything.seen[-1][1].tolist() == [[[1, -1, -1]]]


def test_earlier_logits_are_given_to_networks_that_take_masks():
    wrong = Scripted(lambda one, n: logits(torch.full_like(one["structures"], n == 2)), takes_masks=True)
    click_dialogue(wrong, item(LEFT), (3,))
    earlier = [mask_logits for *_, mask_logits in wrong.seen]
    assert earlier[0] is None and torch.all(earlier[1] == -1) and torch.all(earlier[2] == 1)
    assert earlier[1].shape == (1, 1, 1, 8, 8)


def test_where_nothing_is_left_to_click_the_answer_stays():
    spoilt = Scripted(lambda one, n: logits(one["structures"] if n == 1 else ~one["structures"]))
    assert click_dialogue(spoilt, item(LEFT), (1, 3))[3].tolist() == [1]


def test_logits_are_resized_before_they_are_cut():
    half = torch.full((1, 1, 1, 4, 4), -1.0)
    half[..., :2] = 1
    answerer = Scripted(lambda *_: (half, torch.ones(1, 1, 1)))
    assert click_dialogue(answerer, item(LEFT), (1,))[1].tolist() == [1]


def test_first_clicks_are_the_same_whoever_answers_however_often():
    """A baseline that is clicked once, and a network that is clicked three times, start from the same places."""
    items = [item(LEFT, RIM), item(LEFT, case="b"), item(RIM, case="c")]
    first = []
    for script, clicks in ((PERFECT.script, 1), (EMPTY.script, 3)):
        answerer = Scripted(script)
        evaluate_clicks(answerer, items, num_clicks=(clicks,), seed=3, progress=False)
        first.append([points[..., 0, :].tolist() for points, *_ in answerer.seen[::clicks]])
    assert first[0] == first[1]


def test_structures_are_averaged_within_a_case_and_a_class_then_cases(tmp_path):
    def left_half(one, _):
        return logits(torch.as_tensor(LEFT).expand(one["structures"].shape))

    everything = np.ones((8, 8), bool)
    items = [
        item(LEFT, everything, RIM, classes=["liver", "liver", "kidney"]),
        item(LEFT, classes=["liver"], case="b"),
    ]
    run = evaluate_clicks(Scripted(left_half), items, tmp_path, (1,), progress=False)
    assert run.rows == [
        {"case": "a", "class": "liver", "structures": 2, "iou_1": 0.75},
        {"case": "a", "class": "kidney", "structures": 1, "iou_1": 0.75},
        {"case": "b", "class": "liver", "structures": 1, "iou_1": 1.0},
    ]
    summary = run.metrics["summary"]["clicks"]
    assert summary["liver"] == {
        "structures": 3, "iou_1": {"mean": 0.875, "std": 0.125, "median": 0.875, "n": 2},
    }  # fmt: skip
    assert summary["all classes"]["iou_1"]["mean"] == pytest.approx(5 / 6, abs=1e-6)
    assert json.loads((tmp_path / "metrics.json").read_text()) == run.metrics
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{k: str(v) for k, v in row.items()} for row in run.rows]


def test_table():
    titles = {"pre-trained": PERFECT, "random weights": EMPTY}
    runs = {title: evaluate_clicks(one, [item(LEFT)], progress=False).metrics for title, one in titles.items()}
    lines = format_click_table(runs).splitlines()
    assert lines[0].split() == ["organ", "pre-trained", "random", "weights"]
    assert lines[1].split() == ["IoU", "after", "1", "click", "1.000", "(0.000)", "0.000", "(0.000)"]
    assert lines[3].split()[:4] == ["IoU", "after", "5", "clicks"] and lines[4].split() == ["structures", "1", "1"]
    with pytest.raises(ValueError, match="evaluations: 'x' is no evaluation of clicks"):
        format_click_table({"x": {"summary": {}}})


@pytest.mark.parametrize("name", ["efficient_sam_tiny", "samus_tiny", "sam_vit_tiny"])
def test_networks_answer(name):
    network = build_network(name, img_size=64).train()
    one = item(box((64, 64), (10, 30), (10, 40)), box((64, 64), (40, 60), (10, 20)))
    one["image"] = torch.rand(1, 64, 64)
    runs = [evaluate_clicks(network, [one], progress=False).rows for _ in range(2)]
    assert runs[0] == runs[1] and not network.training
    assert 0 <= runs[0][0]["iou_5"] < 1


def test_volumes_are_answered():
    network = build_network("sam_med3d_tiny", img_size=32)
    one = item(box((32, 32, 32), (4, 20), (6, 20), (8, 24)))
    one["image"] = torch.rand(1, 32, 32, 32)
    assert NetworkAnswer(network).takes_masks
    assert set(evaluate_clicks(network, [one], num_clicks=(1, 2), progress=False).rows[0]) >= {"iou_1", "iou_2"}


def test_nothing_to_score_and_wrong_numbers():
    with pytest.raises(ValueError, match="items: expected at least one structure, but got none; lower min_size"):
        evaluate_clicks(PERFECT, [], progress=False)
    with pytest.raises(ValueError, match=r"num_clicks: expected numbers of at least 1, but got \(0, 1\)"):
        evaluate_clicks(PERFECT, [item(LEFT)], num_clicks=(0, 1), progress=False)


def test_structures_by_hand():
    mask = np.zeros((6, 8), int)
    mask[0:2, 0:2], mask[4:6, 0:3], mask[0:3, 5:8], mask[5, 7] = 1, 1, 4, 2
    names, structures = find_structures(mask, {"liver": 1, "tumour": [2, 4]}, min_size=2)
    assert names == ["liver", "liver", "tumour"] and structures.flatten(1).sum(1).tolist() == [4, 6, 9]
    assert find_structures(mask, {"liver": 1}, min_size=7)[1].shape == (0, 6, 8)


@pytest.fixture
def study(tmp_path):
    """Two cases of six slices; the organ, a bright square, is on slices 1 to 4."""
    cases = []
    for name in "ab":
        mask = np.zeros((32, 32, 6), np.uint8)
        mask[8:20, 8:20, 1:5] = 3
        noise = np.random.default_rng(ord(name)).normal(0, 0.01, mask.shape)
        for kind, array in (("image", (mask / 4 + noise).astype(np.float32)), ("label", mask)):
            write_nifti(array, np.eye(4), tmp_path / f"{name}_{kind}.nii.gz")
        cases.append({"case": name, **{kind: str(tmp_path / f"{name}_{kind}.nii.gz") for kind in ("image", "label")}})
    slices = build_slice_store(cases, tmp_path / "slices", 32, content_threshold=None, progress=False)
    return cases, slices, build_region_store(slices, tmp_path / "regions", min_size=0.01, method="slic", progress=False)


def test_slices_with_structures(study):
    cases, slices, regions = study
    items = list(SliceClickItems(slices, cases, {"organ": 3}, regions))
    assert [one["case"] for one in items] == ["a"] * 4 + ["b"] * 4
    assert items[0]["image"].shape == (1, 32, 32) and items[0]["regions"].shape == (3, 32, 32)
    assert items[0]["classes"] == ["organ"] and items[0]["structures"].sum() == 144
    assert torch.equal(items[0]["structures"][0], items[0]["image"][0] > 0.5)
    levels = best_superpixel_levels(items, progress=False)
    assert evaluate_superpixels(items, levels, progress=False).rows[0]["iou_1"] == 1
    assert "regions" not in next(iter(SliceClickItems(slices, cases, {"organ": 3})))


def test_drawn_slices_depend_on_seed_and_case_only(study):
    cases, slices, _ = study

    def drawn(cases, seed):
        return [one["image"] for one in SliceClickItems(slices, cases, {"o": 3}, max_slices_per_case=2, seed=seed)]

    both = drawn(cases, 0)
    assert len(both) == 4 and all(torch.equal(x, y) for x, y in zip(both[2:], drawn(cases[1:], 0), strict=True))
    others = [drawn(cases, seed) for seed in range(1, 6)]
    assert any(not torch.equal(x, y) for other in others for x, y in zip(both, other, strict=True))


def test_cases_without_masks_or_classes_are_refused(study):
    cases, slices, _ = study
    with pytest.raises(ValueError, match="cases: 'a' has no mask to score against; leave it out"):
        SliceClickItems(slices, [{"case": "a", "image": "x"}], {"organ": 3})
    with pytest.raises(ValueError, match="expected at least one case and one class, but got 2 and 0"):
        SliceClickItems(slices, cases, {})


@pytest.mark.parametrize("place", ["alone", "last", "between"])
@pytest.mark.parametrize("answer", [EMPTY, PERFECT, SuperpixelAnswer(0)], ids=["empty", "perfect", "superpixels"])
def test_the_clicks_of_a_case_do_not_depend_on_the_others(place, answer):
    """Of a case of two images, alone, after two other cases, and among them."""
    one = [item(LEFT, RIM, case="x", regions=REGIONS), item(SINGLE, case="x", regions=REGIONS)]
    a, b = (item(RIM, LEFT, SINGLE, case=case, regions=REGIONS) for case in "ab")
    lists = {"alone": one, "last": [a, b, *one], "between": [a, one[0], b, one[1]]}

    def clicks(items, seed):
        given = {}

        class Watched:
            takes_background_clicks, takes_masks = True, False

            def start(self, item):
                self.case = item["case"]
                return answer.start(item)

            def answer(self, started, points, point_labels, **others):
                given.setdefault(self.case, []).append(points.tolist())
                return answer.answer(started, points, point_labels, **others)

        return evaluate_clicks(Watched(), items, num_clicks=(1, 3), seed=seed, progress=False).rows, given["x"]

    rows, points = clicks(one, 3)
    found, same = clicks(lists[place], 3)
    assert same == points and [row for row in found if row["case"] == "x"] == rows
    assert clicks(one, 4)[1] != points
