"""What the user typed behind `python -m monai.bundle run`."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from .check_settings import check_settings
from .names import check_names
from .recipe import runtime_names

__all__ = [
    "check_command_line",
    "check_overrides",
    "config_of_command_line",
    "hash_of_configs",
    "runs_from_command_line",
]

PATHS = {
    "bundle_root",
    "ckpt_dir",
    "output_dir",
    "cache_dir",
    "dataset_dir",
    "ckpt_path",
    "prediction_dir",
    "label_dir",
}
PATHS |= {"labels_csv", "split_file", "checkpoint", "prompter_checkpoint", "clicks", "datalist"}
PROGRAM = "monai.bundle.__main__"
# arguments of `monai.bundle run` itself
OPTIONS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}
OPTIONS |= {"workflow_name", "workflow_type"}


def runs_from_command_line() -> bool:
    """Whether the program is `python -m monai.bundle`, and not a notebook or a server that runs the same config."""
    return getattr(getattr(sys.modules["__main__"], "__spec__", None), "name", None) == PROGRAM


def check_overrides(overrides: Mapping[str, Any], config: Mapping[str, Any], where: str) -> None:
    """Refuse overrides that no config declares: they would be swallowed without effect.

    Args:
        overrides: id -> value, as `monai.bundle run` takes them, for example "epochs" or "train#trainer#max_epochs".
        config: content of the config files.
        where: names of the files; begins the error.

    Raises:
        ValueError: when there is no such id; it says which one is nearest.
    """
    for key in overrides:
        place: Any = config
        names = re.split("#|::", key)
        for number, name in enumerate(names):
            path = f"{where}, --{'#'.join(names[: number + 1])}" if number else where
            if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
                place = place[int(name)]
            elif not isinstance(place, Mapping):
                raise ValueError(f"{path}: there is nothing below {'#'.join(names[:number])!r} to set.")
            elif number + 1 < len(names) or "_target_" not in place:
                check_names([name], place, path)
                place = place[name]
            # an argument that a component does not have yet may be added


def check_command_line() -> None:
    """Check the overrides of the command line, see `check_overrides`."""
    files, overrides = _arguments(sys.argv[1:])
    if files:
        where = " and ".join(Path(file).name for file in files)
        config = ConfigParser.load_config_files(files)
        check_overrides(overrides, config, where)
        values = {name: typed(text) for name, text in overrides.items()}
        check_paths(values)
        check_settings({**config, **values})


def typed(text: Any) -> Any:
    """A value as fire reads it: a Python literal where it is one, else the text."""
    try:
        return ast.literal_eval(text) if isinstance(text, str) else text
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {"true": True, "false": False, "null": None}.get(text, text)


def check_paths(values: Mapping[str, Any]) -> None:
    """Check those values that are paths.

    Raises:
        ValueError: when one was read as a number, or begins with ~, which no shell has expanded.
    """
    for name in PATHS & values.keys():
        path = values[name]
        if isinstance(path, (bool, int, float)):
            raise ValueError(f"{name}: {path!r} was read as a number; write the path as ./{path}.")
        if isinstance(path, str) and path.startswith("~"):
            raise ValueError(f"{name}: ~ is not expanded here, {path} would be a folder named ~; give a whole path.")


def config_of_command_line(settings: Iterable[str] = ()) -> str | None:
    """Hash of the config files and of the overrides that are neither settings nor without effect.

    Args:
        settings: names of the settings, whose values are known otherwise.

    Returns:
        32 hexadecimal digits; None in programs other than `python -m monai.bundle`.
    """
    if not runs_from_command_line():
        return None
    files, overrides = _arguments(sys.argv[1:])
    known = {*settings, *runtime_names()}
    others = {key.replace("::", "#"): str(value) for key, value in overrides.items() if key not in known}
    return hash_of_configs(files, sorted(others.items()))


def hash_of_configs(files: list[str], others: Any = ()) -> str:
    """Hash of the text of config files."""
    texts = [Path(file).read_text(encoding="utf-8") for file in files]
    return hashlib.sha256(repr([texts, list(others)]).encode()).hexdigest()[:32]


def _arguments(arguments: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Config files and overrides, as fire reads them: --key value, --key=value, -key value."""
    given: dict[str, Any] = {}
    for position, text in enumerate(arguments):
        flag = re.match(r"--?([A-Za-z_][^=]*)(=?)(.*)", text, re.DOTALL)
        if flag:
            follows = arguments[position + 1] if position + 1 < len(arguments) else ""
            given[flag[1].replace("-", "_")] = flag[3] if flag[2] else follows
    if "args_file" in given:
        given = {**ConfigParser.load_config_file(given["args_file"]), **given}
    files = given.get("config_file", "")
    if isinstance(files, str):
        try:
            files = ast.literal_eval(files)
        except (ValueError, SyntaxError):
            files = files if Path(files).is_file() else files.split(",")
    names = [files] if isinstance(files, str) else [str(name).strip() for name in files]
    return [name for name in names if name], {key: value for key, value in given.items() if key not in OPTIONS}
