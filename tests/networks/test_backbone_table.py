import pytest
import torch

from weakmedsam_ext.networks import (
    BACKBONES,
    EfficientNetLite,
    PromptAffinity,
    WeakMedSAMNet,
    backbone_default,
    build_backbone,
    build_network,
    build_prompter,
    check_weights,
    prompter_checkpoint,
)
from weakmedsam_ext.networks.weakmedsam_net import pooled_logits


def test_topk_pooling_is_the_mean_of_the_highest_valid_cells():
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert pooled_logits(maps, "topk", 0.25).item() == pytest.approx((15 + 14 + 13 + 12) / 4)
    valid = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    valid[..., 3, :] = False
    assert pooled_logits(maps, "topk", 0.25, valid).item() == pytest.approx((11 + 10 + 9) / 3)
    assert pooled_logits(maps, "mean", valid=valid).item() == pytest.approx(5.5)


def test_logsumexp_pooling_lies_between_mean_and_maximum():
    maps = torch.randn(2, 3, 5, 5, generator=torch.manual_seed(0))
    pooled = pooled_logits(maps, "logsumexp")
    expected = maps.flatten(2).exp().mean(-1).log()
    torch.testing.assert_close(pooled, expected)
    assert (pooled >= maps.mean((2, 3))).all() and (pooled <= maps.amax((2, 3))).all()


def test_every_cell_taken_is_the_published_mean():
    network = WeakMedSAMNet(build_network("efficient_sam_tiny", img_size=32), 2, 3)
    other = WeakMedSAMNet(network.backbone, 2, 3, pooling="topk", pool_fraction=1.0)
    other.load_state_dict(network.state_dict())
    image = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(network(image)[0], other(image)[0], rtol=1e-4, atol=1e-5)


def test_heads_have_their_own_learning_rate():
    network = WeakMedSAMNet(build_network("efficient_sam_tiny", img_size=32), 2, 3, head_bias=True)
    heads, others = network.parameter_groups(1e-3, 10)
    assert (heads["lr"], others["lr"]) == (1e-2, 1e-3)
    assert len(heads["params"]) == 3  # two weights and a bias
    assert len(heads["params"]) + len(others["params"]) == len(list(network.parameters()))


@pytest.mark.parametrize("name", [name for name, one in BACKBONES.items() if not one.has_weights])
def test_no_network_starts_from_random_weights(name):
    with pytest.raises(ValueError, match=f"backbone: '{name}' has no weights to start from; give .* checkpoint"):
        build_backbone(name)
    check_weights(name, None, pretrain=True)
    check_weights(name, "file.pth")


def test_the_prompted_network_is_a_choice_of_its_own():
    assert backbone_default("samus_vit_b", "prompter") == "sam_vit_b"
    assert prompter_checkpoint("sam_vit_b", "samus_vit_b", "sam.pth") == "sam.pth"
    assert prompter_checkpoint("click_net_2d", "samus_vit_b", "sam.pth") is None
    network = WeakMedSAMNet(build_backbone("click_net_2d", img_size=32), 1, 2)
    assert build_prompter("classifier", network) is network.backbone
    assert build_prompter("click_net_2d", network, img_size=32) is not network.backbone
    with pytest.raises(ValueError, match="prompter: 'efficientnet_lite0' cannot be prompted here"):
        build_prompter("efficientnet_lite0", network)


def test_a_prompted_network_of_another_size_gets_the_image_resized():
    affinity = PromptAffinity(build_network("efficient_sam_tiny", img_size=64), grid_size=2, size=16)
    valid = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    assert affinity(torch.rand(1, 1, 32, 32), valid).shape == (1, 1, 16, 16)


def test_imagenet_backbone_has_the_published_weights_and_answers():
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra imagenet")
    from efficientnet_lite_pytorch import EfficientNet

    network = build_backbone("efficientnet_lite0", img_size=64).eval()
    assert isinstance(network, EfficientNetLite)
    features = network.encode_features(torch.rand(2, 1, 64, 64))
    assert features.shape == (2, network.feature_dim, 8, 8)
    random = EfficientNet.from_name("efficientnet-lite0")._conv_stem.weight
    assert (network.trunk.stem[0].weight - random).abs().max() > 0.1
    # an edge detector of ImageNet answers an edge, whatever the brightness of a flat image
    flat, edge = torch.full((1, 1, 64, 64), 0.5), torch.zeros(1, 1, 64, 64)
    edge[..., 32:] = 1
    assert network.trunk.stem(edge.expand(-1, 3, -1, -1)).std() > network.trunk.stem(flat.expand(-1, 3, -1, -1)).std()
