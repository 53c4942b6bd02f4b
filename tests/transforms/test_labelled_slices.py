from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Spacing

from weakmedsam_ext.losses import IGNORED
from weakmedsam_ext.transforms import LabelledSlices, LabelledSlicesd


def heart(affine=None):
    """Class 1 in slices 2 to 7 of the last axis, widest in 4; class 2 in slice 5."""
    mask = torch.zeros(1, 10, 12, 10)
    for index, width in zip(range(2, 8), (2, 4, 8, 6, 4, 2), strict=True):
        mask[0, 1 : 1 + width, 2:8, index] = 1
    mask[0, 1:3, 2:4, 5] = 2
    return MetaTensor(mask, affine=torch.eye(4, dtype=torch.float64) if affine is None else affine)


def known(mask, axis=-1):
    counts = (mask != IGNORED).movedim(axis, 0).flatten(1)
    assert (counts.all(1) == counts.any(1)).all()  # whole slices
    return torch.nonzero(counts.all(1))[:, 0].tolist()


@pytest.mark.parametrize(("count", "kept"), [(1, [4]), (2, [4, 5]), (3, [3, 4, 5]), (99, [2, 3, 4, 5, 6, 7])])
def test_the_widest_slices_are_kept_as_they_are(count, kept):
    mask = heart()
    result = LabelledSlices(count)(mask)
    assert known(result) == kept and torch.equal(result[..., kept], mask[..., kept])
    assert torch.equal(result.affine, mask.affine) and result.dtype == mask.dtype


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_the_file_may_have_any_order_of_axes(axis, order):
    """The same slices as in RAS order, whichever array axis they are stacked along."""
    mask = heart()
    moved = MetaTensor(mask.as_tensor().permute(0, *(a + 1 for a in order)), affine=np.eye(4)[:, [*order, 3]])
    expected = LabelledSlices(2, axis)(mask).as_tensor().permute(0, *(a + 1 for a in order))
    assert torch.equal(LabelledSlices(2, axis)(moved).as_tensor(), expected)


def test_what_other_slices_say_plays_no_part():
    drawn = heart()
    others = drawn.clone()
    others[..., [2, 3, 6, 7]] = 0
    assert torch.equal(LabelledSlices(2)(drawn), LabelledSlices(2)(others))
    assert torch.equal(LabelledSlices(4)(others), LabelledSlices(2)(others))  # nobody drew in the rest


@pytest.mark.parametrize("spacing", [1.0, 2.0, 3.2, (9.0, 9.0, 4.5)])
def test_a_slice_survives_resampling_and_is_no_thicker_than_needed(spacing):
    size = spacing[2] if isinstance(spacing, tuple) else spacing
    for start in range(3):
        mask = heart()[..., start:]
        thick = LabelledSlices(1, spacing=spacing)(MetaTensor(mask.as_tensor(), affine=torch.eye(4)))
        assert size <= len(known(thick)) < size + 2
        coarse = Spacing((1.0, 1.0, size), mode="nearest", padding_mode="border")(thick)
        assert len(known(coarse)) in (1, 2)
        assert set(coarse[..., known(coarse)].unique().tolist()) == {0, 1}


def test_between_two_slices_the_nearer_one_counts():
    result = LabelledSlices(2, spacing=5.0)(heart())  # slices 4 and 5, two more on each side
    assert known(result) == [2, 3, 4, 5, 6, 7]
    assert (result[..., 3] == heart()[..., 4]).all() and (result[..., 6] == heart()[..., 5]).all()
    assert (result[..., 4] == heart()[..., 4]).all() and (result[..., 5] == heart()[..., 5]).all()


def test_only_items_with_a_count_change():
    transform = LabelledSlicesd("label", allow_missing_keys=True)
    item = {"image": 1, "label": heart()}
    assert torch.equal(transform(item)["label"], heart())
    labelled = transform({**item, "labelled_slices": 1})
    assert known(labelled["label"]) == [4] and "labelled_slices" not in labelled
    assert transform({"image": 1, "labelled_slices": 2}) == {"image": 1}


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="count: expected at least 1 slice, but got 0"):
        LabelledSlices(0)
    with pytest.raises(ValueError, match="oblique"):
        LabelledSlices(1, "oblique")
    with pytest.raises(ValueError, match="no slice shows a class"):
        LabelledSlices(1)(torch.zeros(1, 4, 4, 4))
