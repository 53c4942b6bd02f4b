"""A promptable network as two programs that run without this package: encode an image once, answer clicks often."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from .prompter import Prompter

__all__ = ["exported_encoder_and_decoder"]


def exported_encoder_and_decoder(
    network: nn.Module, image: Tensor, num_clicks: int, multimask: bool = False
) -> tuple[ExportedProgram, ExportedProgram]:
    """Export a promptable network by `torch.export`; `torch.export.save` writes each program to a file.

    The programs are made for the shape of the image and the number of clicks, and do not check their inputs. Networks
    that take padding, such as `ClickNet`, also answer fewer clicks: fill up with points of label -1.

    Args:
        network: promptable network, see `Prompter`.
        image: example (B, 1 or 3, H, W) or (B, 1, D, H, W), intensities in 0..1.
        num_clicks: N, clicks on each image.
        multimask: three masks for an ambiguous prompt instead of one.

    Returns:
        encoder: images to embedding; decoder: embedding, points (B, 1, N, dims) float32 in array index order in pixels
        or voxels, and labels (B, 1, N) int64, to mask logits (B, 1, M, *grid) and predicted IoU (B, 1, M), M = 3 or 1.

    Raises:
        ValueError: when the number of clicks is not positive, or the image does not fit the network.
    """
    if num_clicks < 1:
        raise ValueError(f"num_clicks: expected a positive number, but got {num_clicks}.")
    prompter = Prompter(network).eval()
    points = torch.zeros(len(image), 1, num_clicks, prompter.spatial_dims, device=image.device)
    labels = torch.ones(points.shape[:-1], dtype=torch.long, device=image.device)
    with torch.no_grad():
        embedding = prompter.encode(image)  # without export it checks the image
        encoder = torch.export.export(_Encoder(prompter), (image,))
        decoder = torch.export.export(_Decoder(prompter, multimask), (embedding, points, labels))
    return encoder, decoder


class _Encoder(nn.Module):
    def __init__(self, prompter: Prompter) -> None:
        super().__init__()
        self.prompter = prompter

    def forward(self, image: Tensor) -> Tensor:
        return self.prompter.encode(image)


class _Decoder(nn.Module):
    def __init__(self, prompter: Prompter, multimask: bool) -> None:
        super().__init__()
        self.prompter = prompter
        self.multimask = multimask

    def forward(self, embedding: Tensor, points: Tensor, point_labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.prompter.answer(embedding, points, point_labels, self.multimask)
