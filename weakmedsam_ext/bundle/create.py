"""A bundle for a user's own data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..data import atomic_path, images_of, list_cases, read_grid, write_json
from ..data.volume_formats import is_picture
from .build import BUNDLE_JSON, build_bundle, bundle_files
from .recipe import RECIPES, load_recipe

__all__ = ["create_bundle"]

FILES = ("labels_csv", "checkpoint", "pretrain_checkpoint", "split_file", "groups")  # settings that can name a file
OWN_FILES = ("labels_csv", "split_file")  # those that the user has written before


def create_bundle(
    recipe: str,
    output: str | Path,
    dataset_dir: str | Path,
    class_map: Mapping[str, int | Sequence[int]] | Sequence[str],
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Create a bundle from a recipe.

    Args:
        recipe: "weakmedsam", "semisam", "promptable/2d" or "promptable/3d".
        output: folder of the new bundle; its name is the bundle's.
        dataset_dir: the data: a public data set as downloaded, or a folder of images, see `list_cases`.
        class_map: class name -> value or values in the masks; or names alone, where there are no masks.
        settings: other settings of the recipe, for example {"spacing": 2.0}. Files are kept with absolute paths. The
            weak recipe takes one slice of a volume where all images are PNG or JPEG, unless this says otherwise.

    Returns:
        the folder.

    Raises:
        FileExistsError: when the folder holds a bundle already.
        FileNotFoundError: when the data or a file that a setting names are missing.
        ValueError: when there is no such recipe or setting, or no class, or the first image cannot be read.
    """
    output = Path(output).expanduser().absolute()
    if (output / BUNDLE_JSON).exists():
        raise FileExistsError(f"{output} holds a bundle already; edit its {BUNDLE_JSON}, or give another folder.")
    # pipelines have names of their own for some settings, which are the ones that users know
    method = load_recipe(recipe)
    names = {other: name for name, other in method.pipeline_names.items()}
    settings = {names.get(name, name): value for name, value in (settings or {}).items()}
    where = str(Path(dataset_dir).expanduser().absolute())
    settings = {name: _absolute(name, value) for name, value in settings.items()}
    cases = list_cases(where, settings.get("layout"), settings.get("modalities"), check_masks=False)
    class_map = _values_of_classes(class_map, any("label" in case for case in cases))
    images = [path for case in cases for path in images_of(case)]
    read_grid(images[0])
    if "slices_per_volume" in method.settings and all(map(is_picture, images)):
        settings.setdefault("slices_per_volume", 1)
    bundle = {
        "recipe": recipe,
        "settings": {"dataset_dir": where, "class_map": class_map, **settings},
        "metadata": {
            "changelog": {"0.1.0": "first version"},
            "name": output.name,
            "task": f"Segmentation of {', '.join(map(str, class_map))}",
            "description": f"Built from the recipe {recipe} of weakmedsam-ext.",
            "data_source": "own data; not included",
            "label_classes": f"values in the masks: {class_map}",
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
    for key, value in {**words, "classes": json.dumps(class_map)}.items():
        page = page.replace(f"{{{key}}}", value)
    with atomic_path(output / "docs" / "README.md") as temporary:
        temporary.write_text(page, encoding="utf-8")
    with atomic_path(output / "docs" / "data_license.txt") as temporary:
        temporary.write_text((RECIPES / "data_license.txt").read_text(encoding="utf-8"), encoding="utf-8")
    return output


def _values_of_classes(
    class_map: Mapping[str, int | Sequence[int]] | Sequence[str], has_masks: bool
) -> dict[str, int | Sequence[int]]:
    """Class name -> value or values; names alone get the values 1, 2, ..., which masks might not have."""
    if isinstance(class_map, Mapping) and class_map:
        return dict(class_map)
    if isinstance(class_map, str) or not isinstance(class_map, Sequence) or not class_map:
        raise ValueError(f"class_map: expected a name and its value, as in \"{{'liver': 1}}\", but got {class_map!r}.")
    if has_masks:
        raise ValueError(
            f"class_map: expected the values in the masks, as in \"{{'{class_map[0]}': 1}}\", but got {class_map!r}."
        )
    if len(set(class_map)) != len(class_map):
        raise ValueError(f"class_map: expected each name once, but got {class_map!r}.")
    return {str(name): value for value, name in enumerate(class_map, 1)}


def _absolute(name: str, value: Any) -> Any:
    """A setting that names a file, with its absolute path; any other one as it is."""
    if name not in FILES or not isinstance(value, (str, Path)) or not value or str(value).startswith(("$", "@")):
        return value
    if name == "groups" and not str(value).endswith(".csv"):  # a pattern
        return value
    path = Path(value).expanduser().absolute()
    if name in OWN_FILES and not path.is_file():
        raise FileNotFoundError(f"{name}: {path} does not exist; correct the path.")
    return str(path)
