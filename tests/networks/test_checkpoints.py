from __future__ import annotations

import argparse

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from weakmedsam_ext.networks import SAMUS, WeakMedSAMNet, build_network, load_checkpoint
from weakmedsam_ext.networks.samus import is_samus_addition


@pytest.fixture
def net():
    return build_network("efficient_sam_tiny", depth=1)


def sam_shaped(network):
    """Random state dict of a SAM of the same width trained at 1024 pixels: no additions, tables of a 64 x 64 grid."""
    state = {key: torch.randn_like(value) for key, value in network.state_dict().items() if not is_samus_addition(key)}
    dim = state["image_encoder.pos_embed"].shape[-1]
    state["image_encoder.pos_embed"] = torch.randn(1, 64, 64, dim)
    for key in state:
        if ".blocks.1.attn.rel_pos_" in key or ".blocks.3.attn.rel_pos_" in key:
            state[key] = torch.randn(127, state[key].shape[-1])
    return state


def assert_untouched(network, before):
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def copy_of(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", ["samus_tiny", "sam_vit_tiny"])
def test_a_sam_file_fits_after_resampling_its_positions(name):
    network = build_network(name)
    state = sam_shaped(network)
    kept = load_checkpoint(network, state)
    assert set(kept) == {key for key in network.state_dict() if is_samus_addition(key)}
    loaded = network.state_dict()
    for key, value in state.items():
        if value.shape == loaded[key].shape:
            assert torch.equal(loaded[key], value)
    table = state["image_encoder.blocks.1.attn.rel_pos_h"]
    rows = 63 if name == "samus_tiny" else 31
    expected = F.interpolate(table.T[None], rows, mode="linear", align_corners=False)[0].T
    assert torch.equal(loaded["image_encoder.blocks.1.attn.rel_pos_h"], expected)
    if name == "sam_vit_tiny":
        positions = state["image_encoder.pos_embed"].unflatten(1, (16, 4)).unflatten(3, (16, 4))
        middle = positions[:, :, 1:3, :, 1:3].mean((2, 4))  # bilinear, without antialiasing: the middle four of 4 x 4
        torch.testing.assert_close(loaded["image_encoder.pos_embed"], middle)


def test_full_size_sam_vit_b_fits_samus(manifest):
    state = {key: torch.rand(shape) for key, shape in manifest("sam_vit_b").items()}
    network = SAMUS()
    load_checkpoint(network, state)
    assert network.image_encoder.blocks[2].attn.rel_pos_h.shape == (63, 64)
    torch.testing.assert_close(
        network.image_encoder.blocks[2].attn.rel_pos_w[31], state["image_encoder.blocks.2.attn.rel_pos_w"][63]
    )
    assert torch.equal(network.image_encoder.neck[0].weight, state["image_encoder.neck.0.weight"])


def test_released_heads_go_into_the_cam_network_and_not_into_a_backbone(golden):
    config, _, _, state = golden("samus_tiny")
    heads = {name: config.pop(name) for name in ("num_classes", "num_subclasses")}
    net = WeakMedSAMNet(SAMUS(**config), **heads)
    assert load_checkpoint(net, state) == []
    assert torch.equal(net.class_head.weight, state["parent_fc.weight"])
    assert torch.equal(net.subclass_head.weight, state["child_fc.weight"])
    backbone = SAMUS(**config)
    load_checkpoint(backbone, net.state_dict())
    assert torch.equal(backbone.image_encoder.pos_embed, state["image_encoder.pos_embed"])
    backbone_alone = {key: value for key, value in state.items() if not key.startswith(("parent_fc", "child_fc"))}
    with pytest.raises(ValueError, match=r"2 missing \(class_head.weight, subclass_head.weight\)"):
        load_checkpoint(net, backbone_alone)


@pytest.mark.parametrize("container", [None, "model", "model_state_dict", "state_dict"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_files_are_read_as_published(net, tmp_path, container, suffix):
    state = {key: torch.randn_like(value) for key, value in net.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file({k: v.contiguous() for k, v in state.items()}, path)
    else:
        torch.save(
            state if container is None else {container: state, "epoch": 3, "args": argparse.Namespace(lr=1)}, path
        )
    assert load_checkpoint(net, path) == []
    assert_untouched(net, state)


def test_a_distributed_checkpoint_loses_its_prefix(net):
    state = {f"module.{key}": torch.randn_like(value) for key, value in net.state_dict().items()}
    load_checkpoint(net, state)
    assert_untouched(net, {key.removeprefix("module."): value for key, value in state.items()})


def shuffled(state):
    keys = list(state)
    return dict(zip(keys, [state[key] for key in reversed(keys)], strict=True))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (shuffled, r"\d+ wrongly shaped \(image_encoder.pos_embed .* instead of \(1, 197, 96\), .*, \.\.\.\)"),
        (lambda s: dict(list(s.items())[:-5]), r"5 missing \(mask_decoder\.iou_prediction_head.*, \.\.\.\)"),
        (lambda s: {"layer1.weight": torch.ones(3)}, r"\d+ missing \(.*\.\.\.\); 1 unexpected \(layer1.weight\)"),
        (lambda s: {**s, "extra": torch.ones(1)}, r"1 unexpected \(extra\)"),
        (lambda s: {}, "holds no state dict"),
        (lambda s: {**s, "epoch": 3}, r"holds 1 entries that are no tensors \(epoch\)"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(net, spoil, message):
    before = copy_of(net)
    state = {key: torch.randn_like(value) for key, value in net.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_checkpoint(net, spoil(state))
    assert_untouched(net, before)


def test_a_window_table_is_never_resampled():
    network = build_network("samus_tiny")
    state = sam_shaped(network)
    state["image_encoder.blocks.0.attn.rel_pos_h"] = torch.randn(127, 24)
    with pytest.raises(
        ValueError, match=r"1 wrongly shaped \(image_encoder.blocks.0.attn.rel_pos_h \(127, 24\) instead"
    ):
        load_checkpoint(network, state)


def test_half_of_the_additions_is_not_a_sam_file():
    network = build_network("samus_tiny")
    state = sam_shaped(network) | {"image_encoder.input_Adapter.D_fc1.bias": torch.zeros(24)}
    with pytest.raises(ValueError, match="missing .image_encoder.cnn_embed"):
        load_checkpoint(network, state)


def test_not_strict_loads_what_fits_and_logs_the_rest(net, caplog):
    state = {key: torch.randn_like(value) for key, value in net.state_dict().items()}
    lost = list(state)[-1]
    kept = load_checkpoint(net, {k: v for k, v in state.items() if k != lost}, strict=False)
    assert kept == [lost] and lost in caplog.text
    assert torch.equal(net.image_encoder.pos_embed, state["image_encoder.pos_embed"])
    with pytest.raises(ValueError, match="does not fit EfficientSAM, nothing was loaded"):
        load_checkpoint(net, {"foreign": torch.ones(1)}, strict=False)


class Malicious:
    def __reduce__(self):
        return (print, ("unpickled",))


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_unreadable_files_are_refused_with_their_name(net, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(FileNotFoundError, match=f"weights{suffix} does not exist; correct the path"):
        load_checkpoint(net, path)
    torch.save(net.state_dict(), path) if suffix == ".pth" else save_file(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"weights{suffix} cannot be read safely .* give a complete file of weights"):
        load_checkpoint(net, path)
    path.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=f"weights{suffix} cannot be read safely"):
        load_checkpoint(net, path)


def test_nothing_is_unpickled(net, tmp_path, capsys):
    torch.save({"model": net.state_dict(), "payload": Malicious()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match="evil.pth cannot be read safely"):
        load_checkpoint(net, tmp_path / "evil.pth")
    assert "unpickled" not in capsys.readouterr().out


def test_build_network_loads_a_checkpoint(net, tmp_path):
    torch.save({"model": net.state_dict()}, tmp_path / "weights.pth")
    built = build_network("efficient_sam_tiny", checkpoint=tmp_path / "weights.pth", depth=1)
    assert_untouched(built, net.state_dict())
