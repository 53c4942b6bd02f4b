"""Every bundle's configs: what they name exists, what they refer to is there, and MONAI's own checks pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.bundle.config_item import ComponentLocator

from weakmedsam_ext.data import write_phantoms

BUNDLES = sorted(path.parent.parent for path in (Path(__file__).parents[2] / "bundles").glob("*/configs/metadata.json"))
CONFIGS = [path for bundle in BUNDLES for path in sorted((bundle / "configs").glob("*.json"))]
OVERLAYS = {"demo.json": "pipeline.json", "own_network.json": "pipeline.json", "multi_gpu_train.json": "train.json"}
STAGES = [path for path in CONFIGS if path.name != "metadata.json"]


def name_of(path):
    return f"{path.parent.parent.name}/{path.name}" if path.suffix else path.name


def read(path):
    """A config, or an overlay on its base."""
    parser = ConfigParser()
    base = OVERLAYS.get(path.name)
    parser.read_config([str(path.parent / base), str(path)] if base else str(path))
    return parser


def walk(item, key=""):
    yield key, item
    if isinstance(item, dict):
        for name, value in item.items():
            yield from walk(value, f"{key}::{name}" if key else name)
    elif isinstance(item, list):
        for index, value in enumerate(item):
            yield from walk(value, f"{key}::{index}")


def test_bundles_are_found():
    assert "weakmedsam_msd_heart" in [bundle.name for bundle in BUNDLES]


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_every_target_exists(path):
    locator = ComponentLocator()
    targets = [item["_target_"] for _, item in walk(read(path).get()) if isinstance(item, dict) and "_target_" in item]
    missing = [target for target in targets if locate(target) is None and not locator.get_component_module_name(target)]
    assert missing == []


@pytest.mark.parametrize("path", STAGES, ids=name_of)
def test_every_reference_resolves(path):
    parser = read(path)
    ids = {key for key, _ in walk(parser.get())}
    texts = [item for _, item in walk(parser.get()) if isinstance(item, str) and item.startswith(("@", "$"))]
    referred = {found for text in texts for found in re.findall(r"@(\w+(?:::\w+)*)", text)}
    assert referred - ids == set()


@pytest.mark.parametrize("path", [p for p in STAGES if p.name not in OVERLAYS], ids=name_of)
def test_no_setting_is_without_use(path):
    """A scalar at the top that nothing refers to would be a switch without a wire."""
    config = json.loads(path.read_text())
    text = path.read_text()
    unused = [key for key, value in config.items() if not isinstance(value, (dict, list)) and f"@{key}" not in text]
    assert unused == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_settings_that_stages_share_have_one_default(bundle):
    """The data, split and backbone that one stage takes for granted are those of the others."""
    defaults: dict[str, dict[str, str]] = {}
    for path in (bundle / "configs").glob("*.json"):
        if path.name not in ("metadata.json", *OVERLAYS):
            for key, value in json.loads(path.read_text()).items():
                plain = not isinstance(value, (dict, list)) and not str(value).startswith("$")
                if plain or key in ("class_map", "roi_size", "stride"):
                    defaults.setdefault(key, {})[path.name] = json.dumps(value)
    own = {"epochs", "batch_size", "learning_rate", "weight_decay", "use_affinity"}  # each training has its own
    differing = {key: found for key, found in defaults.items() if len(set(found.values())) > 1 and key not in own}
    assert differing == {}


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_properties_are_complete(bundle, kind, tmp_path):
    configs = bundle / "configs"
    overrides = {"datalist": ["a.nii.gz"]}
    if kind == "train":  # a trainer caches its data when it is made; any masks stand for pseudo-labels here
        write_phantoms(tmp_path, num_cases=5, size=(32, 32, 8), progress=False)
        overrides = {"dataset_dir": str(tmp_path), "label_dir": str(tmp_path / "labelsTr")}
        if isinstance(read(configs / "train.json").get("roi_size"), int):
            overrides["roi_size"] = 32
    workflow = ConfigWorkflow(
        config_file=str(configs / f"{kind}.json"),
        meta_file=str(configs / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(bundle),
        output_dir=str(tmp_path),
        **overrides,
    )
    workflow.initialize()
    assert workflow.check_properties() == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_network_takes_and_gives_what_the_metadata_says(bundle):
    configs = bundle / "configs"
    verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        n=2,
        p=1,
        any=32,
    )


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_metadata_is_complete(bundle):
    meta = json.loads((bundle / "configs" / "metadata.json").read_text())
    required = {"schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"}
    required |= {"task", "description", "authors", "copyright", "network_data_format"}
    assert required <= set(meta) and meta["version"] in meta["changelog"]
    assert {path.name for path in bundle.iterdir()} >= {"LICENSE", "docs", "configs"}


@pytest.mark.parametrize("path", [path for path in STAGES if "amp" in json.loads(path.read_text())], ids=name_of)
def test_mixed_precision_is_for_trainings_that_run_on_a_gpu(path):
    """Not for those on the CPU of a machine that has a GPU."""
    for device, wanted in (("cpu", False), ("cuda:0", True)):
        parser = read(path)
        parser["device"] = device
        assert parser.get_parsed_content("amp") is wanted
