from __future__ import annotations

import json

import itk
import numpy as np
import pytest

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.bundle import build_bundle, bundle_files, create_bundle
from weakmedsam_ext.bundle.build import ConfigBuilder
from weakmedsam_ext.bundle.recipe import Recipe, expand, references
from weakmedsam_ext.data import write_nifti


def recipe(**content):
    """One config that refers to a part and a setting, and what all recipes have."""
    parts = {
        "run_key": {"_target_": "RunKey", "settings": "@settings", "inputs": "@inputs"},
        "initialize": ["$begin(@seed)"],
        "pipeline": {"_target_": "Pipeline", "stages": "@stages", "settings": "@settings"},
        "net": {"_target_": "Net", "width": "@width"},
        **content.pop("parts", {}),
    }
    content = {
        "settings": {"seed": 0, "width": 4, "epochs": 3, "other": 1},
        "runtime": {"device": "cpu", "where": "$@device + 'x'"},
        "imports": {"begin": "from a import begin"},
        "configs": {"train": {"inputs": [], "trainer": {"net": "@net", "epochs": "@epochs", "device": "@device"}}},
        **content,
    }
    return Recipe("test", parts=parts, **content)


def build(own=None, **content):
    return ConfigBuilder(recipe(**content), own or {}, {}, "bundle.json")


def test_a_config_gets_what_it_refers_to_and_nothing_else():
    config = build().config("train")
    assert list(config) == [
        "imports",
        "seed",
        "width",
        "epochs",
        "device",
        "net",
        "trainer",
        "inputs",
        "settings",
        "run_key",
        "initialize",
    ]
    assert config["imports"] == ["$from a import begin"]
    # what changes no result is no part of the key
    assert config["settings"] == {"seed": "@seed", "width": "@width", "epochs": "@epochs"}


def test_settings_of_the_bundle_take_the_place_of_defaults():
    assert build({"width": 8}).config("train")["width"] == 8
    with pytest.raises(ValueError, match="bundle.json: settings: there is no 'widht'; did you mean 'width'"):
        build({"widht": 8})


def test_what_nothing_defines_is_named():
    with pytest.raises(ValueError, match="train.json refers to @optimiser, which nothing defines"):
        build(configs={"train": {"trainer": "@optimiser"}}).config("train")


def test_an_overlay_gets_what_its_base_does_not_have():
    overlay = {"trainer#more": "@more", "inputs": ["@net"]}
    configs = {**recipe().configs, "finetune": overlay}
    builder = build(configs=configs, overlays={"finetune": "train"}, parts={"more": {"a": "@other", "b": "@width"}})
    assert builder.config("finetune") == {
        "other": 1,
        "more": {"a": "@other", "b": "@width"},
        "trainer#more": "@more",
        "inputs": ["@net"],
        "+settings": {"other": "@other"},
    }


ALTERNATIVES = {
    "settings": {"seed": 0, "width": 4, "epochs": 3, "method": "plain", "noise": 1},
    "configs": {
        **recipe().configs,
        "plain": {"objects": ["@net"]},
        "noisy": {"+trainer": {"noise": "@noise"}, "objects": ["@net", "@noise"]},
    },
    "alternatives": {"setting": "method", "of": "train", "choices": ["plain", "noisy"]},
}


def test_one_alternative_is_merged_and_each_takes_its_place():
    plain, noisy = build(**ALTERNATIVES), build({"method": "noisy"}, **ALTERNATIVES)
    assert "noise" not in plain.config("train")["trainer"] and plain.config("train")["objects"] == ["@net"]
    assert noisy.config("train")["trainer"]["noise"] == "@noise" and noisy.config("train")["noise"] == 1
    assert noisy.config("train")["settings"]["noise"] == "@noise"
    # each overlay replaces all that another one has touched
    for builder in (plain, noisy):
        assert builder.config("plain")["trainer"] == plain.config("train")["trainer"]
        assert builder.config("noisy")["trainer"] == noisy.config("train")["trainer"]
    assert plain.config("noisy")["noise"] == 1 and "noise" not in noisy.config("noisy")
    with pytest.raises(ValueError, match="setting 'method': there is no 'niosy'; did you mean 'noisy'"):
        build({"method": "niosy"}, **ALTERNATIVES).config("train")


