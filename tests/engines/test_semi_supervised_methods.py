from __future__ import annotations

import pytest
import torch
from generalists import tiny_generalist
from monai.data import DataLoader, Dataset

from weakmedsam_ext.engines import METHODS, SigmoidRampup, build_generalist, semi_supervised_trainer
from weakmedsam_ext.networks import MaskDiscriminator, MeanTeacher

TINY = {"name": "sam_med3d_tiny", "img_size": 32, "depth": 1, "global_attn_indexes": (0,), "normalization": "none"}


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_what_is_its_own(method):
    network = torch.nn.Conv3d(1, 2, 1)
    discriminator = MaskDiscriminator(3, 2, 1)
    trainer = semi_supervised_trainer(
        method,
        device="cpu",
        max_epochs=1,
        train_data_loader=DataLoader(Dataset([0])),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=torch.nn.MSELoss(),
        teacher=MeanTeacher(network),
        noise=0.5,
        consistency_weight=SigmoidRampup(0.3),
        discriminator=discriminator,
        discriminator_optimizer=torch.optim.Adam(discriminator.parameters()),
        adversarial_weight=SigmoidRampup(0.2),
    )
    assert type(trainer) is METHODS[method][0]
    weights = {name: schedule.weight for name, (schedule, _) in trainer.unlabelled_losses.items()}
    own = {"supervised": {}, "adversarial": {"adversarial": 0.2}}
    assert weights == own.get(method, {"consistency": 0.3})
    assert getattr(trainer, "noise", None) == (0.5 if "teacher" in METHODS[method][1] else None)


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="mean_techer"):
        semi_supervised_trainer("mean_techer")


def test_generalists_are_read_from_their_checkpoints(tmp_path):
    network = tiny_generalist(seed=3)
    torch.save(network.state_dict(), tmp_path / "own.pt")
    read = {**TINY, "checkpoint": str(tmp_path / "own.pt")}
    both = build_generalist([read, {**TINY, "checkpoint": None, "normalization": "above_zero"}], prompt="mask")
    assert both.prompt == "mask" and both.normalization == ("none", "above_zero")
    first, second = (prompter.network.state_dict() for prompter in both.prompters)
    assert all(torch.equal(value, first[name]) for name, value in network.state_dict().items())
    assert not all(torch.equal(value, second[name]) for name, value in network.state_dict().items())
    assert build_generalist([]) is None


def test_generalists_that_say_too_little():
    with pytest.raises(ValueError, match=r"generalist .*sam_med3d_tiny.*: \['checkpoint', 'normalization'\] are miss"):
        build_generalist([{"name": "sam_med3d_tiny"}])
