from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from weakmedsam_ext.transforms import MaskRegions, MaskRegionsd

MASK = [[2, 2, 0, 1], [0, 0, 0, 1], [1, 0, 2, 1]]
REGIONS = [[2, 2, -1, 0], [-1, -1, -1, 0], [1, -1, 3, 0]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, lambda x: MetaTensor(torch.tensor(x).float())])
def test_components_of_every_class_are_numbered(kind):
    regions = MaskRegions()(kind([MASK]))
    assert regions.dtype == torch.int32 and type(regions) is torch.Tensor
    assert regions.tolist() == [REGIONS]


def test_components_of_volumes_and_of_nothing():
    mask = torch.zeros(1, 3, 4, 5)
    assert MaskRegions()(mask).eq(-1).all()
    mask[0, 0, 0, 0] = mask[0, 1, 1, 1] = 3  # corners do not connect
    mask[0, 1, 1, 2] = 3
    regions = MaskRegions()(mask)
    assert [regions[0, 0, 0, 0], regions[0, 1, 1, 1], regions[0, 1, 1, 2]] == [0, 1, 1]
    assert (regions >= 0).sum() == 3


def test_dictionary_version():
    item = {"image": torch.zeros(1, 3, 4), "label": torch.tensor([MASK])}
    result = MaskRegionsd("label")(item)
    assert result["label"].tolist() == [REGIONS] and result["image"] is item["image"]
    assert item["label"].tolist() == [MASK]
    with pytest.raises(KeyError, match="other"):
        MaskRegionsd("other")(item)


@pytest.mark.parametrize(
    "mask, message",
    [(torch.zeros(2, 4, 4), "mask: expected one channel of class indices"), (torch.full((1, 2, 2), 0.5), "fractions")],
)
def test_what_is_no_mask_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        MaskRegions()(mask)