def test_a_pipeline_declares_what_its_stages_do_under_its_own_names():
    configs = {**recipe().configs, "pipeline": {"stages": [], "run": ["$@pipeline.run()"]}}
    config = build({"epochs": 5}, configs=configs, pipeline_names={"epochs": "train_epochs"}).config("pipeline")
    assert config["train_epochs"] == 5 and "epochs" not in config and "other" not in config
    assert config["settings"] == {
        "device": "@device",
        "seed": "@seed",
        "width": "@width",
        "epochs": "@train_epochs",
    }


def test_a_borrowed_config_keeps_its_settings_apart():
    """The weak pipeline pre-trains by the promptable recipe; its epochs are not those of the segmenter."""
    content = bundle_files_of("weakmedsam", pretrain_epochs=7, epochs=9, img_size=64)
    pretrain, train = content["pretrain"], content["train"]
    assert pretrain["pretrain_epochs"] == 7 and train["epochs"] == 9 and pretrain["img_size"] == 64
    assert pretrain["train"]["trainer"]["max_epochs"] == "@pretrain_epochs" and "epochs" not in pretrain
    assert pretrain["settings"]["pretrain_learning_rate"] == "@pretrain_learning_rate"


def bundle_files_of(recipe_name, **settings):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        bundle = {"recipe": recipe_name, "settings": {"class_map": {"a": 1}, **settings}, "presets": {}}
        (Path(folder) / "bundle.json").write_text(json.dumps(bundle))
        files = bundle_files(folder)
    return {name[8:-5]: json.loads(text) for name, text in files.items() if name.endswith(".json")}


def test_parts_are_put_in_place():
    parts = {"a": {"x": 1}, "list": [1, "%a"], "more": {"%": "a", "y": "%list"}}
    assert expand(["%list", "%a", [2]], parts) == [1, {"x": 1}, {"x": 1}, [2]]
    assert expand({"z": "%more"}, parts) == {"z": {"x": 1, "y": [1, {"x": 1}]}}
    with pytest.raises(ValueError, match="expected a part named 'b', but there is none"):
        expand("%b", parts)


def test_references_are_those_of_expressions():
    assert list(references({"a": "@b::c", "d": ["$f(@e, @b)", "mail@example"], "f": 1})) == ["b", "e"]


@pytest.fixture
def data(tmp_path):
    write_nifti(np.zeros((3, 4, 5), np.uint8), np.eye(4), tmp_path / "data/images/a.nii.gz")
    write_nifti(np.zeros((3, 4, 5), np.uint8), np.eye(4), tmp_path / "data/labels/a.nii.gz")
    return tmp_path / "data"


@pytest.fixture
def created(data, tmp_path):
    return create_bundle("semisam", tmp_path / "liver", data, {"liver": 1, "lesion": [2, 3]}, {"spacing": 2.0})


def test_a_created_bundle_is_complete(created):
    metadata = json.loads((created / "configs" / "metadata.json").read_text())
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert output["channel_def"] == {"0": "background", "1": "liver", "2": "lesion"} and output["num_channels"] == 3
    assert json.loads((created / "configs" / "inference.json").read_text())["spacing"] == 2.0
    for name in ("LICENSE", "docs/README.md", "configs/logging.conf", "configs/pipeline.json"):
        assert (created / name).stat().st_size
    assert "liver" in (created / "docs" / "README.md").read_text()


