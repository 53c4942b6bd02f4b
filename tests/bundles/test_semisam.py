"""The semi-supervised bundles as their users run them."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from semisam_runs import BUNDLES, GENERALIST, METHODS, ROOT, SMALL, run, workflow
from trained_weights import same, weights

from weakmedsam_ext.bundle import training_workflow, user_message
from weakmedsam_ext.data import split_dataset
from weakmedsam_ext.networks import ThinVNet, build_network, build_specialist

LA = "semisam_la2018"
PUBLISHED = json.loads((ROOT / LA / "configs/published.json").read_text())


@pytest.fixture
def data(phantoms, tmp_path):
    return shutil.copytree(phantoms, tmp_path / "data")


def unlabelled_masks(data):
    cases = split_dataset(data, num_folds=3, num_test=2)["train"]
    return [Path(case["label"]) for case in cases if case["case"] not in SMALL["labelled"]]


@pytest.mark.slow
@pytest.mark.parametrize("bundle", BUNDLES)
def test_pipeline_trains_predicts_and_scores_with_its_controls(bundle, phantoms, tmp_path, capsys):
    run(bundle, phantoms, tmp_path, controls=True, generalists=[GENERALIST], num_clicks=1)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    held_out = split_dataset(phantoms, num_folds=3, num_test=2)["test"]
    assert metrics["cases"] == [case["case"] for case in held_out]
    for case in held_out:
        image, mask = (nib.load(path) for path in (case["image"], tmp_path / f"predictions/{case['case']}.nii.gz"))
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
        assert (tmp_path / "figures" / f"{case['case']}.png").stat().st_size > 1000
    table = capsys.readouterr().out
    assert all(name in table for name in ("this training", "labelled cases alone", "all masks (upper bound)"))
    trained = [weights(tmp_path / folder / "models/model.pt") for folder in ("", "labelled_alone", "all_masks")]
    assert not any(same(trained[i], trained[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}
    run(bundle, phantoms, tmp_path, controls=True, generalists=[GENERALIST], num_clicks=1)
    assert written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pt")}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_masks_of_unlabelled_cases_are_never_opened(method, data, tmp_path):
    """Poison: replaced by garbage, then deleted, and nothing changes."""
    settings = {"method": method, "generalists": [GENERALIST], "num_clicks": 1}
    losses = []
    masks = unlabelled_masks(data)
    assert masks
    harms = {"clean": lambda path: None, "garbage": lambda path: path.write_bytes(b"no mask"), "deleted": Path.unlink}
    for name, harm in harms.items():
        for path in masks:
            harm(path)
        training = workflow(
            LA, "train.json", data, tmp_path / name, ckpt_dir=str(tmp_path / name), epochs=1, **settings
        )
        losses.append(curve_of(training))
        training.run()
    assert losses[0] == losses[1] == losses[2] and len(losses[0]) == 3
    assert same(weights(tmp_path / "clean/model.pt"), weights(tmp_path / "garbage/model.pt"))
    assert same(weights(tmp_path / "clean/model.pt"), weights(tmp_path / "deleted/model.pt"))


@pytest.mark.parametrize("method", ["supervised", "copy_paste"])
def test_of_a_labelled_case_only_its_slices_are_learnt(method, data, tmp_path):
    """What the masks say elsewhere is emptied, and nothing changes; whole masks give something else."""
    settings = {"method": method, "labelled": ["heart_004"], "epochs": 1}
    settings |= {"pseudo_start": 0.3} if method == "copy_paste" else {}

    def losses(name, **more):
        where = {"ckpt_dir": str(tmp_path / name), **settings, **more}
        training = workflow(LA, "train.json", data, tmp_path / name, **where)
        curve = curve_of(training)
        training.run()
        return curve

    whole, one = losses("whole"), losses("one", labelled_slices=1)
    path = data / "labelsTr/heart_004.nii.gz"
    mask = nib.load(path)
    voxels = np.asarray(mask.dataobj).copy()
    voxels[..., np.arange(voxels.shape[2]) != (voxels > 0).sum((0, 1)).argmax()] = 0
    nib.save(nib.Nifti1Image(voxels, mask.affine), path)
    assert losses("emptied", labelled_slices=1) == one != whole
    assert same(weights(tmp_path / "one/model.pt"), weights(tmp_path / "emptied/model.pt"))


def curve_of(training):
    """Losses of all iterations, as they come."""
    curve = []
    trainer = training.parser.get_parsed_content("train::trainer")
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: curve.append(float(engine.state.output["loss"]))
    )
    return curve


@pytest.mark.slow
@pytest.mark.parametrize("method", ["uncertainty_aware", "adversarial", "copy_paste", "unimatch"])
@pytest.mark.parametrize("iteration", [2, 3, 5])  # within an epoch, after its last iteration, within the next one
def test_a_run_that_is_cut_at_any_iteration_ends_with_the_same_weights(method, iteration, phantoms, tmp_path):
    def training(name):
        settings = {"method": method, "epochs": 3, "ckpt_dir": str(tmp_path / name / "models"), "val_interval": 2}
        return workflow(LA, "train.json", phantoms, tmp_path / name, **settings)

    training("whole").run()
    cut = training("cut")
    trainer = cut.parser.get_parsed_content("train::trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), interrupt)
    with pytest.raises(PowerCut):
        cut.run()
    again = training("cut")
    losses = curve_of(again)
    again.run()
    assert len(losses) == (9 if iteration <= 3 else 6)  # an epoch has 3 iterations
    for name in ("model.pt", "best.pt"):
        assert same(weights(tmp_path / "whole/models" / name), weights(tmp_path / "cut/models" / name))


class PowerCut(BaseException):
    """Nothing catches it on its way."""


def interrupt(engine):
    raise PowerCut


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        ("supervised", set()),
        ("mean_teacher", {"teacher"}),
        ("copy_paste", {"teacher"}),
        ("unimatch", set()),
        ("adversarial", {"discriminator", "discriminator_optimizer"}),
    ],
)
def test_a_method_builds_and_keeps_only_what_it_uses(method, kept, phantoms, tmp_path):
    training = workflow(LA, "train.json", phantoms, tmp_path, method=method, ckpt_dir=str(tmp_path), epochs=2)
    trainer = training.parser.get_parsed_content("train::trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), interrupt)
    with pytest.raises(PowerCut):
        training.run()
    state = torch.load(tmp_path / "checkpoints/train.pt", weights_only=True)
    assert set(state) - {"epoch", "record"} == {"network", "average", "optimizer", "lr_scheduler", "best"} | kept


def test_voxels_may_have_three_sizes(phantoms, tmp_path):
    config = workflow(LA, "inference.json", ".", tmp_path, spacing=[2.5, 2.5, 5.0], datalist=[])
    preprocessing = config.parser.get_parsed_content("preprocessing")
    image = preprocessing({"image": str(phantoms / "imagesTr/heart_001.nii.gz")})["image"]
    assert np.linalg.norm(image.affine[:3, :3], axis=0).tolist() == pytest.approx([2.5, 2.5, 5.0])


def test_best_weights_are_those_of_the_best_validation(phantoms, tmp_path):
    training = workflow(LA, "train.json", phantoms, tmp_path, ckpt_dir=str(tmp_path), epochs=3, learning_rate=0.1)
    evaluator, average = (training.parser.get_parsed_content(name) for name in ("validate::evaluator", "average"))
    seen = []

    @evaluator.on(Events.COMPLETED)
    def keep(engine):
        copy = {name: value.clone() for name, value in average.network.state_dict().items()}
        seen.append((engine.state.metrics["val_mean_dice"], copy))

    training.run()
    best = max(seen, key=lambda pair: pair[0])  # the first of equal ones
    assert len(seen) == 3 and same(weights(tmp_path / "best.pt"), best[1])
    assert same(weights(tmp_path / "model.pt"), seen[-1][1])


@pytest.mark.slow
def test_classes_are_several(data, tmp_path):
    """K = 2: values 2 and 4 are one class, 1 is another, 3 is background."""
    for case in split_dataset(data)["train"] + split_dataset(data)["validation"]:
        mask = nib.load(case["label"])
        values = np.asarray(mask.dataobj).astype(np.int16) * (1 + np.arange(mask.shape[0]) // 4 % 4)[:, None, None]
        nib.save(nib.Nifti1Image(values.astype(np.uint8), mask.affine), case["label"])
    settings = {
        "class_map": {"odd": 1, "even": [2, 4]},
        "generalists": [GENERALIST, {**GENERALIST, "name": "vista3d_tiny"}],
        "num_clicks": 1,
    }
    training = workflow(LA, "train.json", data, tmp_path / "out", epochs=1, **settings)
    item = next(item for item in training.parser.get_parsed_content("validate::dataset"))
    assert set(item["label"].unique().tolist()) == {0, 1, 2}
    (tmp_path / "again").mkdir()
    run(LA, data, tmp_path / "again", train_epochs=1, **settings)
    assert set(json.loads((tmp_path / "again/metrics.json").read_text())["classes"]) == {"odd", "even"}


def test_published_stride_is_exact():
    for size, steps in ((112, (18, 56, 112)), (80, (4, 40)), (128, (64,))):
        for step in steps:
            config = workflow(LA, "inference.json", ".", ".", roi_size=[size] * 3, stride=[step] * 3, datalist=[])
            inferer = config.parser.get_parsed_content("inferer")
            assert [int(size * (1 - overlap)) for overlap in inferer.overlap] == [step] * 3


@pytest.mark.slow
def test_a_volume_smaller_than_the_patch_is_padded(phantoms, tmp_path):
    run(LA, phantoms, tmp_path, train_epochs=1, roi_size=[48, 48, 32], stride=[48, 48, 32])
    assert (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_the_sides_of_a_patch_may_all_differ(bundle, phantoms, tmp_path):
    training = workflow(bundle, "train.json", phantoms, tmp_path, roi_size=[48, 32, 16], batches_per_epoch=8, epochs=1)
    losses = curve_of(training)
    training.run()
    assert len(losses) == 8


@pytest.mark.parametrize(("length", "iterations"), [(40, 6000), (200, 100), (200, 399), (0, 100)])
def test_weights_follow_a_training_of_any_length(length, iterations, phantoms, tmp_path):
    settings = {"ramp_length": length, "epochs": iterations, "batches_per_epoch": 1, "consistency_weight": 1.0}
    settings["generalists"] = [GENERALIST]
    training = workflow(LA, "train.json", phantoms, tmp_path, "mean_teacher", generalist_weight=1.0, **settings)
    rampup, rampdown = (training.parser.get_parsed_content(name) for name in ("rampup", "rampdown"))
    assert rampup(iterations) == 1.0 == rampdown(0)
    if length:
        middle = pytest.approx(math.exp(-5 / 4), rel=0.05)  # half of the way
        assert rampup(iterations // 2) == middle and rampdown(iterations // 2) == middle
        assert rampup(0) == pytest.approx(math.exp(-5)) == rampdown(iterations)
    else:
        assert rampup(0) == 1.0 == rampdown(iterations - 1)


def test_a_volume_of_one_slice_keeps_its_grid(phantoms, tmp_path):
    image = nib.load(phantoms / "imagesTr/heart_001.nii.gz").slicer[:, :, 3:4]
    nib.save(image, tmp_path / "slice.nii.gz")
    predict(tmp_path, [tmp_path / "slice.nii.gz"])
    mask = nib.load(tmp_path / "predictions/slice.nii.gz")
    assert mask.shape == image.shape
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)


def predict(folder, images):
    """Inference with random weights."""
    torch.save(build_specialist("unet", channels=SMALL["channels"]).state_dict(), folder / "model.pt")
    workflow(LA, "inference.json", folder, folder, ckpt_dir=str(folder), datalist=[str(path) for path in images]).run()


# bad input: one sentence, and nothing that was written before is lost


def fails(data, output, message, **settings):
    with pytest.raises((SystemExit, RuntimeError)) as error:
        run(LA, data, output, train_epochs=1, **settings)
    # a stage's errors end the pipeline, those of the pipeline's own settings end the program
    sentence = str(error.value) if error.type is SystemExit else user_message(error.value)
    assert message in sentence and "\n" not in sentence.strip(), sentence


def test_lists_that_cannot_be(data, tmp_path):
    fails(data, tmp_path, "expected 1 to 4 cases, as many as have masks, but got 0", labelled=0)
    fails(
        data, tmp_path, "case 'heart_099' is not among the 4 training cases; correct the name", labelled=["heart_099"]
    )
    split = {"train": ["heart_001", "heart_002"], "validation": ["heart_003"], "test": ["heart_002"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    message = "case 'heart_002' is in 'train' and in 'test'; keep it in one list"
    fails(data, tmp_path, message, split_file=str(tmp_path / "split.json"), labelled=1)


def test_images_that_cannot_be(tmp_path):
    for images, message in (
        ([], "datalist: no image is given or found"),
        (["a/mri.nii.gz", "b/mri.nii.gz"], "datalist: 'mri' names 2 files, whose results would overwrite each other"),
    ):
        with pytest.raises(RuntimeError) as error:
            predict(tmp_path, images)
        assert message in user_message(error.value)


def test_validation_masks_that_cannot_be(data, tmp_path):
    case = split_dataset(data, num_folds=3, num_test=2)["validation"][0]
    image = nib.load(case["label"])
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([-1, 1, 1, 1]) @ image.affine), case["label"])
    fails(data, tmp_path, case["label"])


def test_weights_are_not_chosen_on_the_cases_that_score_them(data, tmp_path):
    fails(data, tmp_path, "keep others for scoring by num_test", select="best", num_test=0)


def test_masks_that_cannot_be(data, tmp_path):
    mask = data / "labelsTr/heart_004.nii.gz"
    image = nib.load(mask)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), mask)
    fails(data, tmp_path, f"{mask}: the mask of a labelled case is empty")
    nib.save(nib.Nifti1Image(np.ones((32, 36, 9), np.uint8), image.affine), mask)
    fails(data, tmp_path, str(mask))
    mask.unlink()
    fails(data, tmp_path, f"{mask}: does not exist")


def test_one_channel_too_many(data, tmp_path):
    path = data / "imagesTr/heart_005.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.stack([image.get_fdata(dtype=np.float32)] * 2, -1), image.affine), path)
    fails(data, tmp_path, f"{path}: expected a 3-D volume")


def test_generalists_that_cannot_be(data, tmp_path):
    wrong = tmp_path / "wrong.pt"
    torch.save(build_network("samus_tiny", img_size=64).state_dict(), wrong)
    fails(data, tmp_path, str(wrong), generalists=[{**GENERALIST, "checkpoint": str(wrong)}])
    fails(data, tmp_path, "networks for volumes", generalists=[{**GENERALIST, "name": "samus_tiny", "img_size": 64}])
    fails(data, tmp_path, "['normalization'] are missing", generalists=[{"name": "sam_med3d_tiny", "checkpoint": None}])
    missing = str(tmp_path / "none.pt")
    fails(data, tmp_path, missing, generalists=[{**GENERALIST, "checkpoint": missing}])


def test_an_unknown_choice_is_named(data, tmp_path):
    fails(data, tmp_path, "mean_teacherr", method="mean_teacherr")
    fails(data, tmp_path, "newest", select="newest")


def test_what_was_published_is_a_preset(phantoms, tmp_path):
    training = training_workflow(
        ROOT / LA / "configs",
        "train.json",
        "uncertainty_aware.json",
        "published_training.json",
        bundle_root=str(ROOT / LA),
        dataset_dir=str(phantoms),
        output_dir=str(tmp_path),
        ckpt_dir=str(tmp_path),
        **SMALL,
        **{name: PUBLISHED[name] for name in ("specialist", "learning_rate", "weight_decay", "average_decay")},
        epochs=2,
    )
    optimizer, network, schedule = (
        training.parser.get_parsed_content(name) for name in ("optimizer", "network", "lr_scheduler")
    )
    assert isinstance(network, ThinVNet) and isinstance(optimizer, torch.optim.SGD)
    assert isinstance(schedule, torch.optim.lr_scheduler.StepLR) and optimizer.defaults["lr"] == 0.01
    training.run()
    assert same(weights(tmp_path / "model.pt"), network.state_dict())  # the last weights, no average


def test_the_published_pipeline_trains_by_its_own_overlay():
    pipeline = ConfigParser()
    pipeline.read_config(ROOT / LA / "configs/pipeline.json")
    pipeline.update(PUBLISHED)
    configs = {stage["name"]: f"stages::{number}::config" for number, stage in enumerate(pipeline["stages"])}
    overlays = {name: pipeline.get_parsed_content(config)[1:] for name, config in configs.items()}
    assert overlays["train"] == ["published_training", "uncertainty_aware"]
    assert overlays["train_all_masks"] == ["published_training", "supervised"]
    own = json.loads((ROOT / LA / "configs/pipeline.json").read_text())
    assert {name: own[name] for name in PUBLISHED if name in own} != PUBLISHED and set(PUBLISHED) <= set(own)
