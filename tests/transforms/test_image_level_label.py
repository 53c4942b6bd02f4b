from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, SpatialCropd

from weakmedsam_ext.transforms import ImageLevelLabel, ImageLevelLabeld


@pytest.mark.parametrize("as_type", [np.asarray, torch.as_tensor, MetaTensor])
def test_classes_that_are_visible(as_type):
    mask = np.zeros((1, 4, 4), dtype=np.int32)
    mask[0, 0, 0], mask[0, 1, :] = 1, 4
    label = ImageLevelLabel([1, [2, 3], 4])(as_type(mask))
    assert label.tolist() == [1, 0, 1] and label.dtype == torch.float32
    assert ImageLevelLabel([[1, 2, 4]], min_pixels=6)(as_type(mask)).tolist() == [0]
    assert ImageLevelLabel([[1, 2, 4]], min_pixels=5)(as_type(mask)).tolist() == [1]
    assert ImageLevelLabel(4)(as_type(mask)).tolist() == [1, 0, 0, 1]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_masks_on_a_gpu():
    assert ImageLevelLabel([1, [2, 3]])(torch.ones(1, 4, 4, device="cuda", dtype=torch.int32)).tolist() == [1, 0]


def test_defect_5_the_label_says_what_a_crop_has_left():
    mask = torch.zeros(1, 8, 8)
    mask[0, 6, 6] = 1
    item = {"image": torch.zeros(1, 8, 8), "label": mask}
    crop = SpatialCropd(["image", "label"], roi_start=(0, 0), roi_end=(4, 4))
    assert Compose([crop, ImageLevelLabeld("label")])(item)["class_label"].tolist() == [0]
    assert ImageLevelLabeld("label", "y")(item)["y"].tolist() == [1]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: ImageLevelLabel([]), "label_values: expected at least one class"),
        (lambda: ImageLevelLabel(1, min_pixels=0), "min_pixels: expected at least 1, but got 0"),
        (lambda: ImageLevelLabel(1)(torch.zeros(2, 4, 4)), r"mask: expected one channel .* \(2, 4, 4\)"),
        (lambda: ImageLevelLabel(1)(torch.full((1, 2, 2), 0.5)), "mask: expected integer values, but got fractions"),
        (lambda: ImageLevelLabeld(["a", "b"], "c"), "output_keys: expected one for each of"),
    ],
)
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
