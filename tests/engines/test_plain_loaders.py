"""Trainers that are given a plain DataLoader say in one sentence what it lacks."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.losses import DiceCELoss
from monai.networks.nets import UNet

from weakmedsam_ext.engines import (
    AdversarialTrainer,
    CopyPasteTrainer,
    MeanTeacherTrainer,
    PromptableEvaluator,
    PromptableTrainer,
    SemiSupervisedTrainer,
    UncertaintyAwareMeanTeacherTrainer,
    UniMatchTrainer,
)
from weakmedsam_ext.networks import MaskDiscriminator, MeanTeacher, build_network
from weakmedsam_ext.transforms import MaskRegionsd

IMAGE = torch.linspace(0, 1, 256).view(1, 16, 16)
LABEL = (IMAGE > 0.5).float()
TAUGHT = (MeanTeacherTrainer, UncertaintyAwareMeanTeacherTrainer, CopyPasteTrainer)
SEMI = [SemiSupervisedTrainer, *TAUGHT, AdversarialTrainer, UniMatchTrainer]


def loader(*items):
    return DataLoader(Dataset(list(items)), batch_size=2)


def semi_supervised(kind, data):
    network = UNet(2, 1, 2, channels=(4, 8), strides=(2,))
    extra = {"teacher": MeanTeacher(network)} if kind in TAUGHT else {}
    if kind is UniMatchTrainer:
        extra = {"strong": torch.nn.Identity()}
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


@pytest.mark.parametrize("make, kind", ENGINES)
@pytest.mark.parametrize("key, other", [("label", "image"), ("image", "label")])
def test_some_items_lack_something(make, kind, key, other):
    remedy = "add it to the items"
    if key == "label":
        remedy = "TwoStreamSampler" if make is semi_supervised else "RegionStore, or of masks by MaskRegionsd"
    full = {"image": IMAGE, "label": LABEL}
    with pytest.raises(ValueError, match=f"^(train|val)_data_loader: some items lack '{key}', .*; .*{remedy}"):
        make(kind, loader(full, {other: full[other]})).run()
    # the collate function of a loader takes the keys of the first item
    with pytest.raises(ValueError, match=rf"^batch: '{key}' is missing beside \['{other}'\]; .*{remedy}"):
        make(kind, loader({other: full[other]}, full)).run()


@pytest.mark.parametrize("make, kind", [(semi_supervised, SemiSupervisedTrainer), (promptable, PromptableTrainer)])
def test_workers_and_loaders_of_pytorch_say_the_same(make, kind):
    items = [{"image": IMAGE, "label": LABEL}, {"image": IMAGE}]
    for data in (
        DataLoader(Dataset(items), batch_size=2, num_workers=1),
        torch.utils.data.DataLoader(items, batch_size=2),
    ):
        with pytest.raises(ValueError, match="^train_data_loader: some items lack 'label'"):
            make(kind, data).run()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_transform_meets_what_is_missing(workers):
    data = Dataset([{"image": IMAGE, "label": LABEL.byte()}, {"image": IMAGE}], MaskRegionsd("label"))
    with pytest.raises(ValueError, match="^train_data_loader: some items lack 'label', .*MaskRegionsd"):
        promptable(PromptableTrainer, DataLoader(data, batch_size=2, num_workers=workers)).run()


@pytest.mark.parametrize("make, kind", [(semi_supervised, SemiSupervisedTrainer), (promptable, PromptableTrainer)])
def test_another_key_error_keeps_its_name(make, kind):
    data = loader({"image": IMAGE, "label": LABEL, "more": 1}, {"image": IMAGE, "label": LABEL})
    with pytest.raises(KeyError, match="more"):
        make(kind, data).run()
