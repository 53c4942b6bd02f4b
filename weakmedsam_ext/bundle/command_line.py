"""What the user typed behind `python -m monai.bundle run`."""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from .names import check_names

__all__ = ["check_overrides", "config_of_command_line", "runs_from_command_line"]

PROGRAM = "monai.bundle.__main__"
# arguments of `monai.bundle run` itself
OPTIONS = {"run_id", "init_id", "final_id", "meta_file", "config_file", "logging_file", "tracking", "args_file"}


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
        *above, last = re.split("#|::", key)
        place: Any = config
        for number, name in enumerate(above):
            if isinstance(place, Mapping):
                check_names([name], place, f"{where}, --{'#'.join(above[:number])}" if number else where)
            place = place[name] if isinstance(place, Mapping) else None
        # an argument that a component does not have yet may be added, a new id may not
        if isinstance(place, Mapping) and "_target_" not in place:
            check_names([last], place, f"{where}, --{key}" if above else where)


def check_command_line() -> None:
    """Check the overrides of the command line, see `check_overrides`."""
    files, overrides = _arguments(sys.argv[1:])
    if files:
        where = " and ".join(Path(file).name for file in files)
        check_overrides(overrides, ConfigParser.load_config_files(files), where)


def config_of_command_line() -> str | None:
    """Hash of the config files and of the overrides in their depth; None in other programs."""
    if not runs_from_command_line():
        return None
    files, overrides = _arguments(sys.argv[1:])
    nested = sorted((key, value) for key, value in overrides.items() if "#" in key or "::" in key)
    return hash_of_configs(files, nested)


def hash_of_configs(files: list[str], nested: Any = ()) -> str:
    """Hash of the text of config files."""
    texts = [Path(file).read_text(encoding="utf-8") for file in files]
    return hashlib.sha256(repr([texts, list(nested)]).encode()).hexdigest()[:32]


def _arguments(arguments: list[str]) -> tuple[list[str], dict[str, str]]:
    """Config files and overrides, as fire reads them: --key value, --key=value."""
    given: dict[str, str] = {}
    for position, text in enumerate(arguments):
        if text.startswith("--"):
            key, sign, value = text[2:].partition("=")
            follows = arguments[position + 1] if position + 1 < len(arguments) else ""
            given[key.replace("-", "_")] = value if sign else follows
    if "args_file" in given:
        given = {**ConfigParser.load_config_file(given["args_file"]), **given}
    files = given.get("config_file", "")
    try:
        parsed = ast.literal_eval(files)
    except (ValueError, SyntaxError):
        parsed = files if Path(files).is_file() else files.split(",")
    names = [parsed] if isinstance(parsed, str) else [str(name).strip() for name in parsed]
    return [name for name in names if name], {key: value for key, value in given.items() if key not in OPTIONS}