def test_build_writes_again_what_bundle_json_says(created, capsys):
    content = json.loads((created / "bundle.json").read_text())
    content["settings"]["spacing"] = 3.0
    (created / "bundle.json").write_text(json.dumps(content))
    for name in ("cluster", "of_the_user"):  # a config of another recipe, and one that no recipe has
        (created / "configs" / f"{name}.json").write_text("{}")
    assert main(["build", str(created)]) == 0
    assert json.loads((created / "configs" / "train.json").read_text())["spacing"] == 3.0
    assert not (created / "configs" / "cluster.json").exists() and (created / "configs" / "of_the_user.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": "semisan"}, "semisan"),
        ({"settigns": {}}, "bundle.json: there is no 'settigns'; did you mean 'settings'"),
        ({"settings": {"spacign": 1}}, "settings: there is no 'spacign'; did you mean 'spacing'"),
        (
            {"presets": {"fast": {"train_epoch": 1}}},
            "preset 'fast': there is no 'train_epoch'; did you mean 'trai",
        ),
    ],
)
def test_mistakes_in_bundle_json_are_named(created, change, message):
    content = json.loads((created / "bundle.json").read_text())
    (created / "bundle.json").write_text(json.dumps({**content, **change}))
    with pytest.raises(ValueError, match=message):
        build_bundle(created)


def test_create_refuses_what_cannot_be(created, data, tmp_path, capsys):
    arguments = ["create", "--recipe", "semisam", "--dataset_dir", str(data), "--output"]
    assert main([*arguments, str(created), "--class_map", "{'a': 1}"]) == 1
    assert "liver holds a bundle already" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "liver"]) == 1
    assert "class_map: expected a name and its value" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "{'a': 1}", "--spacign", "2"]) == 1
    assert "there is no 'spacign'; did you mean 'spacing'" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "{'a': 1}", "--spacing", "wide"]) == 1
    assert "spacing: expected a number, but got 'wide'" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "['a']"]) == 1
    assert "class_map: expected the values in the masks, as in \"{'a': 1}\", but got ['a']" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "{'a': 1}", "--split_file", "none.json"]) == 1
    assert "none.json does not exist; correct the path" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert main([*arguments, str(tmp_path / "new"), "--class_map", "{'a': 1}", "--train_epochs", "2"]) == 0
    assert json.loads((tmp_path / "new/bundle.json").read_text())["settings"]["epochs"] == 2


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no data set in a layout that is known"),
        ({"a.txt": b""}, "holds no data set in a layout that is known"),
        ({"a.nii.gz": b"version https://git-lfs"}, "a.nii.gz is damaged or no medical volume"),
        ({"x/a.png": b"", "y/a.png": b""}, "both name the case 'a'"),
    ],
)
def test_create_tells_a_wrong_dataset_dir(tmp_path, capsys, files, message):
    (tmp_path / "data").mkdir()
    for name, content in files.items():
        (tmp_path / "data" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_bytes(content)
    arguments = ["--output", str(tmp_path / "new"), "--dataset_dir", str(tmp_path / "data"), "--class_map", "['a']"]
    assert main(["create", "--recipe", "weakmedsam", *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "new").exists()


def settings_of_pictures(folder, *arguments):
    """Settings in bundle.json of a bundle for one picture, made from the folder that everything lies in."""
    (folder / "own").mkdir()
    itk.imwrite(itk.image_from_array(np.zeros((4, 5), np.uint8)), str(folder / "own" / "a.png"))
    (folder / "labels.csv").write_text("case,classes\na,\n")
    command = ["create", "--recipe", "weakmedsam", "--output", "new", "--dataset_dir", "own"]
    assert main([*command, "--class_map", "['lesion', 'scar']", *arguments]) == 0
    return json.loads((folder / "new/bundle.json").read_text())["settings"]


def test_create_for_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"labels_csv": "labels.csv", "checkpoint": "sam.pth", "groups": "labels.csv"}
    found = settings_of_pictures(tmp_path, *(part for name in files for part in (f"--{name}", files[name])))
    assert found == {
        "dataset_dir": str(tmp_path / "own"),
        "class_map": {"lesion": 1, "scar": 2},
        **{name: str(tmp_path / value) for name, value in files.items()},
        "slices_per_volume": 1,
    }


def test_create_keeps_what_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = settings_of_pictures(tmp_path, "--slices_per_volume", "4", "--groups", r"^(\w)", "--layout", "folder")
    assert found["slices_per_volume"] == 4 and found["groups"] == r"^(\w)" and found["layout"] == "folder"
