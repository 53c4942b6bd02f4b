"""From a recipe and a bundle's own settings to plain configs that MONAI reads without this package's help."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from .. import __version__
from ..data import atomic_path, read_json
from .names import check_names
from .recipe import RECIPES, Recipe, deep_merge, expand, load_recipe, recipe_names, references, strings

__all__ = ["BUNDLE_JSON", "build_bundle", "bundle_files", "known_settings"]

BUNDLE_JSON = "bundle.json"
KEYS = ("recipe", "settings", "parts", "presets", "metadata")
GENERATED = ("settings", "network_settings")
PIPELINE = "pipeline"
NO_STAGES = ("multi_gpu_train", "batch_inference")  # overlays that no pipeline runs
# ids at the end of a config; the others come before what refers to them
LAST_SETTINGS = ("num_workers", "amp", "device")
LAST = ("train", "validate", "inputs", "settings", "run_key", "initialize", "run", "finalize")
# what a pipeline sets for its stages itself
PIPELINE_SETS = ("bundle_root", "output_dir", "weights_every_epoch")


def build_bundle(folder: str | Path) -> list[Path]:
    """Write the configs, metadata, licence and logging settings of a bundle from its bundle.json.

    Args:
        folder: the bundle. Configs in it that are another recipe's are deleted, those of the user stay.

    Returns:
        paths of the files.

    Raises:
        FileNotFoundError: when there is no bundle.json.
        ValueError: when it names a recipe, setting or part that does not exist.
    """
    folder = Path(folder)
    files = bundle_files(folder)
    for name, text in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    others = {config for name in recipe_names() for config in ConfigBuilder(load_recipe(name), {}, {}).names}
    for name in others:
        if f"configs/{name}.json" not in files:
            (folder / "configs" / f"{name}.json").unlink(missing_ok=True)
    return [folder / name for name in files]


def bundle_files(folder: str | Path, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Content of the files that `build_bundle` writes.

    Args:
        folder: the bundle.
        settings: in place of those in its bundle.json.

    Returns:
        path in the bundle -> text.
    """
    path = Path(folder) / BUNDLE_JSON
    bundle = read_json(path, "create a bundle by: python -m weakmedsam_ext create --help")
    check_names(bundle, KEYS, str(path))
    recipe = load_recipe(bundle.get("recipe", ""))
    own = {**bundle.get("settings", {}), **(settings or {})}
    builder = ConfigBuilder(recipe, own, bundle.get("parts", {}), where=str(path))
    configs = builder.all_configs()
    pipeline = configs[PIPELINE]
    for name, preset in {**recipe.presets, **bundle.get("presets", {})}.items():
        configs[name] = expand(preset, recipe.presets)
        check_names(configs[name], pipeline, f"{path}: preset {name!r}")
    configs["metadata"] = _metadata(deep_merge(recipe.metadata, bundle.get("metadata", {})), builder.values)
    files = {f"configs/{name}.json": _json(config) for name, config in configs.items()}
    for name, target in (("logging.conf", "configs/logging.conf"), ("LICENSE", "LICENSE")):
        files[target] = (RECIPES / name).read_text(encoding="utf-8")
    return files


