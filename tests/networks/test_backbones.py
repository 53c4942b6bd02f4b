from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from weakmedsam_ext.networks import (
    SAMUS,
    EfficientSAM,
    SAMMed3D,
    SAMViT,
    WeakMedSAMNet,
    build_network,
    load_checkpoint,
)

TINY_2D = ["samus_tiny", "sam_vit_tiny", "efficient_sam_tiny"]


@pytest.fixture(scope="module", params=TINY_2D)
def network(request):
    torch.manual_seed(0)
    return build_network(request.param).eval()


@pytest.fixture(scope="module")
def network3d():
    torch.manual_seed(0)
    return build_network("sam_med3d_tiny").eval()


def close(got, want):
    torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


@torch.no_grad()
def test_samus_equals_the_original(golden):
    config, inputs, outputs, state = golden("samus_tiny")
    heads = {name: config.pop(name) for name in ("num_classes", "num_subclasses")}
    net = WeakMedSAMNet(SAMUS(**config), **heads).eval()
    load_checkpoint(net, state)
    features, embedding = net.backbone.encode(inputs["image"])
    close(features, outputs["features"])
    close(embedding, outputs["embedding"])
    masks, _ = net.backbone.decode(embedding, inputs["points"].unsqueeze(1), inputs["point_labels"].unsqueeze(1))
    close(masks[:, :, 0], outputs["low_res_mask_logits"])
    class_logits, subclass_logits = net(inputs["image"])
    close(class_logits, outputs["parent_logits"])
    close(subclass_logits, outputs["child_logits"])
    close(net.cam(inputs["image"]), outputs["cam_raw"])


@torch.no_grad()
def test_efficient_sam_equals_the_original(golden):
    config, inputs, outputs, state = golden("efficient_sam_tiny")
    net = EfficientSAM(**config).eval()
    load_checkpoint(net, {"model": state})
    embedding = net.encode(inputs["image"])[1]
    close(embedding, outputs["embedding"])
    for multimask, name in ((False, "singlemask"), (True, "multimask")):
        masks, iou = net.decode(embedding, inputs["points"], inputs["point_labels"], multimask)
        close(masks, outputs[f"{name}_logits"])
        close(iou, outputs[f"{name}_iou"])


@torch.no_grad()
def test_sam_med3d_equals_the_original(golden):
    config, inputs, outputs, state = golden("sam_med3d_tiny")
    net = SAMMed3D(**config).eval()
    load_checkpoint(net, {"model_state_dict": state})
    embedding = net.encode(inputs["image"])
    close(embedding, outputs["embedding"])
    mask_logits = None
    for click in ("click1", "click2"):
        mask_logits, iou = net.decode(embedding, inputs[f"{click}_ijk"], inputs[f"{click}_label"], mask_logits)
        close(mask_logits, outputs[f"{click}_low_res_logits"])
        close(iou, outputs[f"{click}_iou"])


@pytest.mark.parametrize(
    "name, kind, arguments",
    [
        ("sam_vit_b", SAMViT, {}),
        ("sam_med3d_vit_b_ori", SAMMed3D, {}),
        ("efficient_sam_vitt", EfficientSAM, {}),
        ("efficient_sam_vits", EfficientSAM, {"embed_dim": 384, "num_heads": 6}),
        ("samus_vit_b", SAMUS, {}),
    ],
)
def test_full_size_networks_have_the_published_tensors(manifest, name, kind, arguments):
    with torch.device("meta"):
        state = kind(**arguments).state_dict()
    published = {k: tuple(v) for k, v in manifest(name).items() if not k.startswith(("parent_fc", "child_fc"))}
    assert {key: tuple(value.shape) for key, value in state.items()} == published


