from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator
from monai.engines.utils import PrepareBatchExtraInput
from monai.inferers import SimpleInferer
from torch import nn
from torch.nn import functional as F

from weakmedsam_ext.networks import AffinityRandomWalk, CAMPseudoLabeler, PromptAffinity, WeakMedSAMNet, build_network
from weakmedsam_ext.networks.affinity_random_walk import min_max_scale
from weakmedsam_ext.networks.cam_pseudo_labeler import soft_to_mask

SIZE = 64


class Maps(nn.Module):
    """A CAM network whose activation maps are the channels of the image."""

    class Backbone(nn.Module):
        img_size = SIZE

        def encode(self, image):
            return image, image

    def __init__(self, num_classes):
        super().__init__()
        self.backbone = self.Backbone()
        self.class_head = nn.Conv2d(num_classes, num_classes, 1, bias=False)
        nn.init.dirac_(self.class_head.weight)


def blob(y, x, width=6.0, peak=1.0):
    grid = torch.arange(SIZE).float()
    return peak * torch.exp(-((grid[:, None] - y) ** 2 + (grid - x) ** 2) / (2 * width**2))


@pytest.fixture
def four_classes():
    """K = 4 with overlapping evidence; class 3 is weak everywhere, under class 0."""
    return torch.stack([blob(20, 20), blob(20, 34), blob(44, 44, 8), blob(20, 20, 3, 0.01)]).unsqueeze(0)


def labels_of(mask):
    return sorted(mask.unique().tolist())


def test_defect_4_every_class_is_written(four_classes):
    mask = CAMPseudoLabeler(Maps(4), output="mask")(four_classes, torch.ones(1, 4))
    assert mask.dtype == torch.uint8 and labels_of(mask) == [0, 1, 2, 3, 4]
    assert mask[0, 0, 20, 16] in (1, 4) and mask[0, 0, 20, 38] == 2 and mask[0, 0, 44, 44] == 3


def test_overlapping_classes_go_to_the_larger_value(four_classes):
    steps = CAMPseudoLabeler(Maps(4)).steps(four_classes, torch.tensor([[1, 1, 0, 0]]))
    soft, mask = steps.soft[0], steps.mask[0, 0]
    assert torch.equal(mask == 1, (soft[0] > 0.5) & (soft[0] >= soft[1]))
    assert torch.equal(mask == 2, (soft[1] > 0.5) & (soft[1] > soft[0]))


def test_known_labels_gate_the_classes_whatever_is_predicted(four_classes):
    """No black mask where the label says a class is there, no foreground where it says none."""
    labeler = CAMPseudoLabeler(Maps(4), output="mask")
    for label in ([0, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0], [0, 1, 1, 1]):
        mask = labeler(four_classes - 5, torch.tensor([label]))  # no class is predicted: all activations are negative
        assert labels_of(mask) == [0] + [k + 1 for k in range(4) if label[k]]


def test_a_class_that_others_cover_keeps_its_peak():
    soft = torch.zeros(2, 2, 8, 8)
    soft[:, 0] = 0.9
    soft[0, 1, 3, 4] = 0.8
    mask = soft_to_mask(soft, 0.5)
    assert mask[0, 0, 3, 4] == 2 and (mask[0] == 1).sum() == 63
    assert (mask[1] == 1).all()  # absent: its map is zero


@pytest.mark.parametrize("height", [0.4, 0.8])
def test_classes_with_one_peak_do_not_take_it_from_each_other(height):
    """As organs side by side have it where the classifier sees coarsely: all of them below or above the threshold."""
    soft = torch.rand(1, 4, 8, 8, generator=torch.manual_seed(0)) / 10
    soft[..., 5, 2] = height
    mask = soft_to_mask(soft, 0.5)[0, 0]
    assert sorted(mask[mask > 0].tolist()) == [1, 2, 3, 4] and mask[5, 2] == 1
    soft[..., torch.arange(64).view(8, 8) != 5 * 8 + 2] = 0  # there is one pixel only: one class has it
    assert soft_to_mask(soft, 0.5).count_nonzero() == 1


def test_a_batch_equals_its_images_one_by_one(four_classes):
    labeler = CAMPseudoLabeler(Maps(4))
    images, labels = torch.cat([four_classes, four_classes.flip(1, 2)]), torch.tensor([[1, 1, 0, 1], [0, 1, 1, 0]])
    together = labeler(images, labels)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], labeler(images[i : i + 1], labels[i : i + 1]))