class ConfigBuilder:
    """Build the configs of a recipe.

    A config is a body plus the settings and parts that it refers to, directly or through each other, so that every id
    has one definition in the recipe and every config can be read alone.

    Args:
        recipe: the recipe.
        settings: in place of the recipe's defaults.
        parts: in place of the recipe's.
        where: what the settings come from, for errors.

    Raises:
        ValueError: when a setting or part is unknown to the recipe.
    """

    def __init__(self, recipe: Recipe, settings: Mapping[str, Any], parts: Mapping[str, Any], where: str = "") -> None:
        self.recipe = recipe
        self.values = {**recipe.runtime, **recipe.settings}
        self.runtime = set(recipe.runtime)
        self.borrowed = {name: self._borrow(name, settings) for name in recipe.borrowed}
        check_names(settings, self.values, f"{where}: settings")
        for key, value in settings.items():
            number = isinstance(self.values[key], (int, float)) and isinstance(value, str)
            if number and not value.startswith(("$", "@")):
                raise ValueError(f"{where}: settings: {key}: expected a number, but got {value!r}.")
        self.values.update(settings)
        self.parts = {**recipe.parts, **parts}
        self._built: dict[str, dict[str, Any]] = {}

    def all_configs(self) -> dict[str, dict[str, Any]]:
        """Every config by its name."""
        return {name: self.config(name) for name in self.names}

    @property
    def names(self) -> list[str]:
        """Names of the configs."""
        return [*self.recipe.configs, *self.borrowed]

    def config(self, name: str) -> dict[str, Any]:
        """Build one config."""
        if name not in self._built:
            self._built[name] = self._build(name)
        return self._built[name]

    def _build(self, name: str) -> dict[str, Any]:
        alternatives = self.recipe.alternatives
        if name in self.borrowed:
            return self.borrowed[name]
        if name == PIPELINE:
            return self._pipeline()
        if alternatives and name == alternatives["of"]:
            return self._alternative(self.values[alternatives["setting"]])
        if alternatives and name in alternatives["choices"]:
            return self._choice(name)
        base = self.config(self.recipe.overlays[name]) if name in self.recipe.overlays else None
        return self._complete(name, base)

    def _complete(self, name: str, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A body with all that it refers to; of an overlay, what its base does not have."""
        body = expand(self.recipe.configs[name], self.parts)
        start = body if base is not None else {"initialize": self.parts["initialize"], **body}
        found = self._definitions(name, start, base or {})
        config = {**found, **start}
        if base is None:
            if "settings" in references(config):
                config["settings"] = self._settings(config)
        elif "run" in body and "train" not in (reached := self._reached(config, base)):
            config["settings"] = self._settings(reached)  # what its base trains by is nothing to it
        elif own := self._settings(config):
            config["+settings"] = own
        if "network_settings" in references(config):
            config["network_settings"] = self._network_settings(config)
        return self._ordered(self._with_imports(config, base))

    def _definitions(self, name: str, body: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        known = {_top(key) for key in body} | set(base) | set(GENERATED)
        found: dict[str, Any] = {}
        todo = list(references(body))
        if not base and "inputs" in body and "run_key" not in known:
            todo.append("run_key")  # the pipeline asks every stage for it
        while todo:
            key = todo.pop(0)
            if key in known or key in found:
                continue
            if key in self.parts:
                found[key] = expand(self.parts[key], self.parts)
            elif key in self.values:
                found[key] = deepcopy(self.values[key])
            else:
                raise ValueError(f"recipe {self.recipe.name!r}: {name}.json refers to @{key}, which nothing defines.")
            todo += references(found[key])
        return found

    def _settings(self, ids: Container[str]) -> dict[str, str]:
        """References to the settings among some ids that are part of the run key."""
        return {key: f"@{key}" for key in self.values if key in ids and key not in self.runtime}

    def _network_settings(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Settings that the network and its input depend on: weights of other ones would be misread."""
        seen = self._reached({key: config[key] for key in ("network_def", "preprocessing")}, config)
        return {key: f"@{key}" for key in self.recipe.settings if key in seen}

    @staticmethod
    def _reached(config: Mapping[str, Any], base: Mapping[str, Any]) -> set[str]:
        """Ids that a config refers to, directly or through those of its base."""
        seen: set[str] = set()
        todo = list(references({key: value for key, value in config.items() if key not in GENERATED}))
        while todo:
            key = todo.pop()
            if key not in seen and key not in (*GENERATED, "run_key"):
                seen.add(key)
                todo += references([config.get(key), base.get(key)])
        return seen

    def _with_imports(self, config: dict[str, Any], base: Mapping[str, Any] | None) -> dict[str, Any]:
        code = " ".join(text for text in strings(config) if text.startswith("$"))
        used = [name for name in self.recipe.imports if re.search(rf"(?<![\w.@'])\b{name}\b", code)]
        lines = [f"${self.recipe.imports[name]}" for name in used]
        if base is None:
            return {"imports": lines, **config}
        new = [line for line in lines if line not in base.get("imports", ())]
        return {"+imports": new, **config} if new else config

    def _ordered(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Imports, settings, then definitions before what refers to them."""
        settings = [key for key in self.values if key in config and key not in LAST_SETTINGS]
        settings += [key for key in LAST_SETTINGS if key in config]
        done = dict.fromkeys(key for key in ("imports", "+imports", *settings) if key in config)

        def add(key: str, above: tuple[str, ...] = ()) -> None:
            if key in done or key in above:
                return
            for other in references(config[key]):
                if other in config and other not in LAST:
                    add(other, (*above, key))
            done[key] = None

        first = [key for key in config if _top(key) not in LAST]
        for key in (*first, *sorted((key for key in config if key not in first), key=lambda k: LAST.index(_top(k)))):
            add(key)
        return {key: config[key] for key in done}

    def _alternative(self, choice: str) -> dict[str, Any]:
        """A config with one of its alternatives merged into it."""
        alternatives = self.recipe.alternatives
        check_names([choice], alternatives["choices"], f"setting {alternatives['setting']!r}")
        base = self._complete(alternatives["of"])
        parser = ConfigParser(config=deepcopy(base))
        for key, value in self._complete(choice, base).items():
            merge_kv(parser, key, value)
        return self._ordered(parser.get())

    def _choice(self, name: str) -> dict[str, Any]:
        """An alternative as overlay, which takes the place of the one that was merged."""
        of, choices = self.recipe.alternatives["of"], self.recipe.alternatives["choices"]
        base = self._complete(of)
        whole, merged = self._alternative(name), self.config(of)
        touched = {key.lstrip("+") for choice in choices for key in self.recipe.configs[choice]}
        overlay = {key: whole[key] for key in whole if key not in merged}
        for key in sorted(touched):
            if _top(key) in base:
                overlay[key] = ConfigParser(config=whole)[key]
        settings = {key: value for key, value in whole["settings"].items() if key not in merged["settings"]}
        if settings:
            overlay["+settings"] = settings
        return self._ordered(overlay)

    def _pipeline(self) -> dict[str, Any]:
        """The stages, with every setting that one of them declares."""
        body = expand(self.recipe.configs[PIPELINE], self.parts)
        stages = [name for name in (*self.recipe.configs, *self.borrowed) if name not in (PIPELINE, *NO_STAGES)]
        declared = {key for name in stages for key in self.config(name)}
        names = self.recipe.pipeline_names
        passed = [
            key for key in self.values if key in declared and key not in PIPELINE_SETS and not self._is_derived(key)
        ]
        known = {names.get(key, key): deepcopy(self.values[key]) for key in passed}
        settings = {key: f"@{names.get(key, key)}" for key in passed}
        body["pipeline"] = expand(self.parts["pipeline"], self.parts)
        found = self._definitions(PIPELINE, {**known, **body}, {})
        # settings that choose stages or overlays: no stage gets them, but they are part of what made the weights
        settings |= {key: f"@{key}" for key in self.recipe.settings if key in found}
        paths: dict[str, Any] = {key: found.pop(key) for key in ("bundle_root", "output_dir") if key in found}
        late = {key: known.pop(key) for key in LAST_SETTINGS if key in known}
        first = {key: found.pop(key) for key in self.values if key in found}
        config: dict[str, Any] = {**paths, **first, **known, **late}
        config |= {**found, **body, "settings": settings}
        ordered = self._with_imports(config, None)
        return {key: ordered[key] for key in sorted(ordered, key=_pipeline_place)}

    def _is_derived(self, key: str) -> bool:
        """Whether a path follows from others, such as a file in output_dir, of which each stage has its own."""
        value = self.values[key]
        return key in self.runtime and isinstance(value, str) and value.startswith("$") and "@" in value

    def _borrow(self, name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """A config of another recipe, whose own settings get the borrowed config's name as prefix."""
        source = self.recipe.borrowed[name]
        lender = load_recipe(source["recipe"])
        theirs = {**lender.runtime, **lender.settings}
        shared = {*_common_settings(), *source["shared"]}
        renamed = {key: f"{name}_{key}" for key in theirs if key not in shared}
        mine = {**self.values, **settings}
        values = {key: mine[renamed.get(key, key)] for key in theirs if renamed.get(key, key) in mine}
        builder = ConfigBuilder(lender, values, {}, name)
        config = builder.config(source["config"])
        used = {key: new for key, new in renamed.items() if key in config}
        self.values.update({new: builder.values[key] for key, new in used.items()})
        self.runtime |= {new for key, new in used.items() if key in lender.runtime}
        return _rename(config, renamed)


def known_settings(recipe: str) -> set[str]:
    """Names of the settings that a recipe's bundle.json may set and that change results."""
    builder = ConfigBuilder(load_recipe(recipe), {}, {})
    return set(builder.values) - builder.runtime


def _common_settings() -> set[str]:
    """Names of the settings that all recipes have."""
    content = (read_json(RECIPES / f"{kind}.json", "install the package again") for kind in ("settings", "runtime"))
    return {key for settings in content for key in settings}


def _rename(config: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    pattern = re.compile(rf"@({'|'.join(map(re.escape, renamed))})\b")

    def convert(item: Any) -> Any:
        if isinstance(item, str) and item.startswith(("@", "$")):
            return pattern.sub(lambda match: f"@{renamed[match[1]]}", item)
        if isinstance(item, dict):
            return {key: convert(value) for key, value in item.items()}
        return [convert(value) for value in item] if isinstance(item, list) else item

    content = {renamed.get(key, key): convert(value) for key, value in config.items()}
    content["settings"] = {renamed.get(key, key): value for key, value in content["settings"].items()}
    return content


def _top(key: str) -> str:
    """Top-level id of a key of a config or an overlay, such as "+train#trainer"."""
    return re.split("#|::", key.lstrip("+"))[0]


def _pipeline_place(key: str) -> int:
    return {"imports": 0, "stages": 2, "settings": 3, "pipeline": 4, "initialize": 5, "run": 6}.get(key, 1)


def _metadata(metadata: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in what follows from the settings."""
    metadata = _with_values(metadata, values)
    metadata["required_packages_version"] = {
        "weakmedsam_ext": __version__,
        **dict(sorted(metadata["required_packages_version"].items())),
    }
    output = metadata["network_data_format"]["outputs"]["pred"]
    if not output["channel_def"]:
        names = ["background", *values["class_map"]]
        output["channel_def"] = {str(number): name for number, name in enumerate(names)}
        output["num_channels"] = len(names)
        metadata["pred_classes"] = ", ".join(f"{number} {name}" for number, name in enumerate(names))
    return metadata


def _with_values(item: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(item, dict):
        return {key: _with_values(value, values) for key, value in item.items()}
    if isinstance(item, list):
        return [_with_values(value, values) for value in item]
    return values[item[1:]] if isinstance(item, str) and item.startswith("@") else item


def _json(content: Any) -> str:
    return json.dumps(content, indent=4, ensure_ascii=False) + "\n"
