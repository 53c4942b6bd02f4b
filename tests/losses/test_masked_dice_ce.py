from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss

from weakmedsam_ext.losses import IGNORED, MaskedDiceCELoss

WHOLE = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)


@pytest.mark.parametrize("classes", [2, 4])
def test_on_a_box_it_is_the_loss_of_what_lies_in_the_box(classes):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 6, 6, 6, generator=generator)
    label = torch.randint(classes, (2, 1, 6, 6, 6), generator=generator)
    torch.testing.assert_close(MaskedDiceCELoss()(logits, label, torch.ones(1, 1, 6, 6, 6)), WHOLE(logits, label))
    mask = torch.zeros(1, 1, 6, 6, 6)
    mask[..., 1:4, :, 2:] = 1
    cut = (..., slice(1, 4), slice(None), slice(2, None))
    torch.testing.assert_close(MaskedDiceCELoss()(logits, label, mask), WHOLE(logits[cut], label[cut]))


def test_no_gradient_leaves_the_mask_and_an_empty_one_is_finite():
    logits = torch.randn(1, 3, 4, 4, 4, requires_grad=True)
    label = torch.ones(1, 1, 4, 4, 4)
    mask = torch.zeros(1, 1, 4, 4, 4)
    assert torch.isfinite(MaskedDiceCELoss()(logits, label, mask))
    mask[..., :2] = 1
    MaskedDiceCELoss()(logits, label, mask).backward()
    assert logits.grad[..., 2:].eq(0).all() and logits.grad[..., :2].ne(0).any()


@pytest.mark.parametrize("batch", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_unknown_voxels_count_nowhere(batch, masked):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 6, 6, 6, generator=generator, requires_grad=True)
    label = torch.randint(3, (2, 1, 6, 6, 6), generator=generator)
    whole = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=batch)
    torch.testing.assert_close(MaskedDiceCELoss(batch)(logits, label), whole(logits, label))
    unknown = label.clone()
    unknown[..., 2:] = IGNORED
    mask = torch.ones(1, 1, 6, 6, 6) if masked else None
    loss = MaskedDiceCELoss(batch)(logits, unknown, mask)
    torch.testing.assert_close(loss, whole(logits[..., :2], label[..., :2]))
    loss.backward()
    assert logits.grad[..., 2:].eq(0).all() and logits.grad[..., :2].ne(0).any()


def test_nothing_known_is_finite():
    logits = torch.randn(1, 2, 4, 4, 4, requires_grad=True)
    MaskedDiceCELoss()(logits, torch.full((1, 1, 4, 4, 4), IGNORED)).backward()
    assert logits.grad.eq(0).all()
