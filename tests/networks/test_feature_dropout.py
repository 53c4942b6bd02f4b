from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.networks.nets import SegResNet

from weakmedsam_ext.networks import ThinVNet, build_specialist, dropped_features


@pytest.mark.parametrize("name", ["unet", "batch_norm_unet", "thin_vnet"])
def test_half_of_the_channels_at_every_level_and_only_inside(name, monkeypatch):
    network = build_specialist(name, channels=4).eval()
    image = torch.rand(2, 1, 16, 16, 32)
    usual, seen, levels = network(image), [], [1, 2, 4, 8, 16]

    def drop(features, rate):
        seen.append((features.shape[1], features.shape[2]))
        return torch.nn.functional.dropout(features, 0.0) if rate == 0 else features * rate

    monkeypatch.setattr("weakmedsam_ext.networks.feature_dropout.F", SimpleNamespace(dropout3d=drop))
    with dropped_features(network, 0.0):
        torch.testing.assert_close(network(image), usual)
    assert sorted(size for _, size in seen) == levels
    with dropped_features(network):
        assert not torch.allclose(network(image), usual)
    torch.testing.assert_close(network(image), usual)


def test_levels_of_the_encoder_see_all_channels():
    network = ThinVNet(channels=2).eval()
    seen = []
    network.body.inner.inner.encoder.register_forward_hook(lambda *given: seen.append(given[-1]))
    image = torch.rand(1, 1, 16, 16, 32)
    network(image)
    with dropped_features(network):
        network(image)
    torch.testing.assert_close(seen[0], seen[1])


def test_each_image_drops_its_own_channels_and_the_others_grow():
    network = build_specialist("unet", channels=8).eval()
    given = []
    network.upcat_4.upsample.register_forward_pre_hook(lambda module, values: given.append(values[0]))
    image = torch.rand(1, 1, 16, 16, 32).expand(3, -1, -1, -1, -1)
    network(image)
    torch.manual_seed(0)
    with dropped_features(network):
        network(image)
    whole, dropped = given
    kept = dropped != 0
    torch.testing.assert_close(dropped[kept], 2 * whole[kept])
    part = kept.float().mean((1, 2, 3, 4))
    assert ((part > 0.25) & (part < 0.75)).all() and not torch.equal(kept[0], kept[1])


def test_features_come_back_whole_after_an_error():
    network = build_specialist("unet", channels=4).eval()
    with pytest.raises(ZeroDivisionError), dropped_features(network):
        _ = 1 / 0
    image = torch.rand(1, 1, 16, 16, 32)
    torch.testing.assert_close(network(image), network(image))


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match="features of SegResNet cannot be dropped"), dropped_features(SegResNet()):
        pass
