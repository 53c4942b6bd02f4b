"""A bundle for a user's own data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import atomic_path, write_json
from .build import BUNDLE_JSON, build_bundle, bundle_files
from .recipe import RECIPES, load_recipe

__all__ = ["create_bundle"]


def create_bundle(
    recipe: str,
    output: str | Path,
    dataset_dir: str | Path,
    class_map: Mapping[str, int | Sequence[int]],
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Create a bundle from a recipe.

    Args:
        recipe: "weakmedsam", "semisam", "promptable/2d" or "promptable/3d".
        output: folder of the new bundle; its name is the bundle's.
        dataset_dir: the data, in the layout of the Medical Segmentation Decathlon.
        class_map: class name -> value or values in the masks.
        settings: other settings of the recipe, for example {"spacing": 2.0}.

    Returns:
        the folder.

    Raises:
        FileExistsError: when the folder holds a bundle already.
        ValueError: when there is no such recipe or setting, or no class.
    """
    output = Path(output).expanduser().absolute()
    if (output / BUNDLE_JSON).exists():
        raise FileExistsError(f"{output} holds a bundle already; edit its {BUNDLE_JSON}, or give another folder.")
    if not isinstance(class_map, Mapping) or not class_map:
        raise ValueError(f"class_map: expected a name and its value, as in \"{{'liver': 1}}\", but got {class_map!r}.")
    # pipelines have names of their own for some settings, which are the ones that users know
    names = {other: name for name, other in load_recipe(recipe).pipeline_names.items()}
    settings = {names.get(name, name): value for name, value in (settings or {}).items()}
    where = str(Path(dataset_dir).expanduser().absolute())
    bundle = {
        "recipe": recipe,
        "settings": {"dataset_dir": where, "class_map": dict(class_map), **settings},
        "metadata": {
            "changelog": {"0.1.0": "first version"},
            "name": output.name,
            "task": f"Segmentation of {', '.join(map(str, class_map))}",
            "description": f"Built from the recipe {recipe} of weakmedsam-ext.",
            "data_source": "own data; not included",
            "label_classes": f"values in the masks: {dict(class_map)}",
        },
    }
    write_json(bundle, output / BUNDLE_JSON)
    try:
        bundle_files(output)
    except ValueError:
        (output / BUNDLE_JSON).unlink()
        if not any(output.iterdir()):
            output.rmdir()
        raise
    build_bundle(output)
    page = (RECIPES / "README.md").read_text(encoding="utf-8")
    words = {"name": output.name, "folder": output.name, "recipe": recipe, "dataset_dir": where}
    for key, value in {**words, "classes": json.dumps(dict(class_map))}.items():
        page = page.replace(f"{{{key}}}", value)
    with atomic_path(output / "docs" / "README.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    return output
