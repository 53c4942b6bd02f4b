"""Trainers that are given a plain DataLoader say in one sentence what it lacks."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from weakmedsam_ext.engines import (
    AdversarialTrainer,
    MeanTeacherTrainer,
    PromptableEvaluator,
    PromptableTrainer,
    SemiSupervisedTrainer,
    UncertaintyAwareMeanTeacherTrainer,
)
from weakmedsam_ext.networks import MaskDiscriminator, MeanTeacher, build_network

IMAGE = torch.linspace(0, 1, 256).view(1, 16, 16)
LABEL = (IMAGE > 0.5).float()
SEMI = [SemiSupervisedTrainer, MeanTeacherTrainer, UncertaintyAwareMeanTeacherTrainer, AdversarialTrainer]


def loader(*items):
    return DataLoader(Dataset(list(items)), batch_size=2)


def semi_supervised(kind, data):
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,))
    extra = {"teacher": MeanTeacher(network)} if issubclass(kind, MeanTeacherTrainer) else {}
    if kind is AdversarialTrainer:
        discriminator = MaskDiscriminator(3, 4, 2, spatial_dims=2)
        optimizer = torch.optim.Adam(discriminator.parameters())
        extra = {"discriminator": discriminator, "discriminator_optimizer": optimizer}
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    return kind("cpu", 1, data, network, torch.optim.SGD(network.parameters(), 0.1), loss, **extra)


def promptable(kind, data):
    network = build_network("efficient_sam_tiny", img_size=16, depth=1)
    if kind is PromptableEvaluator:
        return kind("cpu", data, network)
    return kind("cpu", 1, data, network, torch.optim.SGD(network.parameters(), 0.1))


ENGINES = [(semi_supervised, kind) for kind in SEMI] + [
    (promptable, PromptableTrainer),
    (promptable, PromptableEvaluator),
]


@pytest.mark.parametrize("make, kind", ENGINES)
def test_no_image(make, kind):
    with pytest.raises(ValueError, match=r"^batch: 'image' is missing beside \['label'\]; add it to the items"):
        make(kind, loader({"label": LABEL}, {"label": LABEL})).run()


@pytest.mark.parametrize("make, kind", ENGINES)
def test_no_label(make, kind):
    remedy = "TwoStreamSampler" if make is semi_supervised else "MaskRegionsd"
    with pytest.raises(ValueError, match=rf"^batch: 'label' is missing beside \['image'\]; .*{remedy}"):
        make(kind, loader({"image": IMAGE}, {"image": IMAGE})).run()


@pytest.mark.parametrize("workers", [0, 1])
def test_both_kinds_of_items_without_their_sampler(workers):
    items = [{"image": IMAGE, "label": LABEL}, {"image": IMAGE}]
    data = DataLoader(Dataset(items), batch_size=2, num_workers=workers)
    with pytest.raises(ValueError, match="^train_data_loader: some items lack 'label'.*use a TwoStreamSampler"):
        semi_supervised(SemiSupervisedTrainer, data).run()


def test_another_key_error_keeps_its_name():
    data = loader({"image": IMAGE, "label": LABEL, "more": 1}, {"image": IMAGE, "label": LABEL})
    with pytest.raises(KeyError, match="more"):
        semi_supervised(SemiSupervisedTrainer, data).run()
