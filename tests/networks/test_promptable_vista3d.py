"""MONAI's VISTA3D behind our interface gives what MONAI's own network gives."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets.vista3d import vista3d132

from weakmedsam_ext.engines import PromptedGeneralist
from weakmedsam_ext.networks import PromptableVISTA3D, Prompter, build_network

SIZE = 32
ZERO_SHOT = 133  # for MONAI, any class above the 132 that it knows


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """MONAI's own network, smaller, and its weights in a file as MONAI's bundle keeps them."""
    torch.manual_seed(0)
    network = vista3d132(8).eval()
    # at first every answer is nearly the same
    with torch.no_grad():
        for parameter in network.point_head.parameters():
            parameter.mul_(2)
    path = tmp_path_factory.mktemp("vista3d") / "model.pt"
    torch.save(network.state_dict(), path)
    return network, path


@torch.no_grad()
def test_answers_equal_those_of_monai(published):
    original, path = published
    network = build_network("vista3d_tiny", path).eval()
    volumes = torch.rand(2, 1, SIZE, SIZE, SIZE)
    points = torch.randint(0, SIZE, (2, 3, 2, 3))
    labels = torch.tensor([[[1, 0], [1, 1], [1, -1]], [[1, -1], [1, 0], [0, 1]]])
    masks, stability = network(volumes, points, labels)
    assert masks.shape == (2, 3, 1, SIZE, SIZE, SIZE) and stability.shape == (2, 3, 1)
    for volume in range(2):
        wanted = original(
            volumes[volume : volume + 1],
            point_coords=points[volume],
            point_labels=labels[volume],
            prompt_class=torch.full((3,), ZERO_SHOT),
        )
        assert torch.allclose(masks[volume], wanted, atol=1e-4)
        assert not torch.allclose(masks[volume, 0], masks[volume, 1], atol=1e-3)
        for k in range(3):
            expected = (wanted[k] > 1).sum() / (wanted[k] > -1).sum().clamp(min=1)
            assert stability[volume, k, 0].item() == pytest.approx(expected.item(), abs=1e-3)
    three, three_stability = network(volumes, points, labels, multimask=True)
    assert torch.equal(three, masks.expand(-1, -1, 3, -1, -1, -1))
    assert torch.equal(three_stability, stability.expand(-1, -1, 3))


def test_another_networks_file_is_refused(published):
    with pytest.raises(ValueError, match="does not fit SAMMed3D, nothing was loaded"):
        build_network("sam_med3d_tiny", published[1])
    with pytest.raises(ValueError, match="does not fit PromptableVISTA3D, nothing was loaded"):
        build_network("vista3d", published[1])


def test_a_generalist_that_takes_points_alone():
    torch.manual_seed(0)
    generalist = PromptedGeneralist(build_network("vista3d_tiny"), "none", num_clicks=2)
    logits = torch.full((1, 2, 24, 24, 16), -3.0)
    logits[:, 0] = 3.0
    logits[:, 1, 4:12, 4:12, 4:12] = 6.0
    found = generalist(torch.rand(1, 1, 24, 24, 16), logits)
    assert found.probability.shape == (1, 1, 24, 24, 16) and found.weight.flatten().tolist() == [1]
    assert 0 < found.probability.std()
    with pytest.raises(ValueError, match="prompt: PromptableVISTA3D takes no masks; use 'point' or 'uncertainty'"):
        PromptedGeneralist(build_network("vista3d_tiny"), "none", prompt="mask")


def test_gradients_reach_encoder_and_point_head_alone():
    network = build_network("vista3d_tiny")
    masks, _ = network(torch.rand(1, 1, SIZE, SIZE, SIZE), torch.full((1, 1, 1, 3), 9.0), torch.ones(1, 1, 1))
    masks.square().mean().backward()
    learnt = {name.split(".")[0] for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert learnt == {"image_encoder", "point_head"}
    prompter = Prompter(network)
    assert (prompter.spatial_dims, prompter.takes_masks, prompter.mask_scale) == (3, False, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"img_size": 40}, "img_size: expected a positive multiple of 16, but got 40"),
        ({"embed_dim": 12}, "embed_dim: expected a positive multiple of 8, but got 12"),
    ],
)
def test_sizes_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        PromptableVISTA3D(**{"img_size": 32, "embed_dim": 8, **wrong})


def test_what_it_cannot_answer_is_refused():
    network = build_network("vista3d_tiny")
    embedding = torch.rand(1, 8, SIZE, SIZE, SIZE)
    point, label = torch.ones(1, 1, 1, 3), torch.ones(1, 1, 1)
    with pytest.raises(ValueError, match="mask_logits: VISTA3D takes no mask prompts"):
        network.decode(embedding, point, label, mask_logits=torch.zeros(1, 1, 1, SIZE, SIZE, SIZE))
    with pytest.raises(ValueError, match="points: expected coordinates in"):
        network.decode(embedding, point + SIZE, label)
    with pytest.raises(ValueError, match="image: expected spatial size"):
        network.encode(torch.rand(1, 1, 16, 16, 16))
