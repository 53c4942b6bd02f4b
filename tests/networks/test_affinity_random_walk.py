from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from weakmedsam_ext.networks import AffinityRandomWalk, affinity_random_walk

# odd, one cell wide, smaller than the radius, a single cell
IMAGES = [(7, 11), (1, 6), (9, 1), (3, 2), (1, 1), (12, 10)]
VOLUMES = [(3, 4, 5), (1, 6, 7), (5, 1, 1), (2, 3, 9)]


def dense_walk(cam, guide, radius, beta, num_steps, propagation, border, renormalize):
    """The published formulas with a dense matrix over all pairs of cells, in float64."""
    shape = cam.shape[2:]
    cells = torch.tensor(list(product(*map(range, shape))))
    linked = (cells[:, None] - cells).pow(2).sum(-1) < radius**2
    if border == "cropped":
        y, x = cells.T
        starts = (y <= shape[0] - radius) & (x >= radius - 1) & (x <= shape[1] - radius)
        half = linked.triu(1) & starts[:, None]
        linked = half | half.T | torch.eye(len(cells), dtype=torch.bool)
    m, maps = guide.double().flatten(2), cam.double().flatten(2)
    affinity = torch.exp(-(m[..., :, None] - m[..., None, :]).abs().mean(1)) ** beta * linked
    transition = affinity / affinity.sum(2 if propagation == "averaging" else 1, keepdim=True)
    for _ in range(num_steps):
        maps = torch.einsum("bij,bcj->bci", transition, maps)
        if renormalize:
            low, high = maps.amin(2, keepdim=True), maps.amax(2, keepdim=True)
            maps = (maps - low + 1e-6) / (high - low + 1e-6)
    return maps.view(cam.shape)


