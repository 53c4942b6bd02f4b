"""One key that says what a result was made from: settings, inputs by content, config and package version."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from .. import __version__
from ..data import HashCache
from ..data.volume_formats import is_dicom_folder
from .command_line import config_of_command_line

__all__ = ["RunKey", "differences", "plain"]

HASHES = "stages/hashes.json"
NUM_NAMED = 3  # differences that a message shows


class RunKey:
    """Everything that can change the result of a stage.

    A stage that is run again compares its key with that of what it wrote: equal keys mean that nothing needs to be
    done, or that an interrupted training may go on. Files count by their content, and files in `output_dir` by their
    place in it, so that moved folders change no key.

    Args:
        output_dir: of the run.
        settings: name -> value. A value that names a file counts by the file's content.
        inputs: paths of the files and folders that the stage reads, in nested lists and dictionaries. What does not
            exist is left out.
        config: hash of the config's text. By default that of the files that `python -m monai.bundle run` was given,
            with overrides that are no settings; None in any other program.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any] | None = None,
        inputs: Any = (),
        config: str | None = None,
    ) -> None:
        self.output_dir = Path(os.path.abspath(output_dir))
        self.settings = dict(settings or {})
        self.inputs = inputs
        self.config = config

    @cached_property
    def record(self) -> dict[str, Any]:
        """Package version, config, settings and hashes of the inputs, as JSON holds them; files are read once."""
        hashes = HashCache(self.output_dir / HASHES)
        return {
            "package": __version__,
            "config": config_of_command_line(self.settings) if self.config is None else self.config,
            "settings": {name: self._setting(value, hashes) for name, value in self.settings.items()},
            "inputs": self._inputs(hashes),
        }

    @property
    def digest(self) -> str:
        """SHA-256 of the record, 64 hexadecimal digits."""
        # in their order: that of the names in class_map is that of the network's channels
        return hashlib.sha256(json.dumps(self.record).encode()).hexdigest()

    @property
    def made_from(self) -> dict[str, Any]:
        """The record with its digest, as it stands beside results."""
        return {"key": self.digest, **self.record}

    def changes(self, earlier: Mapping[str, Any]) -> str:
        """Why this key differs from an earlier record, in one line; empty when it does not."""
        return differences(earlier, self.record)

    def _setting(self, value: Any, hashes: HashCache) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self._setting(one, hashes) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._setting(one, hashes) for one in value]
        path = Path(value) if isinstance(value, (str, Path)) and str(value) else None
        if path is not None and _is_file(path):
            return {"file": path.name, "hash": hashes(path)}
        # a method's name is no folder, even where one has the same name
        if path is not None and len(path.parts) > 1 and path.is_dir():
            return {"folder": path.name}
        return plain(value)

    def _inputs(self, hashes: HashCache) -> dict[str, str]:
        """Name -> hash of every input; files of one name are told together."""
        found: dict[str, list[str]] = {}
        for path in sorted({Path(os.path.abspath(path)) for path in _files(self.inputs)}):
            found.setdefault(self._name(path), []).append(hashes(path))
        return {name: ", ".join(found[name]) for name in sorted(found)}

    def _name(self, path: Path) -> str:
        """A file's name in the record: its place in `output_dir`, or its last two parts elsewhere."""
        if path.is_relative_to(self.output_dir):
            return path.relative_to(self.output_dir).as_posix()
        return "/".join(path.parts[-2:])


def plain(value: Any) -> Any:
    """A setting as JSON holds it."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)  # 16 and 16.0 are the same setting
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def differences(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between two records, in one line: "cam_epochs changed: 4 -> 5, 2 inputs added: a, b"."""
    found = []
    for kind, title in (("package", "package version"), ("config", "config")):
        if earlier.get(kind) != now.get(kind):
            values = f": {earlier.get(kind)} -> {now.get(kind)}" if kind == "package" else ""
            found.append(f"{title} changed{values}")
    before, after = earlier.get("settings", {}), now.get("settings", {})
    for name in dict.fromkeys([*before, *after]):
        if name not in after or name not in before or json.dumps(before[name]) != json.dumps(after[name]):
            found.append(f"{name} changed: {_short(before.get(name))} -> {_short(after.get(name))}")
    before, after = earlier.get("inputs", {}), now.get("inputs", {})
    changed = [name for name in after if name in before and before[name] != after[name]]
    for names, what in (
        (set(after) - set(before), "added"),
        (set(before) - set(after), "removed"),
        (changed, "changed"),
    ):
        if names:
            found.append(f"{len(names)} inputs {what}: {_some(sorted(names))}")
    return ", ".join(found)


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"file", "hash"}:
        return f"{value['file']} ({value['hash'][:8]})"
    return json.dumps(value)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NUM_NAMED]) + (", ..." if len(names) > NUM_NAMED else "")


def _files(inputs: Any) -> Iterator[Path]:
    """All existing files in nested inputs, those in folders too; a DICOM series counts as one."""
    if isinstance(inputs, Mapping):
        inputs = list(inputs.values())
    if isinstance(inputs, (list, tuple)):
        for one in inputs:
            yield from _files(one)
    elif isinstance(inputs, (str, Path)) and str(inputs):
        path = Path(inputs)
        yield from [path] if _is_input(path) else (file for file in path.rglob("*") if file.is_file())


def _is_input(path: Path) -> bool:
    """Whether a path is a file, or a folder that is one image."""
    return _is_file(path) or is_dicom_folder(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a text that is too long for a name
        return False
