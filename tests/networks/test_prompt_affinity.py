from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from weakmedsam_ext.networks import (
    COMBINATIONS,
    AffinityRandomWalk,
    PromptAffinity,
    Prompter,
    build_network,
    point_grid,
)


class Halves(nn.Module):
    """A promptable network that knows the left and the right half of any image, and counts what it is asked."""

    img_size = 64
    feature_dim = 1

    def __init__(self):
        super().__init__()
        self.encoded = self.decoded = 0

    def encode(self, image):
        self.encoded += 1
        return image[:, :1], image[:, :1]

    def decode(self, embedding, points, point_labels, multimask=False):
        self.decoded += points.shape[1]
        assert (point_labels == 1).all()
        left = (torch.arange(128) < 64).float().expand(128, 128) * 2 - 1
        sign = torch.where(points[..., 0, 0] < 32, 1.0, -1.0)[..., None, None]
        masks = (10 * sign * left).unsqueeze(2)
        return (masks.repeat(1, 1, 3, 1, 1) if multimask else masks), torch.zeros(*points.shape[:2], 1)


def test_defect_1_points_cover_the_whole_image():
    points = point_grid(256, 4)[:, 0]
    assert points[0].tolist() == [32, 32] and points[1].tolist() == [96, 32] and points[-1].tolist() == [224, 224]
    assert torch.equal(points, PromptAffinity(build_network("efficient_sam_tiny", depth=1)).points[:, 0])
    for g in (1, 3, 16):
        grid = point_grid(100, g)[:, 0]
        assert len(grid.unique(dim=0)) == g * g
        torch.testing.assert_close(grid.mean(0), torch.tensor([50.0, 50.0]))  # centred
        assert grid.min() == pytest.approx(50 / g) and grid.max() == pytest.approx(100 - 50 / g)


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_defect_2_one_encoding_answers_all_prompts(combine):
    backbone = Halves()
    PromptAffinity(backbone, 4, combine)(torch.rand(3, 1, 64, 64))
    assert (backbone.encoded, backbone.decoded) == (1, 16)


def test_combinations_by_hand():
    image = torch.rand(1, 1, 64, 64)
    guide = {name: PromptAffinity(Halves(), 4, name)(image)[0] for name in COMBINATIONS}
    assert guide["sum_logits"].shape == (1, 64, 64) and guide["probabilities"].shape == (16, 64, 64)
    # half of the points see each half, so that opposite answers cancel in every sum
    assert guide["sum_logits"].abs().max() == guide["mean_logits"].abs().max() == 0
    torch.testing.assert_close(guide["mean_probability"], torch.full((1, 64, 64), 0.5))
    difference = (guide["probabilities"][:, 0, 0] - guide["probabilities"][:, 0, 63]).abs().mean()
    assert difference > 0.99


def test_defect_3_the_mean_does_not_grow_with_the_grid():
    backbone = build_network("efficient_sam_tiny", depth=1).eval()
    embedding = torch.randn(1, 64, 32, 32)
    with torch.no_grad():
        span = {
            (name, g): float(m.max() - m.min())
            for name in ("sum_logits", "mean_logits", "mean_probability")
            for g in (2, 8)
            for m in [PromptAffinity(backbone, g, name).guide(embedding)]
        }
    assert span["sum_logits", 8] > 6 * span["sum_logits", 2]
    assert span["mean_logits", 8] < 2 * span["mean_logits", 2]
    assert span["mean_probability", 8] < 2 * span["mean_probability", 2]


@pytest.mark.parametrize("combine", COMBINATIONS)
@pytest.mark.parametrize("scale", [None, 2])
def test_prompts_in_parts_give_the_same_guide(combine, scale):
    backbone, image = build_network("efficient_sam_tiny", depth=1).eval(), torch.rand(2, 1, 256, 256)
    with torch.no_grad():
        whole = PromptAffinity(backbone, 3, combine, scale=scale)(image)
        parts = PromptAffinity(backbone, 3, combine, scale=scale, prompt_batch_size=2)(image)
    torch.testing.assert_close(whole, parts, rtol=0, atol=1e-5)