def test_scaling_equals_the_original(golden):
    _, _, outputs, _ = golden("samus_tiny")
    cam = F.interpolate(outputs["cam_raw"], (256, 256), mode="bilinear", align_corners=False)
    torch.testing.assert_close(min_max_scale(cam)[..., ::4, ::4], outputs["cam_minmax_256_stride4"], rtol=0, atol=1e-6)


def test_blur_is_a_gaussian_of_21_pixels_with_mirrored_borders():
    labeler = CAMPseudoLabeler(Maps(1))
    assert len(labeler.kernel) == 21 and labeler.kernel.sum() == pytest.approx(1)
    assert labeler.kernel[10] / labeler.kernel[13] == pytest.approx(
        torch.tensor(9 / (2 * 3.5**2)).exp().item(), rel=1e-4
    )
    corner = torch.zeros(1, 1, SIZE, SIZE)
    corner[..., :32, :32] = 1
    soft = labeler(corner, torch.ones(1, 1))
    assert soft[0, 0, 0, 0] > 0.999  # zeros beyond the border would take three quarters of it
    assert CAMPseudoLabeler(Maps(1), blur_kernel_size=1)(corner, torch.ones(1, 1)).unique().numel() == 2


def test_without_affinity_there_is_no_walk():
    image = torch.rand(1, 1, SIZE, SIZE)
    steps = CAMPseudoLabeler(Maps(1)).steps(image, torch.ones(1, 1))
    assert steps.guide is None and torch.equal(steps.cam, steps.refined)


