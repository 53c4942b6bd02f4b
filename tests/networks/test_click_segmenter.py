from __future__ import annotations

import pytest
import torch
from torch import nn

from weakmedsam_ext.networks import ClickSegmenter, Prompter, build_network, load_checkpoint


class Told(nn.Module):
    """Answers every prompt set by maps of constant value, and remembers the prompts."""

    spatial_dims, takes_background_clicks, takes_masks = 2, True, False

    def __init__(self):
        super().__init__()
        self.asked = []

    def encode(self, image):
        return None, image

    def decode(self, embedding, points, point_labels, multimask=False):
        self.asked.append((points, point_labels, multimask))
        values = torch.tensor([1.0, 2.0, 3.0] if multimask else [7.0])
        iou = torch.tensor([0.1, 0.9, 0.5] if multimask else [0.4])
        shape = *points.shape[:2], len(values)
        return values.view(1, 1, -1, 1, 1).expand(*shape, 4, 4), iou.expand(shape)


def clicked(*maps, size=(8, 8)):
    image = torch.rand(len(maps), 2, *size)
    image[:, 1] = 0
    for item, clicks in zip(image, maps, strict=True):
        for *where, value in clicks:
            item[(1, *where)] = value
    return image


def test_each_item_is_answered_by_its_own_clicks():
    network = Told()
    image = clicked([(2, 3, 1)], [], [(0, 7, 1), (5, 6, -1)], [(1, 1, 1), (2, 2, 1), (3, 3, -1)])
    logits = ClickSegmenter(network)(image)
    assert logits.shape == (4, 1, 8, 8)
    # one click: the mask whose IoU is predicted highest; none: nothing; several: the single mask
    assert [item.unique().item() for item in logits] == [2, -10, 7, 7]
    (points, labels, multimask), (several, several_labels, single) = network.asked
    assert multimask and points.tolist() == [[[[3, 2]]]] and labels.tolist() == [[[1]]]  # x, y
    assert not single and several_labels.tolist() == [[[1, 0, -1]], [[1, 1, 0]]]
    assert several[0, 0, :2].tolist() == [[7, 0], [6, 5]]


@pytest.mark.parametrize(("single_click_mask", "value"), [(0, 1), (1, 2), (2, 3), ("single", 7)])
def test_a_chosen_mask_answers_one_click_and_no_other(single_click_mask, value):
    image = clicked([(2, 3, 1)], [(0, 7, 1), (5, 6, -1)])
    logits = ClickSegmenter(Told(), single_click_mask)(image)
    assert [item.unique().item() for item in logits] == [value, 7]


def test_only_one_of_three_masks_can_be_chosen():
    with pytest.raises(ValueError, match="single_click_mask: expected 0, 1, 2, 'single' or None, but got 3"):
        ClickSegmenter(Told(), 3)


def test_values_between_are_no_clicks():
    """So random input, with which the model zoo checks networks, is answered too."""
    assert (ClickSegmenter(Told())(torch.rand(2, 2, 8, 8) * 0.99) == -10).all()


@pytest.mark.parametrize(("name", "size"), [("efficient_sam_tiny", (32, 32)), ("sam_med3d_tiny", (64, 64, 64))])
def test_as_asking_the_network_itself(name, size):
    network = build_network(name, img_size=size[0]).eval()
    where = (10, 20, 30)[: len(size)]
    image = clicked([(*where, 1)], size=size)
    with torch.no_grad():
        logits = ClickSegmenter(network)(image)
        prompter = Prompter(network)
        prompts = torch.tensor(where).view(1, 1, 1, -1), torch.ones(1, 1, 1, dtype=torch.long)
        masks, iou = prompter.answer(prompter.encode(image[:, :1]), *prompts, multimask=True)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    expected = nn.functional.interpolate(masks[0, :, iou[0, 0].argmax()][None], size, mode=mode, align_corners=False)
    torch.testing.assert_close(logits, expected)


def test_weights_go_from_and_to_the_network_alone(tmp_path):
    segmenter, network = (build_network("efficient_sam_tiny", img_size=32) for _ in range(2))
    segmenter = ClickSegmenter(segmenter)
    torch.save(segmenter.state_dict(), tmp_path / "model.pt")
    assert load_checkpoint(network, tmp_path / "model.pt") == []
    torch.testing.assert_close(network.state_dict(), segmenter.backbone.state_dict(), rtol=0, atol=0)
    other = ClickSegmenter(build_network("efficient_sam_tiny", img_size=32))
    assert load_checkpoint(other, network.state_dict()) == []
    torch.testing.assert_close(other.state_dict(), segmenter.state_dict(), rtol=0, atol=0)


def test_errors():
    with pytest.raises(ValueError, match=r"image: expected \(B, 2, \*spatial\) with 2 axes, but got \(1, 1, 8, 8\)"):
        ClickSegmenter(Told())(torch.zeros(1, 1, 8, 8))
    network = ClickSegmenter(build_network("efficient_sam_tiny", img_size=32))
    with pytest.raises(ValueError, match="EfficientSAM takes no background clicks"):
        network(clicked([(1, 1, 1), (2, 2, -1)], size=(32, 32)))
