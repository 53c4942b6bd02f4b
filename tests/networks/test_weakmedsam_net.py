from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from torch import nn

from weakmedsam_ext.losses import SubclassLoss, subclass_target
from weakmedsam_ext.networks import SAMUS, EfficientSAM, WeakMedSAMNet, build_network, set_trainable


class FixedFeatures(nn.Module):
    """A backbone whose features are the image itself."""

    feature_dim = 3

    def encode(self, image):
        return image, image


def test_logits_and_maps_by_hand():
    net = WeakMedSAMNet(FixedFeatures(), num_classes=2, num_subclasses=1)
    with torch.no_grad():
        net.class_head.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 2, -1]]).view(2, 3, 1, 1))
    image = torch.tensor([[[0.0, 4], [8, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 8]]]).unsqueeze(0)
    class_logits, subclass_logits = net(image)
    assert class_logits.tolist() == [[3.0, 0.0]]  # means 3, 1, 2
    assert subclass_logits.shape == (1, 3)
    assert net.cam(image)[0].tolist() == [[[0, 4], [8, 0]], [[2, 2], [2, -6]]]  # no ReLU, no scaling


def test_maps_average_to_the_class_logits():
    net = WeakMedSAMNet(build_network("efficient_sam_tiny", depth=1), 3, 2).eval()
    image = torch.rand(2, 1, 256, 256)
    torch.testing.assert_close(net.cam(image).mean((2, 3)), net(image)[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_classification_computes_no_cells_of_masks(monkeypatch):
    backbone = build_network("samus_small", img_size=64, depth=1, global_attn_indexes=(0,)).eval()
    net, image = WeakMedSAMNet(backbone, 1, 2), torch.rand(1, 1, 64, 64)
    want = net.class_head(backbone.encode(image)[0])
    monkeypatch.setattr(backbone.click_affinity, "append", None)
    assert torch.equal(net.cam(image), want)
    torch.testing.assert_close(net(image)[0], want.mean((2, 3)))


def test_policy_samus_trains_exactly_what_was_released(manifest):
    with torch.device("meta"):
        net = WeakMedSAMNet(SAMUS(), 1, 8, trainable="samus")
    renamed = {"parent_fc.weight": "class_head.weight", "child_fc.weight": "subclass_head.weight"}
    released = {renamed.get(key, f"backbone.{key}") for key in manifest("samus_vit_b_trainable")}
    trained = {name: p.numel() for name, p in net.named_parameters() if p.requires_grad}
    assert set(trained) == released
    assert sum(trained.values()) == 68_019_200


def test_policies_heads_and_all():
    net = WeakMedSAMNet(build_network("samus_tiny"), 2, 3)
    assert all(p.requires_grad for p in net.parameters())
    assert set_trainable(net, "heads") == ["class_head.weight", "subclass_head.weight"]
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["class_head.weight", "subclass_head.weight"]
    assert len(set_trainable(net, "all")) == len(list(net.parameters()))


def test_policy_samus_freezes_prompts_and_decoder_of_any_backbone():
    net = WeakMedSAMNet(EfficientSAM(img_size=64, embed_dim=24, depth=6, num_heads=2, prompt_dim=32), 1, 2, "samus")
    trained = [name for name, p in net.named_parameters() if p.requires_grad]
    assert {name.split(".")[3] for name in trained if ".blocks." in name} == {"2", "3", "4", "5"}
    assert not any("prompt_encoder" in name or "mask_decoder" in name or "neck" in name for name in trained)


def test_a_training_step_changes_only_what_trains():
    net = WeakMedSAMNet(build_network("samus_tiny"), 1, 2, trainable="samus")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    optimiser = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), lr=0.1)
    sum(logits.square().sum() for logits in net(torch.rand(1, 1, 256, 256))).backward()
    optimiser.step()
    for name, parameter in net.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, before[name])
    assert not torch.equal(net.class_head.weight, before["class_head.weight"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((0, 8), "num_classes: expected at least 1, but got 0"),
        ((1, 0), "num_subclasses: expected at least 1, but got 0"),
        ((1, 8, "everything"), "everything"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WeakMedSAMNet(FixedFeatures(), *arguments)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("name", ["samus_tiny", "efficient_sam_tiny"])
def test_a_step_on_a_gpu_lowers_the_loss_of_sub_classes(name, amp):
    network = WeakMedSAMNet(build_network(name, img_size=64), 2, 3, "all").cuda().train()
    image = torch.rand(4, 1, 64, 64)
    target = subclass_target(torch.tensor([[0, -1], [1, 2], [-1, -1], [-1, 0]]), 3)
    trainer = SupervisedTrainer(
        "cuda",
        30,
        [{"image": image, "label": target}],
        network,
        torch.optim.AdamW(network.parameters(), 1e-3),
        SubclassLoss(2, 3),
        decollate=False,
        amp=amp,
    )
    losses = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"].detach()))
    )
    trainer.run()
    assert all(torch.isfinite(torch.tensor(losses))) and losses[-1] < losses[0]
    with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
        cam = network.eval().cam(image.cuda())
        torch.testing.assert_close(cam.cpu(), network.cpu().cam(image), rtol=1e-2, atol=1e-2)