class Counting(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.img_size, self.feature_dim = backbone, backbone.img_size, backbone.feature_dim
        self.encoded = 0

    def encode(self, image):
        self.encoded += 1
        return self.backbone.encode(image)

    def decode(self, *args):
        return self.backbone.decode(*args)


@torch.no_grad()
def test_defect_2_the_whole_labeler_encodes_an_image_once():
    backbone = Counting(build_network("efficient_sam_tiny", depth=1))
    net = WeakMedSAMNet(backbone, 2, 2).eval()
    labeler = CAMPseudoLabeler(net, PromptAffinity(backbone, 2), AffinityRandomWalk(num_steps=2))
    image, label = torch.rand(2, 1, 256, 256), torch.tensor([[1, 0], [1, 1]])
    together = labeler.steps(image, label)
    assert backbone.encoded == 1
    other = Counting(backbone.backbone)  # a second network, for example the one before it was fine-tuned
    separate = CAMPseudoLabeler(net, PromptAffinity(other, 2), AffinityRandomWalk(num_steps=2)).steps(image, label)
    assert other.encoded == 1
    for got, want in zip(together, separate, strict=True):
        torch.testing.assert_close(got, want)
    assert not torch.equal(together.cam, together.refined)


def test_works_as_the_network_of_a_monai_evaluator(four_classes):
    data = [{"image": four_classes[0], "label": torch.zeros(1), "class_label": torch.tensor([1.0, 0, 1, 0])}] * 2
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=torch.utils.data.DataLoader(data, batch_size=2),
        network=CAMPseudoLabeler(Maps(4), output="mask"),
        inferer=SimpleInferer(),
        prepare_batch=PrepareBatchExtraInput({"class_label": "class_label"}),
    )
    evaluator.run()
    assert [labels_of(item["pred"]) for item in evaluator.state.output] == [[0, 1, 3], [0, 1, 3]]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: CAMPseudoLabeler(Maps(1), blur_kernel_size=4), "blur_kernel_size: expected an odd number"),
        (lambda: CAMPseudoLabeler(Maps(1), threshold=1.0), "threshold: expected a value between 0 and 1, but got 1.0"),
        (lambda: CAMPseudoLabeler(Maps(1), output="logits"), "logits"),
        (lambda: CAMPseudoLabeler(Maps(2))(torch.rand(1, 2, 64, 64), torch.ones(1, 3)), r"expected shape \(1, 2\)"),
        (lambda: CAMPseudoLabeler(Maps(1))(torch.rand(1, 1, 64, 64), torch.full((1, 1), 0.5)), "expected 0 or 1"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.fixture
def padded(four_classes):
    """Slices whose columns are image from 16 to 47; the padding holds the largest activations."""
    valid = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    valid[..., 16:48] = True
    return torch.where(valid, four_classes, 7.0), valid


@pytest.mark.parametrize("kernel", [1, 9])
def test_padding_takes_no_part(four_classes, padded, kernel):
    """Whatever the padding holds, the result is the same, and nothing lies in it."""
    labeler, label = CAMPseudoLabeler(Maps(4), walk_size=32, blur_kernel_size=kernel), torch.ones(1, 4)
    image, valid = padded
    steps = labeler.steps(image, label, valid)
    clean = labeler.steps(torch.where(valid, image, 0.0), label, valid)
    torch.testing.assert_close(steps.soft, clean.soft)
    torch.testing.assert_close(steps.soft.amax((2, 3)), torch.ones(1, 4))
    assert not steps.soft[~valid.expand_as(steps.soft)].any() and not steps.mask[~valid].any()
    assert not torch.equal(labeler(image, label), steps.soft)  # without the mask of padding


def test_blur_at_padding_is_a_weighted_mean_of_image_pixels(padded):
    _, valid = padded
    image = torch.where(valid, torch.rand(1, 1, SIZE, SIZE), 50.0)
    labeler = CAMPseudoLabeler(Maps(1), walk_size=SIZE, blur_kernel_size=5)
    got = labeler(image, torch.ones(1, 1), valid)[0, 0, :, 16:48]
    scaled = min_max_scale(image[..., 16:48])
    # the oracle goes along every axis on its own; rows end at the image's border, which mirrors, columns at padding
    rows = F.pad(scaled, (0, 0, 2, 2), mode="reflect")
    rows = sum(k * rows[..., i : i + SIZE, :] for i, k in enumerate(labeler.kernel))
    columns, weights = F.pad(rows, (2, 2)), F.pad(torch.ones_like(rows), (2, 2))
    total, weight = (sum(k * x[..., i : i + 32] for i, k in enumerate(labeler.kernel)) for x in (columns, weights))
    torch.testing.assert_close(got, min_max_scale(total / weight)[0, 0], rtol=0, atol=1e-5)


def test_walk_and_blur_with_padding_on_top_of_a_batch(padded):
    """A padded slice and one that fills the square give together what they give alone."""
    image, valid = padded
    images, masks = torch.cat([image, image.flip(2)]), torch.cat([valid, torch.ones_like(valid)])
    label = torch.ones(2, 4)
    labeler = CAMPseudoLabeler(Maps(4))
    labeler.affinity = Guide()
    together = labeler(images, label, masks)
    torch.testing.assert_close(together[:1], labeler(images[:1], label[:1], masks[:1]))
    torch.testing.assert_close(together[1:], labeler(images[1:], label[1:]))


class Guide(nn.Module):
    """An affinity whose guide is the mean of the image's channels."""

    backbone = None

    def forward(self, image, valid=None):
        return image.mean(1, keepdim=True)


def test_only_valid_pixels_is_the_same_as_no_mask(four_classes):
    labeler = CAMPseudoLabeler(Maps(4))
    for valid in (torch.ones(1, 1, SIZE, SIZE, dtype=torch.bool), torch.ones(1, 1, SIZE, SIZE)):
        assert torch.equal(labeler(four_classes, torch.ones(1, 4), valid), labeler(four_classes, torch.ones(1, 4)))


@torch.no_grad()
def test_metadata_of_monai_do_no_harm(padded):
    backbone = build_network("efficient_sam_tiny", depth=1, img_size=SIZE)
    labeler = CAMPseudoLabeler(WeakMedSAMNet(backbone, 2, 2).eval(), PromptAffinity(backbone, 2))
    given = torch.rand(1, 1, SIZE, SIZE), torch.ones(1, 2), padded[1]
    assert torch.equal(labeler(*map(MetaTensor, given)), labeler(*given))


@pytest.mark.parametrize(
    ("valid", "message"),
    [
        (torch.ones(1, 1, 8, 8), r"valid: expected shape \(1, 1, 64, 64\), but got \(1, 1, 8, 8\)"),
        (torch.zeros(1, 1, 64, 64), "valid: expected at least one valid pixel in every image, but got none"),
    ],
)
def test_bad_masks_of_padding_are_refused(valid, message):
    with pytest.raises(ValueError, match=message):
        CAMPseudoLabeler(Maps(1))(torch.rand(1, 1, SIZE, SIZE), torch.ones(1, 1), valid)


def test_maps_of_several_sizes_are_averaged():
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra imagenet")
    network = WeakMedSAMNet(build_network("efficientnet_lite0", img_size=64), 2, 2, head_bias=True)
    network.eval()
    image, label = torch.rand(1, 1, 64, 64), torch.ones(1, 2)

    def cam(*scales):
        labeler = CAMPseudoLabeler(network, walk_size=16, blur_kernel_size=1, scaling="logit", scales=scales)
        with torch.no_grad():
            return labeler.steps(image, label).cam.logit()

    torch.testing.assert_close(cam(1.0, 1.5), (cam(1.0) + cam(1.5)) / 2, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(cam(1.0), cam(1.5), atol=1e-3)
    with pytest.raises(ValueError, match="scales: expected"):
        CAMPseudoLabeler(network, scales=(0,))
