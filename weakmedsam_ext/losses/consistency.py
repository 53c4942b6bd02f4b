"""Consistency losses: a network learns from the predictions of another one for the same image."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["ConsistencyLoss", "GeneralistLoss", "UncertaintyConsistencyLoss", "predictive_entropy"]


def predictive_entropy(probability: Tensor) -> Tensor:
    """Entropy in nats of class probabilities (B, C, *spatial) that sum to 1, (B, 1, *spatial) in 0..ln C."""
    return torch.special.entr(probability).sum(1, keepdim=True)


class ConsistencyLoss(nn.Module):
    """Mean squared difference of the softmaxes of student and teacher (Tarvainen and Valpola, NeurIPS 2017)."""

    def forward(self, logits: Tensor, teacher_logits: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            logits: of the student, (B, C, *spatial).
            teacher_logits: of the same shape; no gradient goes there.

        Returns:
            scalar.

        Raises:
            ValueError: when the shapes differ.
        """
        return _squared_difference(logits, teacher_logits).mean()


class UncertaintyConsistencyLoss(nn.Module):
    """`ConsistencyLoss` over the voxels where the teacher is certain (Yu et al., UA-MT, MICCAI 2019).

    A voxel is certain where the entropy of the mean of T noisy teacher passes is below (0.75 + 0.25 ramp) ln C. The
    mean is over the certain voxels; without any the loss is 0.
    """

    def forward(self, logits: Tensor, teacher_logits: Tensor, mean_probability: Tensor, ramp: float) -> Tensor:
        """Compute the loss.

        Args:
            logits: of the student, (B, C, *spatial).
            teacher_logits: of the same shape; no gradient goes there.
            mean_probability: mean softmax of the teacher's passes, of the same shape.
            ramp: in 0..1, rises during training until nearly every voxel counts.

        Returns:
            scalar.

        Raises:
            ValueError: when the shapes differ.
        """
        _check_same_shape("mean_probability", mean_probability, logits)
        threshold = (0.75 + 0.25 * ramp) * math.log(logits.shape[1])
        certain = (predictive_entropy(mean_probability.detach()) < threshold).float()  # (B, 1, *spatial)
        difference = _squared_difference(logits, teacher_logits).mean(1, keepdim=True)
        return (certain * difference).sum() / certain.sum().clamp(min=1)


class GeneralistLoss(nn.Module):
    """Weighted mean squared difference of the foreground softmax to pseudo-masks (Zhang et al., SemiSAM, BIBM 2024).

    The mean is over all voxels and is not divided by the weights, so a volume with low weights contributes less, and a
    volume without pseudo-mask (weight 0) nothing.
    """

    def forward(self, logits: Tensor, pseudo_mask: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the loss.

        Args:
            logits: of the specialist, (B, K + 1, *spatial), background first.
            pseudo_mask: probabilities of the K foreground classes, (B, K, *spatial); no gradient goes there.
            weight: in 0..1, of a shape that broadcasts to that of `pseudo_mask`; 1 unless given.

        Returns:
            scalar.

        Raises:
            ValueError: when the shapes do not fit.
        """
        foreground = logits.float().softmax(1)[:, 1:]
        _check_same_shape("pseudo_mask", pseudo_mask, foreground)
        difference = (foreground - pseudo_mask.detach().float()).square()
        return (difference if weight is None else weight.detach() * difference).mean()


def _squared_difference(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    _check_same_shape("teacher_logits", teacher_logits, logits)
    return (logits.float().softmax(1) - teacher_logits.detach().float().softmax(1)).square()


def _check_same_shape(name: str, got: Tensor, expected: Tensor) -> None:
    if got.shape != expected.shape:  # broadcasting would compare a volume with another one
        raise ValueError(f"{name}: expected shape {tuple(expected.shape)}, but got {tuple(got.shape)}.")