@torch.no_grad()
def test_many_prompts_at_once_equal_one_by_one(network):
    embedding = network.encode(torch.rand(2, 1, 256, 256))[1]
    points = 255 * torch.rand(2, 16, 2, 2)
    labels = torch.ones(2, 16, 2, dtype=torch.long)
    labels[:, ::3, 1] = -1
    for multimask in (False, True):
        masks, iou = network.decode(embedding, points, labels, multimask)
        assert masks.shape == (2, 16, 3 if multimask else 1, 4 * embedding.shape[2], 4 * embedding.shape[3])
        for b in range(2):
            for q in range(16):
                one = (embedding[b : b + 1], points[b : b + 1, q : q + 1], labels[b : b + 1, q : q + 1], multimask)
                alone, alone_iou = network.decode(*one)
                torch.testing.assert_close(masks[b : b + 1, q : q + 1], alone, rtol=0, atol=1e-5)
                torch.testing.assert_close(iou[b : b + 1, q : q + 1], alone_iou, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_channel_means_three_equal_ones(network):
    image = torch.rand(1, 1, 256, 256)
    torch.testing.assert_close(network.encode(image), network.encode(image.repeat(1, 3, 1, 1)))


@torch.no_grad()
def test_a_different_click_gives_a_different_mask(network):
    embedding = network.encode(torch.rand(1, 3, 256, 256))[1]
    points = torch.tensor([[[[20.0, 30.0]], [[200.0, 180.0]]]])
    masks, _ = network.decode(embedding, points, torch.ones(1, 2, 1))
    assert (masks[:, 0] - masks[:, 1]).abs().max() > 1e-4


@torch.no_grad()
def test_points_are_x_then_y():
    """Transposing the image's content and the point's coordinates must meet at the same token position."""
    network = build_network("sam_vit_tiny").eval()
    x, y = 200.0, 40.0
    points = network.prompt_encoder.embed_points(torch.tensor([[[x, y]]]), torch.ones(1, 1))
    point = points[0, 0] - network.prompt_encoder.point_embeddings[1].weight[0]
    distance = (network.prompt_encoder.get_dense_pe()[0] - point[:, None, None]).norm(dim=0)
    row, column = divmod(int(distance.argmin()), distance.shape[1])
    assert (row, column) == (int(y) // 16, int(x) // 16)


@pytest.mark.parametrize(
    "image, message",
    [
        (torch.rand(1, 2, 256, 256), r"image: expected shape \(B, 1 or 3, 256, 256\), but got \(1, 2, 256, 256\)"),
        (torch.rand(3, 256, 256), r"image: expected shape .* but got \(3, 256, 256\)"),
        (torch.rand(1, 3, 250, 256), r"image: expected spatial size \(256, 256\), but got \(250, 256\); resize"),
        (torch.full((1, 3, 256, 256), torch.nan), "image: expected finite values, but got NaN or infinity"),
        (torch.zeros(1, 3, 256, 256, dtype=torch.uint8), "image: expected a floating point tensor .* got torch.uint8"),
    ],
)
def test_wrong_images_are_refused(network, image, message):
    with pytest.raises(ValueError, match=message):
        network.encode(image)


@pytest.mark.parametrize(
    "points, labels, message",
    [
        (torch.zeros(1, 1, 2), torch.ones(1, 1), r"points: expected shape \(1, Q, N, 2\) .* but got \(1, 1, 2\)"),
        (torch.zeros(1, 4, 1, 3), torch.ones(1, 4, 1), r"points: expected shape .* but got \(1, 4, 1, 3\)"),
        (torch.zeros(2, 4, 1, 2), torch.ones(2, 4, 1), "points: expected shape .* to match the embedding"),
        (torch.zeros(1, 4, 1, 2), torch.ones(1, 4), r"point_labels: expected one label a point, shape \(1, 4, 1\)"),
        (torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 7), r"point_labels: expected values in .* but got \[7\]"),
        (
            torch.full((1, 1, 1, 2), 300.0),
            torch.ones(1, 1, 1),
            r"points: expected coordinates in .* got \[300.0, 300.0\]",
        ),
        (torch.full((1, 1, 1, 2), torch.nan), torch.ones(1, 1, 1), "points: expected coordinates in .* got .nan"),
    ],
)
def test_wrong_points_are_refused(network, points, labels, message):
    with pytest.raises(ValueError, match=message):
        network.decode(torch.zeros(1, 64, 32, 32), points, labels)


def test_padding_points_may_lie_anywhere(network3d):
    embedding = network3d.encode(torch.rand(1, 1, 64, 64, 64))
    points = torch.tensor([[[10.0, 20.0, 30.0], [-1.0, -1.0, -1.0]]])
    network3d.decode(embedding, points, torch.tensor([[1, -1]]))


@pytest.mark.parametrize(
    "shape, message",
    [
        ((1, 3, 64, 64, 64), r"image: expected shape \(B, 1, 64, 64, 64\), but got \(1, 3, 64, 64, 64\)"),
        ((1, 1, 64, 64), "image: expected shape"),
        ((1, 1, 64, 64, 32), r"image: expected spatial size \(64, 64, 64\), but got \(64, 64, 32\)"),
    ],
)
def test_wrong_volumes_are_refused(network3d, shape, message):
    with pytest.raises(ValueError, match=message):
        network3d.encode(torch.rand(shape))


def test_wrong_prompts_in_volumes_are_refused(network3d):
    embedding = torch.zeros(1, 96, 8, 8, 8)
    with pytest.raises(ValueError, match=r"points: expected coordinates in \[0, \(64, 64, 64\)\]"):
        network3d.decode(embedding, torch.tensor([[[1.0, 2.0, 65.0]]]), torch.ones(1, 1))
    with pytest.raises(ValueError, match=r"mask_logits: expected shape \(1, 1, 32, 32, 32\), but got \(1, 1, 64"):
        network3d.decode(embedding, torch.ones(1, 1, 3), torch.ones(1, 1), torch.zeros(1, 1, 64, 64, 64))


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: SAMViT(img_size=250), "img_size: expected a positive multiple of 16, but got 250"),
        (lambda: SAMUS(img_size=250), "img_size: expected a positive multiple of 8, but got 250"),
        (lambda: SAMMed3D(img_size=100), "img_size: expected a positive multiple of patch_size 16, but got 100"),
        (lambda: SAMMed3D(prompt_dim=100), "prompt_dim: expected a multiple of 24"),
        (lambda: EfficientSAM(img_size=250), "patch_stride: expected a divisor of img_size"),
        (lambda: build_network("sam_vit_h"), "sam_vit_h"),
    ],
)
def test_impossible_sizes_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_six_points_at_most_for_efficient_sam():
    net = build_network("efficient_sam_tiny")
    with pytest.raises(ValueError, match="points: expected at most 6 a set, but got 7"):
        net.decode(torch.zeros(1, 64, 32, 32), torch.ones(1, 1, 7, 2), torch.ones(1, 1, 7))


