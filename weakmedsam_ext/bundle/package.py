"""A bundle as one zip file that works alone: for the model zoo, for MONAI Label, for `monai.bundle.download`."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from monai.bundle import ConfigParser

from ..data import atomic_path, read_json
from ..networks import load_checkpoint
from .build import BUNDLE_JSON, bundle_files, known_settings
from .model_card import model_card
from .pipeline import SETTINGS

__all__ = ["check_bundle", "package_bundle"]

REQUIRED = ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "docs/README.md")
# what MONAI's metadata schema asks for, and the change log that the model zoo asks for
METADATA = (
    "schema",
    "version",
    "changelog",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
    "authors",
    "copyright",
    "network_data_format",
)
LARGE_FILE = {"path", "url", "hash_val", "hash_type"}
CONTENT = ("LICENSE", BUNDLE_JSON, "large_files.yml", "configs/*", "docs/**/*")
MODEL = "models/model.pt"
CARD = "README.md"
OF_THE_MACHINE = {"amp", "num_workers"}  # settings that are none of the method
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold: the same content gives the same bytes


def package_bundle(
    bundle: str | Path, output: str | Path, model: str | Path | None = None, run: str | Path | None = None
) -> Path:
    """Write a bundle's configs, documents and licence, and its weights if given, into a zip file.

    Everything is below one folder with the bundle's name. Outputs and caches that lie in the bundle stay outside, and
    so do the large files, which the user downloads. Weights come with the settings that they were trained with, where
    the training has left these beside them: configs and metadata are built for those. README.md, a model card with a
    header for model hubs, is made from the metadata.

    Args:
        bundle: folder of the bundle.
        output: ends in ".zip"; appears complete or not at all.
        model: trained weights. They become models/model.pt, as the bare state dict that MONAI's export, the model zoo
            and MONAI Label read alike.
        run: output_dir of a pipeline, whose models/model.pt is packed; in place of `model`.

    Returns:
        path of the zip file.

    Raises:
        FileNotFoundError: when the bundle lacks a file, or there is no such model.
        ValueError: when the metadata is incomplete, or the model is not that of the bundle.
    """
    # without .. and links: the last part names the folder in the archive
    bundle, output = Path(bundle).expanduser().resolve(), Path(output).expanduser()
    if not (bundle / "configs").is_dir():
        raise FileNotFoundError(f"{bundle} is no bundle, it has no folder configs; give the bundle's folder.")
    if output.suffix != ".zip":
        raise ValueError(f"output: expected a file that ends in .zip, but got {output}.")
    if run is not None and model is not None:
        raise ValueError("expected a model or a run, but got both; leave one out.")
    trained: Path | None = None
    if run is not None:
        trained = Path(run).expanduser() / SETTINGS
        best = (
            trained.exists() and read_json(trained, "run the pipeline again, which writes it").get("select") == "best"
        )
        model = Path(run).expanduser() / ("models/best.pt" if best else MODEL)
    check_bundle(bundle)
    files = {str(path.relative_to(bundle).as_posix()): path.read_bytes() for path in _content(bundle)}
    if model is not None:
        model = Path(model).expanduser()
        files.update(_configs_of(bundle, trained or model.with_suffix(".json")))
        files[MODEL] = _weights(json.loads(files["configs/inference.json"]), bundle, model)
    files[CARD] = _card(bundle.name, files)
    with atomic_path(output) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(f"{bundle.name}/{name}", TIMESTAMP)
            entry.create_system = 3  # Unix, on every machine
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return output


def _card(name: str, files: dict[str, bytes]) -> bytes:
    """Model card of what is packed, not of what lies in the bundle: a model may have metadata of its own."""
    metadata, own = json.loads(files["configs/metadata.json"]), json.loads(files.get(BUNDLE_JSON, b"{}"))
    licence = files["LICENSE"].decode("utf-8", errors="replace")
    return model_card(name, metadata, licence, str(own.get("recipe", "")).split("/")[0]).encode()


def _configs_of(bundle: Path, record: Path) -> dict[str, bytes]:
    """Configs for the settings that a model was trained with; none when nobody knows them."""
    own = bundle / BUNDLE_JSON
    if not record.exists() or not own.exists():
        return {}
    trained = read_json(record, "restore it, or delete it to pack the settings of the bundle")
    trained = trained.get("settings", trained)
    content = read_json(own, "restore it")
    known = known_settings(content.get("recipe", "")) - OF_THE_MACHINE
    settings = {name: value for name, value in trained.items() if name in known and not _is_private(value)}
    content["settings"] = {**content.get("settings", {}), **settings}
    files = {name: text.encode() for name, text in bundle_files(bundle, settings).items()}
    return {**files, BUNDLE_JSON: (json.dumps(content, indent=4, ensure_ascii=False) + "\n").encode()}


def _is_private(value: Any) -> bool:
    """Whether a setting names files, folders or cases of whoever trained."""
    if isinstance(value, dict):
        return "file" in value or "folder" in value
    return isinstance(value, list) and any(isinstance(one, (str, dict)) for one in value)


def check_bundle(bundle: str | Path) -> None:
    """Check that a bundle has what MONAI and its model zoo ask for.

    Args:
        bundle: folder of the bundle.

    Raises:
        FileNotFoundError: when it lacks a file.
        ValueError: when its metadata or its list of large files is incomplete.
    """
    bundle = Path(bundle)
    missing = [name for name in REQUIRED if not (bundle / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{bundle} is no complete bundle, it lacks {', '.join(missing)}; add what is missing.")
    path = bundle / "configs" / "metadata.json"
    metadata = read_json(path, "restore it")
    absent = [key for key in METADATA if key not in metadata]
    if absent:
        raise ValueError(f"{path} lacks {', '.join(absent)}; add them.")
    if metadata["version"] not in metadata["changelog"]:
        raise ValueError(f"{path}: version {metadata['version']} is not in the changelog; say there what is new.")
    _check_large_files(bundle / "large_files.yml")


def _check_large_files(path: Path) -> None:
    """A file that is downloaded without a hash could be anything."""
    if not path.is_file():
        return
    try:
        entries = [dict(entry) for entry in ConfigParser.load_config_file(path)["large_files"]]
    except Exception as error:  # the errors of YAML have no class in common with the others
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a list of files under large_files ({reason}); restore it.") from error
    for entry in entries:
        absent = LARGE_FILE - set(entry)
        if absent:
            raise ValueError(f"{path}: {entry.get('path', 'an entry')} lacks {', '.join(sorted(absent))}; add them.")
        inside = PurePosixPath(str(entry["path"]).replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in inside.parts[0]:
            raise ValueError(f"{path}: {entry['path']} lies outside the bundle; give a path within it.")


def _content(bundle: Path) -> Iterator[Path]:
    for pattern in CONTENT:
        for path in bundle.glob(pattern):
            inside = path.relative_to(bundle).parts
            if path.is_file() and not any(part.startswith((".", "__")) for part in inside):
                if not path.resolve().is_relative_to(bundle.resolve()):
                    raise ValueError(f"{path} is a link to a file outside the bundle; replace it by a copy.")
                yield path


def _weights(config: dict[str, Any], bundle: Path, model: Path) -> bytes:
    """State dict of the bundle's network as a file, checked against the network."""
    parser = ConfigParser(config={**config, "bundle_root": str(bundle)})
    network = parser.get_parsed_content("network_def")
    kept = load_checkpoint(network, model)
    if kept:
        raise ValueError(f"checkpoint {model} lacks {len(kept)} tensors of the network, such as {kept[0]}; train it.")
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    return buffer.getvalue()
