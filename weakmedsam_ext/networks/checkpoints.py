"""Reading the public checkpoints of SAM-like networks as they are published, without unpickling anything."""

from __future__ import annotations

import argparse
import logging
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from .samus import is_samus_addition
from .window_attention import is_global_attention

__all__ = ["load_checkpoint"]

logger = logging.getLogger(__name__)

# where published files keep the state dict: SAM-Med3D, Lightning and others, EfficientSAM and MONAI's CheckpointSaver
CONTAINERS = ("model_state_dict", "state_dict", "model")
RELEASED_HEADS = {"parent_fc.": "class_head.", "child_fc.": "subclass_head."}
BACKBONE = "backbone."
# tables of SAM at 1024 and of SAMUS at 256 pixels; they alone are resampled to the grid of another input
SAM_GRID = 64
PUBLISHED_GLOBAL_ROWS = (2 * SAM_GRID - 1, SAM_GRID - 1)
NUM_NAMED = 3  # keys of each kind that an error shows


def load_checkpoint(
    network: nn.Module, path_or_state_dict: str | Path | Mapping[str, Any], strict: bool = True
) -> list[str]:
    """Load published or own weights into a network of this package.

    Reads SAM ViT-B and MedSAM (.pth), EfficientSAM (under "model"), SAM-Med3D, SAM-Med3D-turbo and SegAnyPET (under
    "model_state_dict"), MONAI's VISTA3D, released SAMUS-style files (heads called parent_fc and child_fc), and
    .safetensors.

    A backbone's file goes into the backbone (`load_checkpoint(net.backbone, ...)`); a `WeakMedSAMNet` wants its heads
    too. A SAM file may be loaded into a `SAMUS`: what SAMUS adds keeps its initial values. SAM's position tables are
    resampled when the network's grid is not 64 x 64, those of SAMUS when it is not 32 x 32.

    Args:
        network: where the weights go.
        path_or_state_dict: a file, or what such a file holds.
        strict: refuse a file that does not fit; otherwise load the tensors that do and log the others.

    Returns:
        names of the parameters and buffers that kept their values.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file cannot be read safely, or does not fit; then nothing is loaded.
    """
    is_file = isinstance(path_or_state_dict, (str, Path))
    source = f"checkpoint {path_or_state_dict}" if is_file else "state dict"
    content = _read(Path(path_or_state_dict)) if is_file else path_or_state_dict  # type: ignore[arg-type]
    state = _rename(_unwrap(content, source), network)
    target = network.state_dict()
    state = {key: _resample(key, value, target, network) for key, value in state.items()}

    may_stay = not any(map(is_samus_addition, state))
    missing = [key for key in target if key not in state and not (may_stay and is_samus_addition(key))]
    unexpected = [key for key in state if key not in target]
    misshapen = [
        f"{key} {tuple(value.shape)} instead of {tuple(target[key].shape)}"
        for key, value in state.items()
        if key in target and value.shape != target[key].shape
    ]
    fitting = {k: v for k, v in state.items() if k in target and v.shape == target[k].shape}
    problems = {"missing": missing, "unexpected": unexpected, "wrongly shaped": misshapen}
    report = "; ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in problems.items() if keys)
    if report and (strict or not fitting):
        raise ValueError(
            f"{source} does not fit {type(network).__name__}, nothing was loaded: {report}. "
            "Give the checkpoint of this network, or build the network that the checkpoint belongs to."
        )
    network.load_state_dict(fitting, strict=False)
    kept = [key for key in target if key not in fitting]
    if kept:
        logger.warning("%s: %d tensors keep their initial values (%s). %s", source, len(kept), _first(kept), report)
    return kept


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:NUM_NAMED]) + (", ..." if len(keys) > NUM_NAMED else "")


def _read(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist; correct the path, or put the file there.")
    remedy = "give a complete file of weights, saved as a plain state dict of tensors"
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # SAM-Med3D's files also hold the command line of their training; a Namespace only carries attributes
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of text, unpickling raises whatever the first letters stand for
        raise ValueError(f"checkpoint {path} cannot be read safely ({_reason(path, error)}); {remedy}.") from error


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with a file that cannot be read, without torch's advice to unpickle it all the same."""
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "it is empty"
    if not re.search(rb"[\x00-\x08\x0e-\x1f\x7f-\xff]", start):
        return f"it is text, not a model: {start.decode().split(chr(10))[0][:40]!r}"
    if isinstance(error, pickle.UnpicklingError):
        refused = re.search(r"Unsupported (?:global|class|operand)[^\n]*?([\w.]+\.\w+)", str(error))
        return (
            f"it holds more than tensors{f' ({refused[1]})' if refused else ''}, which may be a program and is not read"
        )
    return str(error).split("\n")[0][:200]


def _unwrap(content: object, source: str) -> dict[str, Tensor]:
    """State dict inside a published container."""
    for name in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not content:
        raise ValueError(f"{source} holds no state dict, but {type(content).__name__}; give a file of named tensors.")
    foreign = [key for key, value in content.items() if not isinstance(value, Tensor)]
    if foreign:
        raise ValueError(
            f"{source} holds {len(foreign)} entries that are no tensors ({_first(list(map(str, foreign)))})."
        )
    return dict(content)


def _rename(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Keys as this package names them, for a CAM network or for a bare backbone."""
    if all(key.startswith("module.") for key in state):  # written by DistributedDataParallel
        state = {key.removeprefix("module."): value for key, value in state.items()}
    for released, ours in RELEASED_HEADS.items():
        state = {ours + key.removeprefix(released) if key.startswith(released) else key: v for key, v in state.items()}
    heads = tuple(RELEASED_HEADS.values())
    if any(key.startswith(BACKBONE) for key in network.state_dict()):
        return {key if key.startswith((BACKBONE, *heads)) else BACKBONE + key: value for key, value in state.items()}
    # the heads of a CAM network are no part of its backbone, and that of VISTA3D answers no clicks
    return {key.removeprefix(BACKBONE): value for key, value in state.items() if not key.startswith(heads)}


def _resample(key: str, value: Tensor, target: Mapping[str, Tensor], network: nn.Module) -> Tensor:
    """SAM's absolute positions and its or SAMUS's global relative positions on another grid; anything else as it is."""
    if key not in target or value.shape == target[key].shape or value.shape[-1] != target[key].shape[-1]:
        return value
    if key.endswith("pos_embed") and value.shape[:-1] == (1, SAM_GRID, SAM_GRID) and target[key].ndim == 4:
        size = target[key].shape[1:3]
        grid = F.interpolate(value.permute(0, 3, 1, 2).float(), size, mode="bilinear", align_corners=False)
        return grid.permute(0, 2, 3, 1)
    module = network.get_submodule(key.rpartition(".")[0])
    if ".rel_pos_" in key and is_global_attention(module) and value.shape[0] in PUBLISHED_GLOBAL_ROWS:
        rows = F.interpolate(value.T.float().unsqueeze(0), target[key].shape[0], mode="linear", align_corners=False)
        return rows[0].T
    return value
