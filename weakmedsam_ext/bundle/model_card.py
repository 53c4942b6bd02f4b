"""The page that a model hub shows first: a header that it can search, and what the bundle's metadata say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

__all__ = ["model_card"]

APACHE = "Apache License"
TEXT = """# {name}

{description}

| | |
|---|---|
{rows}

Data, training, performance, commands and limits are in [docs/README.md](docs/README.md).
"""
# key of the metadata -> what it is called
ROWS = {
    "task": "task",
    "version": "version",
    "data_source": "data",
    "image_classes": "input",
    "pred_classes": "output",
    "intended_use": "intended use",
    "authors": "authors",
}


def model_card(folder: str, metadata: Mapping[str, Any], licence: str, recipe: str = "") -> str:
    """Write a model card with a YAML header, as the hubs of Hugging Face read it.

    Args:
        folder: name of the bundle's folder, for a bundle without a name.
        metadata: of the bundle.
        licence: text of its LICENSE.
        recipe: that the bundle was built from; becomes a tag.

    Returns:
        Markdown.
    """
    rows = [(title, metadata.get(key)) for key, title in ROWS.items()]
    rows += [(name.replace("_", " "), value) for name, value in (metadata.get("eval_metrics") or {}).items()]
    text = TEXT.format(
        name=metadata.get("name") or folder,
        description=metadata.get("description", ""),
        rows="\n".join(f"| {title} | {_cell(value)} |" for title, value in rows if value not in (None, "")),
    )
    header = {
        # a licence that the hubs do not know by a short name is shown as its file
        **({"license": "apache-2.0"} if APACHE in licence else {"license": "other", "license_link": "LICENSE"}),
        "library_name": "monai",
        "pipeline_tag": "image-segmentation",
        "tags": ["monai", "medical", *([recipe] if recipe else []), *_modalities(metadata)],
    }
    return f"---\n{yaml.safe_dump(header, sort_keys=False, allow_unicode=True)}---\n\n{text}"


def _cell(value: Any) -> str:
    """One line without the character that ends a cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _modalities(metadata: Mapping[str, Any]) -> list[str]:
    """What the inputs of the network are, such as "ct"; "any" tells nothing."""
    data_format = metadata.get("network_data_format") or {}
    names = {str(image.get("modality", "any")).lower() for image in data_format.get("inputs", {}).values()}
    return sorted(names - {"any", "n/a"})
