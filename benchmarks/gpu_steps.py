"""Time and memory of one training step at published sizes, by precision and by what PyTorch may choose.

    python benchmarks/gpu_steps.py samus --csv FILE [--device cuda]
    python benchmarks/gpu_steps.py vnet --csv FILE [--device cuda]

`samus` is the step of the class-activation network: SAMUS (ViT-B) at 256 pixels, 24 images, both heads, sub-class loss,
AdamW. `vnet` is the iteration of UA-MT by its trainer: 2 labelled and 2 unlabelled patches, nine passes of the teacher.
Weights and images are random. A row is written when it is measured, and one that is in the file is not measured again;
a row that fails holds the error.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from csv import DictReader, DictWriter
from itertools import product
from pathlib import Path
from typing import Any

import fire
import torch
from common import machine, report, seconds, synchronize
from ignite.engine import Events
from monai.losses import DiceCELoss
from torch import nn

from weakmedsam_ext.engines import UncertaintyAwareMeanTeacherTrainer
from weakmedsam_ext.losses import SubclassLoss, subclass_target
from weakmedsam_ext.networks import MeanTeacher, ThinVNet, WeakMedSAMNet, build_network

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def samus(csv: str, device: str = "cuda", repeats: int = 10, quick: bool = False) -> None:
    """Step of the class-activation network.

    Args:
        csv: file for the table.
        device: "cpu" or "cuda".
        repeats: timed steps, of which the median is given.
        quick: a tiny network and two images, to see that it runs.
    """
    name, batch = ("samus_tiny", 2) if quick else ("samus_vit_b", 24)
    chosen = [
        *(
            (trainable, precision, False)
            for trainable, precision in product(("samus", "all"), ("fp32", "tf32", "bf16"))
        ),
        *(() if quick else (("samus", precision, True) for precision in ("bf16", "tf32"))),
    ]
    settings = [
        {"network": name, "batch": batch, "trainable": trainable, "precision": precision, "compiled": compiled}
        for trainable, precision, compiled in chosen
    ]
    _measure_all(settings, lambda **one: _samus_step(device, repeats, **one), csv)


def _samus_step(
    device: str, repeats: int, network: str, batch: int, trainable: str, precision: str, compiled: bool
) -> dict[str, Any]:
    torch.manual_seed(0)
    net = WeakMedSAMNet(build_network(network, img_size=256), 1, 8, trainable).to(device).train()
    optimizer = torch.optim.AdamW([p for p in net.parameters() if p.requires_grad], 1e-4)
    loss_function = SubclassLoss(1, 8)
    image = torch.rand(batch, 1, 256, 256, device=device)
    target = subclass_target(torch.randint(-1, 8, (batch, 1)), 8).to(device)
    called: Callable[..., Any] = torch.compile(net) if compiled else net

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.split(":")[0], DTYPES[precision]) if precision in DTYPES else nullcontext():
            loss = loss_function(called(image), target)
        loss.backward()
        optimizer.step()

    with _float32(precision):
        start = time.perf_counter()
        step()
        synchronize(device)
        first = time.perf_counter() - start
        step()
        _reset_memory(device)
        times = [seconds(step, device) for _ in range(repeats)]
    return {"step ms": 1e3 * statistics.median(times), "peak GiB": _peak_memory(device), "first step s": first}


def vnet(csv: str, device: str = "cuda", iterations: int = 15, quick: bool = False) -> None:
    """Iteration of UA-MT with the V-Net.

    Args:
        csv: file for the table.
        device: "cpu" or "cuda".
        iterations: timed ones, of which the mean is given.
        quick: a small network and patches, to see that it runs.
    """
    channels, size = (4, (32, 32, 16)) if quick else (16, (112, 112, 80))
    chosen = [
        ("fp16", True, "contiguous"),
        ("fp16", False, "contiguous"),
        ("fp16", False, "channels_last_3d"),
        ("bf16", False, "contiguous"),
        ("tf32", True, "contiguous"),
    ]
    settings = [
        {"network": f"V-Net {channels}", "precision": precision, "deterministic": deterministic, "layout": layout}
        for precision, deterministic, layout in (chosen[-1:] if quick else chosen)
    ]
    _measure_all(settings, lambda **one: _vnet_iteration(device, iterations, channels, size, **one), csv)


def _vnet_iteration(
    device: str,
    iterations: int,
    channels: int,
    size: Sequence[int],
    network: str,
    precision: str,
    deterministic: bool,
    layout: str,
) -> dict[str, Any]:
    torch.manual_seed(0)
    formats = {"channels_last_3d": torch.channels_last_3d, "contiguous": torch.contiguous_format}
    net: nn.Module = ThinVNet(channels=channels).to(device, memory_format=formats[layout])
    batch = {"image": torch.rand(4, 1, *size), "label": (torch.rand(2, 1, *size) > 0.9).float()}
    warm_up = 5
    trainer = UncertaintyAwareMeanTeacherTrainer(
        device,
        1,
        [batch] * (warm_up + iterations),
        net,
        torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4),
        DiceCELoss(include_background=False, to_onehot_y=True, softmax=True),
        teacher=MeanTeacher(net),
        noise=0.02,
        amp=precision in DTYPES,
        amp_kwargs={"dtype": DTYPES[precision]} if precision in DTYPES else {},
    )
    started: list[float] = []
    began = time.perf_counter()

    def start(_: Any) -> None:
        synchronize(device)
        _reset_memory(device)
        started.append(time.perf_counter())

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=warm_up), start)
    with _float32(precision), torch.backends.cudnn.flags(deterministic=deterministic, benchmark=not deterministic):
        torch.backends.cudnn.allow_tf32 = precision != "fp32"  # flags() sets it too
        trainer.run()
        synchronize(device)
    passed = time.perf_counter() - started[0]
    return {
        "iteration ms": 1e3 * passed / iterations,
        "peak GiB": _peak_memory(device),
        f"first {warm_up} s": started[0] - began,
    }


def fastest(csv: str, precision: str = "fp16") -> None:
    """Print the layout and determinism of the fastest V-Net iteration of a precision.

    Args:
        csv: table of `vnet`.
        precision: whose rows count.
    """
    rows = [row for row in _rows(csv) if row["precision"] == precision and row.get("iteration ms")]
    best = min(rows, key=lambda row: float(row["iteration ms"]), default={})
    print(best.get("layout", "contiguous"), best.get("deterministic", "False"))


@contextmanager
def _float32(precision: str) -> Iterator[None]:
    """Let matrix products and convolutions of single precision use TF32 or not."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "fp32" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def _measure_all(settings: Sequence[dict[str, Any]], measure: Callable[..., dict[str, Any]], csv_path: str) -> None:
    """Measure what is not in the table yet, and write the table after every row."""
    rows: list[dict[str, Any]] = []
    known = _rows(csv_path)
    for chosen in settings:
        found = [row for row in known if all(row.get(key) == str(value) for key, value in chosen.items())]
        if found:
            rows.append(dict(found[0]))
        else:
            rows.append({**chosen, **_measured(measure, chosen), **machine()})
            print(rows[-1], flush=True)
        _write(rows, csv_path)
    shown = [name for name in _names(rows) if name not in machine()]
    report([{name: row.get(name, "") for name in shown} for row in rows])


def _measured(measure: Callable[..., dict[str, Any]], chosen: dict[str, Any]) -> dict[str, Any]:
    try:
        return {**measure(**chosen), "failed": ""}
    except Exception as error:  # one that runs out of memory or does not compile must not cost the other rows
        return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}"}
    finally:
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _names(rows: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _write(rows: Sequence[dict[str, Any]], path: str) -> None:
    with open(path, "w", newline="") as file:
        writer = DictWriter(file, _names(rows), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _rows(path: str) -> list[dict[str, str]]:
    if not Path(path).exists():
        return []
    with open(path, newline="") as file:
        return list(DictReader(file))


def _reset_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def _peak_memory(device: str) -> float | str:
    return torch.cuda.max_memory_allocated(device) / 2**30 if device.startswith("cuda") else ""


if __name__ == "__main__":
    fire.Fire({"samus": samus, "vnet": vnet, "fastest": fastest})
