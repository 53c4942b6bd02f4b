"""Recipes: a method, written once, as settings, parts and configs that refer to each other by id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.utils import look_up_option

from ..data import read_json

__all__ = [
    "RECIPES",
    "Recipe",
    "deep_merge",
    "expand",
    "load_recipe",
    "recipe_names",
    "references",
    "runtime_names",
    "strings",
]

RECIPES = Path(__file__).parent / "recipes"
# files of a recipe's folder that are no configs
SPECIAL = ("settings", "runtime", "parts", "imports", "metadata", "recipe")
MACRO = "%"


@dataclass
class Recipe:
    """A method with everything that its folder inherits from the folders above.

    Args:
        name: path below the recipes, for example "promptable/2d".
        settings: name -> default of what changes results.
        runtime: name -> default of what changes none: paths, device, workers.
        parts: id -> definition. A config gets those that it refers to, as `@id`, or by value, as `%id`.
        configs: name -> body of a config.
        imports: name -> import statement, for expressions.
        metadata: what all bundles of the recipe have in common.
        overlays: config -> config that it is merged into at run time.
        alternatives: {"setting", "of", "choices"}: overlays of a config of which a setting chooses one.
        pipeline_names: setting -> its name in pipeline.json.
        presets: name -> settings, for a config that a bundle may replace by a preset of that name; with the key "%" its
            own starts from the recipe's preset that it names.
        borrowed: config -> {"recipe", "config", "shared"}: a config of another recipe.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    runtime: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    overlays: dict[str, str] = field(default_factory=dict)
    alternatives: dict[str, Any] = field(default_factory=dict)
    pipeline_names: dict[str, str] = field(default_factory=dict)
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    borrowed: dict[str, dict[str, Any]] = field(default_factory=dict)


def recipe_names() -> list[str]:
    """Names of all recipes: folders without a folder below them."""
    folders = [path for path in RECIPES.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    return sorted(
        path.relative_to(RECIPES).as_posix() for path in folders if not any(p.parent == path for p in folders)
    )


def runtime_names() -> set[str]:
    """Names of the settings of any recipe that change no result."""
    return {name for path in RECIPES.rglob("runtime.json") for name in read_json(path, "install the package again")}


def load_recipe(name: str) -> Recipe:
    """Read a recipe.

    Raises:
        ValueError: when there is no such recipe.
    """
    recipe = Recipe(look_up_option(name, recipe_names()))
    folders = [RECIPES]
    for part in name.split("/"):
        folders.append(folders[-1] / part)
    for folder in folders:
        content = {path.stem: read_json(path, "install the package again") for path in sorted(folder.glob("*.json"))}
        for kind in ("settings", "runtime", "parts", "imports"):
            getattr(recipe, kind).update(content.get(kind, {}))
        recipe.metadata = deep_merge(recipe.metadata, content.get("metadata", {}))
        for kind, value in content.get("recipe", {}).items():
            inherited = getattr(recipe, kind)
            setattr(recipe, kind, {**inherited, **value} if kind == "overlays" else value)
        recipe.configs.update({stem: body for stem, body in content.items() if stem not in SPECIAL})
    return recipe


def deep_merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries; the list "references" is appended, anything else is replaced."""
    merged = deepcopy(dict(base))
    for key, value in more.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, Mapping):
            merged[key] = deep_merge(old, value)
        elif isinstance(old, list) and isinstance(value, list) and key == "references":
            merged[key] = [*old, *value]
        else:
            merged[key] = deepcopy(value)
    return merged


def expand(item: Any, parts: Mapping[str, Any]) -> Any:
    """Put parts in the place of `%id`; in a list, a part that is a list adds its items.

    A dictionary with the key "%" starts from the part that it names.
    """
    if isinstance(item, str) and item.startswith(MACRO):
        return expand(_part(item.removeprefix(MACRO), parts), parts)
    if isinstance(item, list):
        expanded: list[Any] = []
        for element in item:
            content = expand(element, parts)
            spliced = isinstance(element, str) and element.startswith(MACRO) and isinstance(content, list)
            expanded.extend(content if spliced else [content])
        return expanded
    if isinstance(item, dict):
        start = expand(_part(item[MACRO], parts), parts) if MACRO in item else {}
        return {**start, **{key: expand(value, parts) for key, value in item.items() if key != MACRO}}
    return deepcopy(item)


def _part(name: str, parts: Mapping[str, Any]) -> Any:
    if name not in parts:
        raise ValueError(f"recipe: expected a part named {name!r}, but there is none; add it to parts.json.")
    return parts[name]


def strings(item: Any) -> Iterator[str]:
    """All strings in nested lists and dictionaries."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, Mapping):
        for value in item.values():
            yield from strings(value)
    elif isinstance(item, list):
        for value in item:
            yield from strings(value)


def references(item: Any) -> dict[str, None]:
    """Top-level ids that an item refers to, in their order."""
    texts = (text for text in strings(item) if text.startswith(("@", "$")))
    return dict.fromkeys(found for text in texts for found in re.findall(r"@(\w+)", text))