@pytest.mark.parametrize("stride, tokens", [(16, 16), (8, 32)])
def test_efficient_sam_at_256_pixels(stride, tokens):
    net = build_network("efficient_sam_vitt", img_size=256, patch_stride=stride, depth=1).eval()
    features, embedding = net.encode(torch.rand(1, 1, 256, 256))
    assert features.shape == (1, 192, tokens, tokens)
    assert net.decode(embedding, torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1))[0].shape[-1] == 4 * tokens


@torch.no_grad()
@pytest.mark.parametrize("size", [128, 320])
def test_plain_sam_at_other_sizes(size):
    net = build_network("sam_vit_tiny", img_size=size).eval()
    features, embedding = net.encode(torch.rand(1, 3, size, size))
    assert features.shape == (1, net.feature_dim, size // 16, size // 16)
    assert net.decode(embedding, torch.ones(1, 1, 1, 2), torch.ones(1, 1, 1))[0].shape[-1] == size // 4


@torch.no_grad()
def test_export_gives_the_same_answer(network):
    arguments = (torch.rand(1, 3, 256, 256), 200 * torch.rand(1, 4, 1, 2), torch.ones(1, 4, 1, dtype=torch.long))
    exported = torch.export.export(network, arguments).module()
    for got, want in zip(exported(*arguments), network(*arguments), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@torch.no_grad()
def test_export_of_the_volume_network_gives_the_same_answer(network3d):
    arguments = (torch.rand(1, 1, 64, 64, 64), 60 * torch.rand(1, 1, 3), torch.ones(1, 1, dtype=torch.long))
    exported = torch.export.export(network3d, arguments).module()
    for got, want in zip(exported(*arguments), network3d(*arguments), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("module", ["torchvision", "h5py", "matplotlib"])
def test_networks_import_without(module):
    code = f"import sys; sys.modules[{module!r}] = None; import weakmedsam_ext, weakmedsam_ext.networks"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_imports_quickly():
    code = "import time; t = time.perf_counter(); import weakmedsam_ext; assert time.perf_counter() - t < 3"
    subprocess.run([sys.executable, "-c", code], check=True)
