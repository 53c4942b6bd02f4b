"""Figure of synthetic images, their regions, and what the weights in the package answer to one click.

python benchmarks/synthetic_figure.py [--output benchmarks/results/synthetic_images.png]
"""

from __future__ import annotations

from pathlib import Path

import fire
import numpy as np
import torch
from torch import Tensor

from weakmedsam_ext.data.synthetic import synthetic_batch
from weakmedsam_ext.handlers.pyplot import outline, pyplot_to_files, save_figure
from weakmedsam_ext.networks import Prompter, build_network
from weakmedsam_ext.transforms import simulate_clicks

SEED = (1 << 20) << 40  # of images that training never sees
SCALE = 1  # organs with what is in them


def clicked_regions(labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The largest region of each image (B, H, W) that is not its surrounding, and a click well inside it (B, 2)."""
    regions = []
    for scale in labels[:, SCALE]:
        sizes = scale[scale >= 0].bincount()
        sizes[sizes > scale.numel() // 3] = 0
        regions.append(scale == sizes.argmax())
    wanted = torch.stack(regions)
    return wanted, simulate_clicks(torch.zeros_like(wanted), wanted, "inner", generator)[0]


@torch.no_grad()
def main(output: str = "benchmarks/results/synthetic_images.png", count: int = 8, size: int = 128) -> None:
    """Draw.

    Args:
        output: file.
        count: images.
        size: side of the images in pixels.
    """
    plt = pyplot_to_files()
    generator = torch.Generator().manual_seed(SEED)
    images, labels = synthetic_batch(count, (size, size), generator, min_size=40)
    wanted, points = clicked_regions(labels, generator)
    prompter = Prompter(build_network("click_net_2d").eval())
    clicks = points[:, None, None]
    masks, _ = prompter.answer_single_click(prompter.encode(images), clicks, torch.ones_like(clicks[..., 0]))
    colours = plt.get_cmap("prism")(np.random.default_rng(0).permutation(256) / 255)
    colours[:, 3] = 0.45
    figure, axes = plt.subplots(3, count, figsize=(1.02 * count, 3.12))
    for column, item in zip(axes.T, range(count), strict=True):
        for axis in column:
            axis.imshow(images[item, 0], cmap="gray", vmin=0, vmax=1)
            axis.axis("off")
        numbers = labels[item, SCALE].numpy()
        column[1].imshow(np.where((numbers >= 0)[..., None], colours[numbers % 256], 0.0))
        outline(column[2], wanted[item].numpy(), "white")
        outline(column[2], (masks[item, 0, 0] > 0).numpy(), "tab:orange")
        column[2].plot(*points[item].flip(0).tolist(), "+", color="tab:green", markersize=7, markeredgewidth=1.5)
    figure.subplots_adjust(0.002, 0.002, 0.998, 0.998, wspace=0.02, hspace=0.02)
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    save_figure(figure, Path(output))


if __name__ == "__main__":
    fire.Fire(main)
