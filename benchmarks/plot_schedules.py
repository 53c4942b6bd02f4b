"""Draw how the weights of the losses rise and fall during training with SemiSAM and with SemiSAM+.

python benchmarks/plot_schedules.py --output schedules.png [--method semisam]
"""

from __future__ import annotations

import fire
from monai.utils import look_up_option

from weakmedsam_ext.engines import SigmoidRampdown, SigmoidRampup
from weakmedsam_ext.handlers.pyplot import pyplot_to_files

METHODS = {
    "semisam": ("SemiSAM", 6000, SigmoidRampup(0.1, length=40), SigmoidRampdown(6000, 0.05, length=40)),
    "semisam_plus": ("SemiSAM+", 30000, SigmoidRampup(0.1, length=200), SigmoidRampdown(30000, 0.1, length=200)),
}


def main(output: str, method: str | None = None) -> None:
    """Draw one panel a method.

    Args:
        output: PNG file.
        method: "semisam" or "semisam_plus"; both unless given.
    """
    chosen = [look_up_option(method, METHODS)] if method else list(METHODS.values())
    pyplot = pyplot_to_files()
    figure, axes = pyplot.subplots(1, len(chosen), figsize=(5 * len(chosen), 3.2), squeeze=False, layout="constrained")
    for panel, (title, num_iterations, consistency, generalist) in zip(axes[0], chosen, strict=True):
        iterations = range(num_iterations + 1)
        panel.plot(iterations, [consistency(t) for t in iterations], label="consistency with the teacher")
        panel.plot(iterations, [generalist(t) for t in iterations], "--", label="pseudo-masks of the generalist")
        panel.set(title=title, xlabel="iteration", ylabel="weight of the loss")
        panel.set(xlim=(0, num_iterations), ylim=(0, 0.14))  # room for the legend
        panel.grid(alpha=0.3)
        panel.legend(loc="upper center")
    figure.savefig(output, dpi=100)
    pyplot.close(figure)


if __name__ == "__main__":
    fire.Fire(main)
