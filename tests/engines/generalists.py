"""Promptable networks of a few weights, and specialists' logits, for tests."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from weakmedsam_ext.networks import build_network


class Recorder(torch.nn.Module):
    """Answers by a logit at every voxel above a threshold of its volume, and keeps what it was asked."""

    spatial_dims = 3
    takes_background_clicks = True
    takes_masks = True

    def __init__(self, img_size=16, iou=1.0, answer=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.img_size = img_size
        self.iou = iou
        self.answer = answer  # (B, 1, *spatial) logits
        self.encoded, self.asked = [], []

    def encode(self, volume):
        self.encoded.append(volume)
        return F.adaptive_avg_pool3d(volume, self.img_size // 4) * self.weight

    def decode(self, embedding, points, point_labels, mask_logits=None, multimask=False):
        self.asked.append((points, point_labels, mask_logits))
        answer = embedding if self.answer is None else self.answer
        answer = answer.expand(len(embedding), -1, -1, -1, -1)
        low = F.interpolate(answer, (self.img_size,) * 3, mode="nearest")
        return low, torch.full((len(embedding), 1), float(self.iou))


def tiny_generalist(seed=0):
    torch.manual_seed(seed)
    return build_network("sam_med3d_tiny", img_size=32, depth=1, global_attn_indexes=(0,))


def logits_of(foreground, strength=4.0):
    """Logits (B, 2, *spatial) of bool (B, *spatial)."""
    up = torch.where(foreground, strength, -strength)
    return torch.stack([-up, up], dim=1) / 2


def cube(size=16, start=4, stop=10):
    mask = torch.zeros(size, size, size, dtype=torch.bool)
    mask[start:stop, start:stop, start:stop] = True
    return mask
