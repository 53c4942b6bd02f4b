from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import PromptableNetwork, Prompter, build_network


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True])
def test_points_of_images_are_row_then_column(multimask):
    network = build_network("sam_vit_tiny", img_size=64).eval()
    prompter = Prompter(network)
    embedding = prompter.encode(torch.rand(2, 1, 64, 64))
    points, labels = torch.randint(64, (2, 3, 2, 2)), torch.tensor([1, 0]).expand(2, 3, 2)
    masks = torch.randn(2, 3, 1, 16, 16)
    got = prompter.answer(embedding, points, labels, multimask, masks)
    want = network.decode(embedding, points[..., [1, 0]].float(), labels, multimask, masks)
    assert got[0].shape == (2, 3, 3 if multimask else 1, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@torch.no_grad()
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("with_masks", [False, True])
def test_prompt_sets_on_volumes_equal_one_after_the_other(multimask, with_masks):
    network = build_network("sam_med3d_tiny", img_size=32, depth=1).eval()
    prompter = Prompter(network)
    embedding = prompter.encode(torch.rand(2, 1, 32, 32, 32))
    points, labels = torch.randint(32, (2, 3, 2, 3)), torch.tensor([1, 0]).expand(2, 3, 2)
    masks = torch.randn(2, 3, 1, 16, 16, 16) if with_masks else None
    logits, iou = prompter.answer(embedding, points, labels, multimask, masks)
    assert logits.shape == (2, 3, 3 if multimask else 1, 16, 16, 16)
    for q in range(3):
        earlier = None if masks is None else masks[:, q]
        alone = network.decode(embedding, points[:, q].float(), labels[:, q], earlier, multimask)
        torch.testing.assert_close(logits[:, q], alone[0], rtol=0, atol=1e-5)
        torch.testing.assert_close(iou[:, q], alone[1], rtol=0, atol=1e-5)


def test_a_network_without_mask_prompts_says_so():
    prompter = Prompter(build_network("efficient_sam_tiny", img_size=32, depth=1))
    assert (prompter.spatial_dims, prompter.takes_background_clicks, prompter.takes_masks) == (2, False, False)
    arguments = torch.zeros(1, 64, 4, 4), torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1)
    assert prompter.answer(*arguments)[0].shape == (1, 1, 1, 16, 16)
    with pytest.raises(ValueError, match="mask_logits: EfficientSAM takes no mask prompts; leave them out"):
        prompter.answer(*arguments, mask_logits=torch.zeros(1, 1, 1, 16, 16))


class PromptSets(PromptableNetwork):
    """A network for volumes whose `decode` answers Q prompt sets itself, by the points' first coordinate."""

    spatial_dims = 3
    takes_prompt_sets = True

    def decode(self, embedding, points, point_labels, multimask=False, mask_logits=None):
        masks = points[:, :, :1, :1].unsqueeze(-1).expand(-1, -1, 3 if multimask else 1, 2, 2)
        return masks.unsqueeze(-1).expand(*masks.shape, 2), torch.zeros(masks.shape[:3])


def test_networks_for_volumes_may_answer_prompt_sets_themselves():
    points = torch.arange(12).view(2, 2, 1, 3)
    masks, iou = Prompter(PromptSets()).answer(torch.zeros(2, 4, 1, 1, 1), points, torch.ones(2, 2, 1), True)
    assert masks.shape == (2, 2, 3, 2, 2, 2) and iou.shape == (2, 2, 3)
    assert masks.flatten(2)[..., 0].tolist() == [[0, 3], [6, 9]]
