"""Every bundle's configs: what they name exists, what they refer to is there, and MONAI's own checks pass."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigParser, ConfigWorkflow, verify_net_in_out
from monai.bundle.config_item import ComponentLocator

from weakmedsam_ext.bundle import bundle_files, recipe_names
from weakmedsam_ext.bundle.recipe import RECIPES, load_recipe
from weakmedsam_ext.data import write_phantoms

BUNDLES = sorted(path.parent for path in (Path(__file__).parents[2] / "bundles").glob("*/bundle.json"))
CONFIGS = [path for bundle in BUNDLES for path in sorted((bundle / "configs").glob("*.json"))]
STAGES = [path for path in CONFIGS if path.name != "metadata.json"]


def name_of(path):
    return f"{path.parent.parent.name}/{path.name}" if path.suffix else path.name


def base_of(path):
    """Config that an overlay is merged into; None for a config that is read alone."""
    bundle = json.loads((path.parents[1] / "bundle.json").read_text())
    recipe = load_recipe(bundle["recipe"])
    if path.stem in {**recipe.presets, **bundle.get("presets", {})}:
        return "pipeline"
    if path.stem in recipe.alternatives.get("choices", ()):
        return recipe.alternatives["of"]
    return recipe.overlays.get(path.stem)


def read(path):
    """A config, or an overlay on its base."""
    parser = ConfigParser()
    base = base_of(path)
    parser.read_config([str(path.parent / f"{base}.json"), str(path)] if base else str(path))
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


@pytest.mark.parametrize("path", [p for p in STAGES if base_of(p) != "pipeline"], ids=name_of)
def test_no_setting_is_without_use(path):
    """A scalar at the top that nothing refers to would be a switch without a wire; the run key does not count."""
    config = {key: value for key, value in read(path).get().items() if key not in ("settings", "network_settings")}
    text = json.dumps(config)
    own = json.loads(path.read_text())
    plain = [key for key, value in own.items() if not isinstance(value, (dict, list)) and re.fullmatch(r"\w+", key)]
    passed = own["settings"].values() if path.stem == "pipeline" else ()
    assert [key for key in plain if not re.search(rf"@{key}\b", text) and f"@{key}" not in passed] == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
def test_what_is_committed_is_what_build_writes(bundle):
    files = bundle_files(bundle)
    assert {name: (bundle / name).read_text(encoding="utf-8") for name in files} == files
    assert {path.name for path in (bundle / "configs").iterdir()} == {Path(n).name for n in files if "configs/" in n}
    assert len((bundle / "bundle.json").read_text().splitlines()) < 100


def test_every_part_and_setting_of_a_recipe_is_used():
    """In some bundle's configs, or in another part."""
    unused = {}
    for name in recipe_names():
        recipe = load_recipe(name)
        texts = json.dumps(
            [recipe.configs, recipe.parts, recipe.settings, recipe.metadata, list(recipe.borrowed.values())]
        )
        names = {*recipe.parts, *recipe.settings, *recipe.runtime} - {"settings"}
        found = set(re.findall(r"[@%](\w+)", texts)) | set(re.findall(r'"%": "(\w+)"', texts))
        found |= {key for body in recipe.configs.values() for key in body}
        found |= {"run_key", "pipeline", "initialize", "method"}  # what build adds, and what chooses an overlay
        unused[name] = sorted(
            key for key in names - found if key in own_names(name) and not key.startswith("pretrain_")
        )
    assert unused == {name: [] for name in unused}


def own_names(name):
    """Names of the parts and settings in a recipe's own folder."""
    folder = RECIPES / name
    paths = [folder / f"{kind}.json" for kind in ("parts", "settings", "runtime")]
    return {key for path in paths if path.exists() for key in json.loads(path.read_text())}


@pytest.mark.parametrize("bundle", BUNDLES, ids=name_of)
@pytest.mark.parametrize("kind", ["train", "inference"])
def test_properties_are_complete(bundle, kind, tmp_path):
    configs = bundle / "configs"
    overrides = {"datalist": ["a.nii.gz"]}
    if kind == "train":  # a trainer caches its data when it is made; any masks stand for pseudo-labels here
        write_phantoms(tmp_path, num_cases=5, size=(32, 32, 8), progress=False)
        overrides = {"dataset_dir": str(tmp_path), "label_dir": str(tmp_path / "labelsTr")}
        overrides |= {"num_folds": 2, "fold": 0, "num_test": 0}
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


@pytest.mark.parametrize("use_affinity", [False, True])
def test_no_network_is_built_to_be_prompted_where_the_walk_is_off(use_affinity, tmp_path):
    parser = ConfigParser()
    parser.read_config(BUNDLES[0].parent / "weakmedsam_msd_heart" / "configs" / "pseudo_label.json")
    parser.update({"output_dir": str(tmp_path), "backbone": "click_net_2d", "use_affinity": use_affinity})
    prompter, affinity = parser.get_parsed_content("prompter_def"), parser.get_parsed_content("affinity")
    assert (prompter is not None) == (affinity is not None) == use_affinity
    assert parser.get_parsed_content("network_def").affinity is affinity
    assert affinity is None or affinity.backbone is prompter
