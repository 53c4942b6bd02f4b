"""Weights that trainings write, read and compared."""

from __future__ import annotations

import torch


def weights(path):
    return torch.load(path, weights_only=True)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
