"""Public networks, losses and transforms take MetaTensors without gradients, and answer as they do plain tensors."""

from __future__ import annotations

import inspect
from typing import NamedTuple

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, ScaleIntensity, Transform
from torch import nn

from weakmedsam_ext import losses, networks, transforms


class Case(NamedTuple):
    """How one class is used: object, its arguments, and the method when it is not the call."""

    make: object
    arguments: tuple
    method: str = "__call__"


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(shape, generator=generator) for shape in shapes)


def small(name, size=32, **arguments):
    return networks.build_network(name, img_size=size, **arguments)


def cam_network():
    return networks.WeakMedSAMNet(small("efficient_sam_tiny", depth=1), 2, 2)


def affinity():
    return networks.PromptAffinity(small("efficient_sam_tiny", depth=1), grid_size=2, size=8)


def click_channel():
    image = torch.cat(tensors((1, 1, 32, 32), (1, 1, 32, 32)), 1)
    image[0, 1, 9, 9] = 1
    return image


IMAGE = tensors((1, 1, 32, 32))
VOLUME = tensors((1, 1, 32, 32, 32))
MASK = torch.zeros(1, 8, 9, 4)
MASK[:, 2:5, 3:6, 1:3] = 1
REGIONS = torch.arange(64).view(1, 1, 8, 8) // 16
NETWORKS = {
    "AffinityRandomWalk": Case(lambda: networks.AffinityRandomWalk(2), tensors((1, 2, 8, 8), (1, 1, 8, 8))),
    "CAMPseudoLabeler": Case(
        lambda: networks.CAMPseudoLabeler(
            cam_network(), affinity(), networks.AffinityRandomWalk(2), walk_size=8, blur_kernel_size=3
        ),
        (*IMAGE, torch.ones(1, 2)),
    ),
    "ClickNet": Case(lambda: networks.build_network("click_net_2d"), IMAGE, "encode"),
    "ClickSegmenter": Case(lambda: networks.ClickSegmenter(small("efficient_sam_tiny", depth=1)), (click_channel(),)),
    "EfficientNetLite": Case(lambda: networks.EfficientNetLite(32), IMAGE, "encode_features"),
    "EfficientNetLiteEncoder": Case(lambda: networks.EfficientNetLiteEncoder(pretrained=False), IMAGE),
    "EfficientSAM": Case(lambda: small("efficient_sam_tiny", depth=1), IMAGE, "encode"),
    "MaskDiscriminator": Case(
        lambda: networks.MaskDiscriminator(3, 4, 2, spatial_dims=2), tensors((1, 1, 16, 16), (1, 2, 16, 16))
    ),
    "MeanTeacher": Case(lambda: networks.MeanTeacher(networks.ThinVNet(channels=2)), VOLUME),
    "PromptAffinity": Case(affinity, IMAGE),
    "PromptableVISTA3D": Case(lambda: small("vista3d_tiny"), VOLUME, "encode"),
    "Prompter": Case(lambda: networks.Prompter(small("efficient_sam_tiny", depth=1)), IMAGE, "encode"),
    "SAMMed3D": Case(lambda: small("sam_med3d_tiny"), VOLUME, "encode"),
    "SAMViT": Case(lambda: small("sam_vit_tiny"), IMAGE, "encode"),
    "SAMUS": Case(lambda: small("samus_tiny"), IMAGE, "encode"),
    "ThinVNet": Case(lambda: networks.ThinVNet(channels=2), VOLUME),
    "WeakMedSAMNet": Case(cam_network, IMAGE),
}
VALID = torch.ones(1, 1, 32, 32, dtype=torch.bool)
for name, valid in (("AffinityRandomWalk", VALID[..., :8, :8]), ("CAMPseudoLabeler", VALID), ("WeakMedSAMNet", VALID)):
    NETWORKS[f"{name}.valid"] = NETWORKS[name]._replace(arguments=(*NETWORKS[name].arguments, valid))