def test_guide_has_the_asked_size():
    assert PromptAffinity(Halves(), 2, size=64)(torch.rand(1, 1, 64, 64)).shape[-1] == 64  # 128 cells averaged
    assert PromptAffinity(Halves(), 2, size=48)(torch.rand(1, 1, 64, 64)).shape[-1] == 48  # interpolated


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"grid_size": 0}, "grid_size: expected at least 1, but got 0"),
        ({"size": 0}, "size: expected at least 1"),
        ({"prompt_batch_size": -1}, "prompt_batch_size: expected at least 1, but got -1"),
        ({"combine": "product"}, "product"),
        ({"scale": 3}, "3"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        PromptAffinity(Halves(), **arguments)


@torch.no_grad()
def test_features_are_those_of_the_cells_and_nothing_is_asked(monkeypatch):
    torch.manual_seed(0)
    network = build_network("samus_small", img_size=64, depth=1, global_attn_indexes=(0,)).eval()
    image = torch.rand(2, 1, 64, 64)
    cells = Prompter(network).cell_features(network.encode(image)[1])
    monkeypatch.setattr(network, "decode", None)
    assert torch.equal(PromptAffinity(network, combine="features", size=32)(image), cells)
    halved = PromptAffinity(network, combine="features", size=16)(image)
    torch.testing.assert_close(halved, cells.unflatten(-1, (16, 2)).unflatten(-3, (16, 2)).mean((-1, -3)))


class Recording(Halves):
    def decode(self, embedding, points, point_labels, multimask=False):
        self.points = points
        return super().decode(embedding, points, point_labels, multimask)


def test_points_lie_over_the_image_not_over_its_padding():
    backbone = Recording()
    valid = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    valid[0, 0, 10:42, :], valid[1, 0, :, 48:56] = True, True
    PromptAffinity(backbone, 2)(torch.rand(2, 1, 64, 64), valid)
    # x and y: a half and three halves of half the size of the valid box
    assert backbone.points[0, :, 0].tolist() == [[16, 18], [48, 18], [16, 34], [48, 34]]
    assert backbone.points[1, :, 0].tolist() == [[50, 16], [54, 16], [50, 48], [54, 48]]


@pytest.mark.parametrize("combine", COMBINATIONS)
def test_all_valid_is_the_same_as_no_mask_and_metadata_do_no_harm(combine):
    image, valid = torch.rand(2, 1, 64, 64), torch.ones(2, 1, 64, 64, dtype=torch.bool)
    affinity = PromptAffinity(Halves(), 4, combine, prompt_batch_size=3)
    assert torch.equal(affinity(image), affinity(image, valid))
    with torch.no_grad():
        assert torch.equal(affinity(image), affinity(MetaTensor(image), MetaTensor(valid)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("combine", [*COMBINATIONS, "features"])
@pytest.mark.parametrize("name", ["efficient_sam_tiny", "samus_small"])
def test_guides_and_walks_on_a_gpu_are_those_of_the_cpu(combine, name):
    affinity = PromptAffinity(build_network(name, img_size=64), 4, combine, size=16, prompt_batch_size=5).eval()
    walk = AffinityRandomWalk(radius=3, beta=4.0, num_steps=8)
    image, cam = torch.rand(2, 1, 64, 64), torch.rand(2, 2, 16, 16)
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        guide = affinity(image)
        walked = walk(cam, guide)
        on_gpu = affinity.cuda()(image.cuda())
        walked_on_gpu = walk(cam.cuda(), on_gpu)
        with torch.autocast("cuda"):
            half = affinity(image.cuda())
    torch.testing.assert_close(on_gpu.cpu(), guide, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(walked_on_gpu.cpu(), walked, rtol=0, atol=1e-2)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.cpu(), guide, rtol=0.1, atol=0.1 * float(guide.abs().max()))
