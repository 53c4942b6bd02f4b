"""The random walk as a stencil against the dense transition matrix of the released method.

    python benchmarks/random_walk.py [--quick] [--csv FILE] [--threads 1] [--device cuda]

The naive version is written afresh after the published algorithm: for every image the affinities of all pairs of cells
less than `RADIUS` apart are collected in a sparse matrix, as in AffinityNet, made dense (4096 x 4096), raised to the
power beta, normalised, and applied to the maps once a step, with min-max scaling in between. Both run on one device in
float32, turn by turn. Run with `--threads 1` too: on a busy machine PyTorch's threads wait for each other.

- Answers: in float64 both must agree to `EXACT`, or the run fails. In float32 the largest deviation from the float64
  matrix is given for both; after 64 steps of averaging and scaling the rounding errors of both can pass 1e-5.
- Times are the best of several runs, of the naive version too; since it treats one image after the other at a constant
  cost, its time for a batch is the batch size times its best time for one image.
- Memory is the peak of the bytes that PyTorch's allocator holds beyond the inputs, results included, taken from the
  allocations and releases that torch.profiler records in one call: unlike the resident memory of the process it depends
  neither on the C library nor on earlier calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fire
import torch
from common import report, seconds
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from weakmedsam_ext.networks import AffinityRandomWalk

SIDE, RADIUS, BETA, EPS = 64, 5, 4.0, 1e-6
SPEED_TARGET, MEMORY_TARGET, ERROR_TARGET, EXACT = 100.0, 50.0, 1e-5, 1e-10


def inputs(batch: int, classes: int, device: str = "cpu") -> tuple[Tensor, Tensor]:
    """Maps of a coarse network, scaled to [0, 1], and logits of a few regions with noise."""
    cam = F.interpolate(torch.rand(batch, classes, 8, 8), size=SIDE, mode="bilinear")
    regions = F.interpolate(torch.randn(batch, 1, 6, 6), size=SIDE, mode="bilinear").round()
    guide = 3 * regions + 0.1 * torch.randn(batch, 1, SIDE, SIDE)
    return cam.to(device), guide.to(device)


def neighbours() -> tuple[Tensor, Tensor]:
    """Indices of both cells of every pair less than RADIUS apart, each pair once."""
    index = torch.arange(SIDE * SIDE).view(SIDE, SIDE)
    first, second = [], []
    for dy in range(RADIUS):
        for dx in range(1 - RADIUS, RADIUS):
            if (dy, dx) > (0, 0) and dy * dy + dx * dx < RADIUS**2:
                first.append(index[: SIDE - dy, max(0, -dx) : SIDE - max(0, dx)].flatten())
                second.append(index[dy:, max(0, dx) : SIDE + min(0, dx)].flatten())
    return torch.cat(first), torch.cat(second)


def naive_walk(cam: Tensor, guide: Tensor, pairs: tuple[Tensor, Tensor], num_steps: int) -> Tensor:
    """Walk of one image, cam (C, H, W) and guide (G, H, W), with a dense transition matrix."""
    first, second = pairs
    values = guide.flatten(1)
    affinity = torch.exp(-(values[:, first] - values[:, second]).abs().mean(0))
    diagonal = torch.arange(SIDE * SIDE, device=cam.device)
    rows, columns = torch.cat([first, second, diagonal]), torch.cat([second, first, diagonal])
    entries = torch.cat([affinity, affinity, torch.ones_like(guide[0].flatten())])
    dense = torch.sparse_coo_tensor(torch.stack([rows, columns]), entries, check_invariants=False).to_dense()
    dense = dense**BETA
    transition = dense / dense.sum(1, keepdim=True)
    maps = cam.flatten(1).T
    for _ in range(num_steps):
        maps = transition @ maps
        low, high = maps.amin(0), maps.amax(0)
        maps = (maps - low + EPS) / (high - low + EPS)
    return maps.T.view_as(cam)


def peak_mebibytes(function: Callable[[], Any], device: str = "cpu") -> float:
    """Largest sum of the allocations that are alive at one time during a call."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        kept = function()
    held = peak = 0
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    del kept
    return peak / 2**20


@torch.no_grad()
def compare(batch: int, classes: int, num_steps: int, repeats: int, device: str = "cpu") -> dict[str, Any]:
    first, second = neighbours()
    pairs = first.to(device), second.to(device)
    cam, guide = inputs(batch, classes, device)
    walk = AffinityRandomWalk(RADIUS, BETA, num_steps)

    def ours() -> Tensor:
        return walk(cam, guide)

    our_error = naive_error = 0.0
    answer = ours()
    for i in {0, batch // 2, batch - 1}:
        exact = naive_walk(cam[i].double(), guide[i].double(), pairs, num_steps)
        difference = float((walk(cam[i : i + 1].double(), guide[i : i + 1].double())[0] - exact).abs().max())
        if difference > EXACT:
            raise AssertionError(f"The answers differ by {difference} at batch {batch}, K {classes}, t {num_steps}.")
        our_error = max(our_error, float((answer[i] - exact).abs().max()))
        naive_error = max(naive_error, float((naive_walk(cam[i], guide[i], pairs, num_steps) - exact).abs().max()))
    slow, fast = [], []
    for _ in range(repeats):
        slow.append(seconds(lambda: naive_walk(cam[0], guide[0], pairs, num_steps), device))
        fast.extend(seconds(ours, device) for _ in range(5))
    # the naive loop holds nothing but results from one image to the next
    naive_peak = peak_mebibytes(lambda: naive_walk(cam[0], guide[0], pairs, num_steps), device)
    naive_peak += cam[1:].numel() * cam.element_size() / 2**20
    our_peak = peak_mebibytes(ours, device)
    speed, memory = batch * min(slow) / min(fast), naive_peak / our_peak
    met = {"speed": speed >= SPEED_TARGET, "memory": memory >= MEMORY_TARGET, "error": our_error <= ERROR_TARGET}
    return {
        "batch": batch,
        "K": classes,
        "t": num_steps,
        "threads": torch.get_num_threads(),
        "device": device,
        "naive ms": 1e3 * batch * min(slow),
        "ours ms": 1e3 * min(fast),
        "times faster": speed,
        "naive MiB": naive_peak,
        "ours MiB": our_peak,
        "times smaller": memory,
        "naive error": naive_error,
        "our error": our_error,
        "targets met": " ".join(name for name, value in met.items() if value) or "none",
    }


def main(
    quick: bool = False, csv: str | None = None, repeats: int = 7, threads: int | None = None, device: str = "cpu"
) -> None:
    """Compare both walks on 64 x 64 cells, radius 5.

    Args:
        quick: one image and four steps only.
        csv: file for the table.
        repeats: timed runs of the naive version; five times as many of ours.
        threads: threads of PyTorch; its own choice by default.
        device: "cpu" or "cuda".
    """
    torch.manual_seed(0)
    torch.set_num_threads(threads or torch.get_num_threads())
    batches, steps = ((1,), (4,)) if quick else ((1, 8, 24), (4, 64))
    print(f"Targets: {SPEED_TARGET:g} times faster, {MEMORY_TARGET:g} times smaller, error at most {ERROR_TARGET:g}")
    report([compare(b, k, t, repeats, device) for t in steps for b in batches for k in (1, 4)], csv)


if __name__ == "__main__":
    fire.Fire(main)