NETWORKS["WeakMedSAMNet.cam"] = NETWORKS["WeakMedSAMNet"]._replace(method="cam")
# a protocol, and a part that only networks of ours call
NOT_CALLED = {"PromptableNetwork", "ClickAffinity"}
LOSSES = {
    "ConsistencyLoss": Case(losses.ConsistencyLoss, tensors((2, 3, 8, 8), (2, 3, 8, 8))),
    "UncertaintyConsistencyLoss": Case(
        losses.UncertaintyConsistencyLoss, (*tensors((2, 3, 8, 8), (2, 3, 8, 8)), torch.full((2, 3, 8, 8), 1 / 3), 1.0)
    ),
    "MaskedDiceCELoss": Case(
        losses.MaskedDiceCELoss, (tensors((2, 3, 8, 8))[0], torch.ones(2, 1, 8, 8), torch.ones(1, 1, 8, 8))
    ),
    "GeneralistLoss": Case(losses.GeneralistLoss, tensors((2, 3, 8, 8), (2, 2, 8, 8))),
    "PromptLoss": Case(losses.PromptLoss, tensors((1, 2, 3, 8, 8), (1, 2, 3), (1, 2, 2, 8, 8))),
    "RegionAffinityLoss": Case(lambda: losses.RegionAffinityLoss(16, 3), (*tensors((1, 4, 8, 8)), REGIONS)),
    "SubclassLoss": Case(lambda: losses.SubclassLoss(2, 2), (tensors((3, 2), (3, 5)), tensors((3, 5))[0].round())),
}
TRANSFORMS = {
    "AffinityRefine": Case(lambda: transforms.AffinityRefine(2), tensors((1, 8, 8), (1, 8, 8))),
    "AntiAlias": Case(lambda: transforms.AntiAlias(3.0), tensors((1, 8, 9, 4))),
    "ClassNumbers": Case(lambda: transforms.ClassNumbers({"one": 1}), (MASK,)),
    "CropAroundClicks": Case(lambda: transforms.CropAroundClicks(3), (MASK,), "box"),
    "DrawClicks": Case(transforms.DrawClicks, ([[1, 2, 3, 1]], MASK)),
    "ImageLevelLabel": Case(transforms.ImageLevelLabel, (MASK,)),
    "LabelledSlices": Case(lambda: transforms.LabelledSlices(1), (MASK,)),
    "MaskRegions": Case(transforms.MaskRegions, (MASK,)),
    "ResizeSlices": Case(lambda: transforms.ResizeSlices(16), tensors((1, 8, 9, 4))),
    "ScaleVolumeIntensity": Case(transforms.ScaleVolumeIntensity, tensors((1, 8, 9, 4))),
    "SeededRandomWalk": Case(transforms.SeededRandomWalk, tensors((1, 8, 9, 1), (1, 8, 9, 1))),
    "SliceWise": Case(lambda: transforms.SliceWise(ScaleIntensity()), tensors((1, 8, 9, 4))),
    "SquarePad": Case(transforms.SquarePad, tensors((1, 8, 9, 4))),
}
CASES = {**NETWORKS, **LOSSES, **TRANSFORMS}


def with_meta(value):
    if isinstance(value, tuple):
        return tuple(map(with_meta, value))
    if not isinstance(value, torch.Tensor):
        return value
    meta = {"original_affine": torch.eye(4), "spatial_shape": value.shape[1:]}
    return MetaTensor(value.clone(), affine=torch.eye(4), meta=meta)


def plain(value):
    """Tensors of an answer, as plain ones."""
    if isinstance(value, torch.Tensor):
        return [value.as_tensor() if isinstance(value, MetaTensor) else value]
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in plain(part)]
    return [torch.tensor([value.start, value.stop])]  # a slice of a box


def answer(case, arguments):
    torch.manual_seed(0)
    used = case.make()
    if isinstance(used, nn.Module):
        used.eval()
    torch.manual_seed(0)
    return plain(getattr(used, case.method)(*arguments))


def public(package, kind):
    return {name for name in package.__all__ if inspect.isclass(c := getattr(package, name)) and issubclass(c, kind)}


def test_every_public_class_is_here():
    assert public(networks, nn.Module) - NOT_CALLED == {name.split(".")[0] for name in NETWORKS}
    assert public(losses, nn.Module) == set(LOSSES)
    assert public(transforms, Transform) - public(transforms, MapTransform) == set(TRANSFORMS)


@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_meta_tensors_give_the_answer_of_plain_tensors(name):
    case = CASES[name]
    found = answer(case, with_meta(case.arguments))
    # these two read where the image lies from its affine, so a plain tensor does not do
    arguments = with_meta(case.arguments) if name in ("AntiAlias", "DrawClicks") else case.arguments
    expected = answer(case, arguments)
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other)