def inputs(shape, batch=2, classes=2, guides=3, dtype=torch.float64):
    return torch.rand(batch, classes, *shape, dtype=dtype), torch.randn(batch, guides, *shape, dtype=dtype)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("averaging_full", {}),
        ("averaging_full_unnormalised", {"renormalize": False}),
        ("diffusion_full", {"propagation": "diffusion"}),
        ("diffusion_cropped_released", {"propagation": "diffusion", "border": "cropped"}),
    ],
)
def test_golden(golden, name, settings, gradients):
    config, given, outputs, _ = golden("affinity_walk")
    walk = AffinityRandomWalk(config["radius"], config["beta"], config["num_steps"], **settings)
    out = walk(given["cam"].requires_grad_(gradients), given["guide"])
    assert out.requires_grad == gradients
    torch.testing.assert_close(out.detach(), outputs[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("radius", [2, 5])
@pytest.mark.parametrize("propagation", ["averaging", "diffusion"])
@pytest.mark.parametrize(
    ("shape", "border"), [*product(IMAGES, ["full", "cropped"]), *product(VOLUMES, ["full"])], ids=str
)
def test_equals_a_dense_matrix_with_and_without_gradients(shape, border, propagation, radius, renormalize):
    cam, guide = inputs(shape)
    settings = {"propagation": propagation, "border": border, "renormalize": renormalize}
    walk = AffinityRandomWalk(radius, 2.0, 3, **settings)
    want = dense_walk(cam, guide, radius, 2.0, 3, **settings)
    torch.testing.assert_close(walk(cam, guide), want, rtol=0, atol=1e-9)
    torch.testing.assert_close(walk(cam, guide.requires_grad_()).detach(), want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("guides", [1, 4])
@pytest.mark.parametrize("batch", [0, 1, 5])
@pytest.mark.parametrize("limit", [1, 800, 1 << 30])
def test_a_batch_walked_in_parts_equals_its_images(monkeypatch, batch, guides, limit):
    monkeypatch.setattr(affinity_random_walk, "_CPU_ELEMENTS", limit)
    cam, guide = inputs((9, 14), batch, guides=guides)
    out = AffinityRandomWalk()(cam, guide)
    want = dense_walk(cam, guide, 5, 4.0, 4, "averaging", "full", True)
    torch.testing.assert_close(out, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("shape", [(8, 9), (4, 5, 6)])
def test_averaging_never_leaves_the_range_of_its_input(shape):
    cam, guide = inputs(shape)
    cam = 8 * cam - 5
    out = AffinityRandomWalk(num_steps=3, renormalize=False)(cam, guide)
    axes = tuple(range(2, cam.ndim))
    assert (out.amax(axes) <= cam.amax(axes) + 1e-12).all() and (out.amin(axes) >= cam.amin(axes) - 1e-12).all()


def test_diffusion_can_exceed_the_maximum_of_its_input():
    cam, guide = torch.ones(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    out = AffinityRandomWalk(num_steps=1, propagation="diffusion", renormalize=False)(cam, guide)
    assert out.max() > 1.1
    # columns of the transition matrix sum to 1: nothing is lost
    torch.testing.assert_close(out.sum(), cam.sum())


@pytest.mark.parametrize("value", [0.0, 0.3, -7.0])
def test_constant_maps_stay_constant(value):
    cam, guide = torch.full((1, 2, 10, 12), value), torch.randn(1, 3, 10, 12)
    out = AffinityRandomWalk(renormalize=False)(cam, guide)
    torch.testing.assert_close(out, cam, rtol=0, atol=1e-5)


def test_an_edge_of_the_guide_stops_the_walk():
    left = (torch.arange(20) < 10).float().expand(1, 1, 16, 20)
    out = AffinityRandomWalk(beta=8.0, renormalize=False)(left, left)
    assert out[..., 10:].max() < 0.01 and out[..., :10].min() > 0.99
    blurred = AffinityRandomWalk(beta=8.0, renormalize=False)(left, torch.zeros_like(left))
    assert blurred[..., 10:].max() > 0.3


def test_radius_one_links_nothing():
    cam, guide = inputs((5, 6))
    for given in (cam, cam.clone().requires_grad_()):
        assert torch.equal(AffinityRandomWalk(radius=1, renormalize=False)(given, guide), cam)


def test_no_steps_return_the_maps():
    cam, guide = inputs((5, 6))
    assert torch.equal(AffinityRandomWalk(num_steps=0)(cam, guide), cam)


def count_links(shape, cell, border):
    """With equal guide values an average over n links leaves 1/n of a single spike."""
    cam = torch.zeros(1, 1, *shape)
    cam[(0, 0, *cell)] = 1
    walk = AffinityRandomWalk(num_steps=1, border=border, renormalize=False)
    return round(1 / walk(cam, torch.zeros_like(cam))[(0, 0, *cell)].item())


@pytest.mark.parametrize(
    ("border", "corner", "edge", "inside"), [("cropped", 1, 3, 69), ("full", 22, 39, 69)], ids=["cropped", "full"]
)
def test_number_of_links(border, corner, edge, inside):
    cells = [(0, 0), (7, 0), (7, 8)]
    assert [count_links((14, 18), cell, border) for cell in cells] == [corner, edge, inside]


def test_number_of_links_of_a_voxel_is_that_of_a_sphere():
    assert count_links((9, 9, 9), (4, 4, 4), "full") == 485


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize(("jump", "connected"), [(10.0, True), (11.0, False), (22.5, False), (1e4, False)])
def test_weights_whose_products_could_be_denormal_are_exactly_zero(jump, connected, gradients):
    # beta * jump: exp(-40) is above the square root of the smallest normal number, exp(-44) below, exp(-90) denormal
    left = (torch.arange(12) < 6).float().expand(1, 1, 6, 12)
    guide = (jump * left).requires_grad_(gradients)
    out = AffinityRandomWalk(num_steps=1, renormalize=False)(left, guide)
    assert bool((out[..., 6:] > 0).any()) == connected
    if gradients:
        (slope,) = torch.autograd.grad(out[..., 6:].sum(), guide)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize(
    ("shape", "border", "propagation"),
    [
        ((4, 5), "full", "averaging"),
        ((4, 5), "cropped", "diffusion"),
        ((2, 2, 3), "full", "averaging"),
        ((2, 2, 3), "full", "diffusion"),
    ],
)
def test_gradients(shape, border, propagation, renormalize):
    walk = AffinityRandomWalk(2, 1.5, 2, propagation, border, renormalize)
    cam, guide = inputs(shape, batch=1)
    assert torch.autograd.gradcheck(walk, (cam.requires_grad_(), guide.requires_grad_()))


def test_inputs_are_not_changed_and_calls_do_not_share_memory():
    cam, guide = inputs((8, 9))
    copies = cam.clone(), guide.clone()
    walk = AffinityRandomWalk(propagation="diffusion", renormalize=False)
    first = walk(cam, guide)
    kept = first.clone()
    walk(cam + 1, guide)
    assert torch.equal(cam, copies[0]) and torch.equal(guide, copies[1]) and torch.equal(first, kept)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close_to_float32(dtype, gradients):
    cam, guide = (x.to(dtype) for x in inputs((12, 13)))
    out = AffinityRandomWalk()(cam.requires_grad_(gradients), guide)
    assert out.dtype == dtype
    want = AffinityRandomWalk()(cam.detach().float(), guide.float())
    torch.testing.assert_close(out.detach().float(), want, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 10), (4, 5, 6)])
def test_traced_and_exported_walks_give_the_same(shape):
    walk, (cam, guide) = AffinityRandomWalk(radius=2, num_steps=2), inputs(shape, dtype=torch.float32)
    want = walk(cam, guide)
    other = cam.flip(0), guide.flip(0)
    for network in (torch.jit.trace(walk, (cam, guide)), torch.export.export(walk, (cam, guide)).module()):
        torch.testing.assert_close(network(cam, guide), want, rtol=0, atol=1e-5)
        torch.testing.assert_close(network(*other), want.flip(0), rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("gradients", [False, True])
def test_cuda_equals_cpu(gradients):
    cam, guide = inputs((32, 33), dtype=torch.float32)
    out = AffinityRandomWalk()(cam.to("cuda").requires_grad_(gradients), guide.to("cuda"))
    torch.testing.assert_close(out.detach().cpu(), AffinityRandomWalk()(cam, guide), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"radius": 0}, "radius: expected at least 1 cell, but got 0"),
        ({"beta": 0.0}, "beta: expected a positive exponent, but got 0.0"),
        ({"beta": float("nan")}, "beta: expected a positive exponent, but got nan"),
        ({"num_steps": -1}, "num_steps: expected 0 or more, but got -1"),
        ({"propagation": "average"}, "averaging"),
        ({"border": "crop"}, "cropped"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AffinityRandomWalk(**settings)


def poisoned(*shape, value):
    x = torch.rand(*shape)
    x.view(-1)[-1] = value
    return x


@pytest.mark.parametrize(
    ("cam", "guide", "message"),
    [
        (torch.rand(1, 8, 8), torch.rand(1, 1, 8, 8), r"cam: expected \(B, C, H, W\).*got \(1, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), torch.rand(8, 8), r"guide: expected \(B, C, H, W\).*got \(8, 8\)"),
        (torch.rand(1, 1, 8, 8), torch.rand(1, 0, 8, 8), r"guide: expected \(B, C, H, W\).*got \(1, 0, 8, 8\)"),
        (poisoned(1, 1, 8, 8, value=float("nan")), torch.rand(1, 1, 8, 8), "cam: expected finite values.*NaN"),
        (torch.rand(1, 1, 8, 8), poisoned(1, 1, 8, 8, value=float("inf")), "guide: expected finite values.*infinity"),
        (torch.ones(1, 1, 8, 8, dtype=torch.long), torch.rand(1, 1, 8, 8), "cam: expected a floating point tensor"),
        (torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8), "guide: expected the batch size of cam, 2, but got 1"),
        (torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 9), r"guide: expected the spatial size.*\(8, 8\).*\(8, 9\)"),
        (torch.rand(1, 1, 8, 8), torch.rand(1, 1, 2, 8, 8), r"guide: expected the spatial size.*\(2, 8, 8\)"),
    ],
)
def test_bad_inputs_are_refused(cam, guide, message):
    with pytest.raises(ValueError, match=message):
        AffinityRandomWalk()(cam, guide)


def test_cropped_border_is_refused_for_volumes():
    with pytest.raises(ValueError, match='border: expected "full" for volumes, but got "cropped"'):
        AffinityRandomWalk(border="cropped")(torch.rand(1, 1, 6, 6, 6), torch.rand(1, 1, 6, 6, 6))


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("limit", [1, 1 << 30])
@pytest.mark.parametrize(
    "settings", [{}, {"propagation": "diffusion"}, {"border": "cropped"}, {"renormalize": False}], ids=str
)
def test_walk_with_padding_equals_the_walk_on_the_image_alone(monkeypatch, settings, limit, gradients):
    """The dense matrix over the cells of each image's own rectangle is the oracle; padding holds anything."""
    monkeypatch.setattr(affinity_random_walk, "_CPU_ELEMENTS", limit)
    cam, guide = inputs((10, 12), 3)
    boxes = [(slice(2, 9), slice(0, 12)), (slice(0, 10), slice(3, 4)), (slice(0, 10), slice(0, 12))]
    valid = torch.zeros(3, 1, 10, 12, dtype=torch.bool)
    for one, box in zip(valid, boxes, strict=True):
        one[0][box] = True
    cam, guide = torch.where(valid, cam, 9.0), torch.where(valid, guide, 0.3)
    all_settings = {"propagation": "averaging", "border": "full", "renormalize": True, **settings}
    out = AffinityRandomWalk(4, 2.0, 3, **settings)(cam.clone().requires_grad_(gradients), guide, valid).detach()
    for one, box in enumerate(boxes):
        part = np.s_[one : one + 1, :, box[0], box[1]]
        want = dense_walk(cam[part], guide[part], 4, 2.0, 3, **all_settings)
        torch.testing.assert_close(out[part], want, rtol=0, atol=1e-9)
    assert not out[~valid.expand_as(out)].any()


def test_walk_with_padding_in_a_volume_equals_the_walk_on_the_image_alone():
    cam, guide = inputs((4, 6, 5), 1)
    valid = torch.zeros(1, 1, 4, 6, 5, dtype=torch.bool)
    valid[..., 1:4, 2:6, :3] = True
    out = AffinityRandomWalk(3)(cam, guide, valid)
    part = np.s_[..., 1:4, 2:6, :3]
    want = dense_walk(cam[part], guide[part], 3, 4.0, 4, "averaging", "full", True)
    torch.testing.assert_close(out[part], want, rtol=0, atol=1e-9)


def test_only_valid_cells_is_the_same_as_no_mask():
    cam, guide = inputs((9, 14))
    assert torch.equal(
        AffinityRandomWalk()(cam, guide, torch.ones(2, 1, 9, 14, dtype=torch.bool)), AffinityRandomWalk()(cam, guide)
    )


@pytest.mark.parametrize("gradients", [False, True])
def test_metadata_of_monai_is_kept(gradients):
    """Once: a TypeError under no_grad, which is how evaluators run."""
    cam, guide = inputs((6, 7), 1)
    affine = torch.diag(torch.tensor([2.0, 3, 1, 1])).double()
    given = MetaTensor(cam, affine=affine).requires_grad_(gradients)
    out = AffinityRandomWalk()(given, MetaTensor(guide), MetaTensor(torch.ones(1, 1, 6, 7, dtype=torch.bool)))
    assert isinstance(out, MetaTensor) and torch.equal(out.affine, affine)
    torch.testing.assert_close(out.as_tensor().detach(), AffinityRandomWalk()(cam, guide))


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        (torch.ones(1, 1, 4, 4), r"valid: expected bool of shape \(1, 1, 4, 4\), but got torch.float32"),
        (
            torch.ones(1, 4, 4, dtype=torch.bool),
            r"valid: expected bool of shape \(1, 1, 4, 4\), but got .* of \(1, 4, 4\)",
        ),
        (torch.zeros(1, 1, 4, 4, dtype=torch.bool), "valid: expected at least one valid cell in every image"),
    ],
)
def test_bad_masks_of_padding_are_refused(valid, message):
    with pytest.raises(ValueError, match=message):
        AffinityRandomWalk()(torch.rand(1, 1, 4, 4), torch.rand(1, 1, 4, 4), valid)
