from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from weakmedsam_ext.bundle import RunKey
from weakmedsam_ext.data import SliceDataset, SliceLabels, build_slice_store, write_nifti
from weakmedsam_ext.handlers import PseudoLabelFigures, PseudoLabelWriter
from weakmedsam_ext.networks import CAMPseudoLabeler, PromptAffinity, WeakMedSAMNet, build_network

AFFINE = np.array([[0, -1.5, 0, 7], [2.0, 0, 0, -3], [0, 0, 3, 11], [0, 0, 0, 1]])
SHAPE = (20, 28, 5)
VISIBLE = {"a": [(), ("atrium",), ("atrium",), (), ()], "b": [()] * 5, "c": [("atrium",)] * 5}


def make_study(tmp_path):
    """Three cases: some slices, none and all of them show the class."""
    generator = np.random.default_rng(0)
    cases = []
    for case in VISIBLE:
        path = tmp_path / f"{case}.nii.gz"
        write_nifti(generator.random(SHAPE, dtype=np.float32), AFFINE, path)
        cases.append({"case": case, "image": str(path)})
    store = build_slice_store(cases, tmp_path / "store", img_size=32, content_threshold=None, progress=False)
    return cases, store, SliceLabels(("atrium",), VISIBLE, {})


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path)


def run(writer, store, labels, answer, batch_size=2):
    """Send the remaining slices that show a class through an engine, as the pseudo-label stage does."""
    remaining = [case for case in writer.remaining if labels.matrix(case).any()]
    dataset = SliceDataset(store, labels, remaining, keep="with") if remaining else []
    batches = [
        [dataset[i] for i in range(start, min(start + batch_size, len(dataset)))]
        for start in range(0, len(dataset), batch_size)
    ]
    engine = Engine(lambda _, batch: [{"pred": answer(item)} for item in batch])
    writer.attach(engine)
    engine.run(batches or [[]])


def left_half(item):
    soft = torch.zeros(1, 32, 32)
    soft[:, :16] = 1
    return soft


def test_volumes_lie_on_their_own_grid(study, tmp_path):
    cases, store, labels = study
    run(PseudoLabelWriter(cases, store, labels, tmp_path / "out"), store, labels, left_half)
    for case, visible in VISIBLE.items():
        image = nib.load(tmp_path / "out" / f"{case}.nii.gz")
        assert image.shape == SHAPE and image.get_data_dtype() == np.uint8
        np.testing.assert_allclose(image.affine, AFFINE)
        mask = np.asarray(image.dataobj)
        for index, names in enumerate(visible):
            # rows run to the right, which is against the second axis of the file
            expected = np.zeros(SHAPE[:2])
            expected[:, 14:] = bool(names)
            np.testing.assert_array_equal(mask[..., index], expected)


def test_a_killed_run_goes_on_with_the_next_case(study, tmp_path):
    cases, store, labels = study

    def dies_in_c(item):
        if item["case"] == "c" and item["slice"] == 3:
            raise KeyboardInterrupt
        return left_half(item)

    writer = PseudoLabelWriter(cases, store, labels, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run(writer, store, labels, dies_in_c, batch_size=1)
    assert writer.remaining == ["c"]
    before = {case: writer.path(case).stat().st_mtime_ns for case in "ab"}
    again = PseudoLabelWriter(cases, store, labels, tmp_path / "out")
    run(again, store, labels, left_half)
    assert again.remaining == []
    assert before == {case: writer.path(case).stat().st_mtime_ns for case in "ab"}
    straight = PseudoLabelWriter(cases, store, labels, tmp_path / "straight")
    run(straight, store, labels, left_half)
    assert all(again.path(case).read_bytes() == straight.path(case).read_bytes() for case in VISIBLE)
    assert not list((tmp_path / "out").glob("*.partial"))


def test_pseudo_labels_of_another_run_are_made_anew(study, tmp_path):
    cases, store, labels = study
    output = tmp_path / "out"

    def writer(beta):
        return PseudoLabelWriter(cases, store, labels, output, run_key=RunKey(tmp_path, {"beta": beta}))

    run(writer(4), store, labels, left_half)
    (output / "own.nii.gz").touch()
    writer(4).prepare()
    assert writer(4).remaining == []
    again = writer(8)
    again.prepare()
    assert set(again.remaining) == {case for case in VISIBLE if again._visible[case]}
    assert (output / "own.nii.gz").exists()  # nothing but its own files is deleted
    (output / "pseudo_labels.json").unlink()
    run(writer(8), store, labels, left_half) if again.remaining == [] else again.path("a").touch()
    with pytest.raises(ValueError, match="was not written by this stage; move it away, or give another label_dir"):
        writer(8).prepare()


def test_a_class_smaller_than_a_voxel_is_not_lost(study, tmp_path):
    cases, store, labels = study

    def one_pixel(item):
        soft = torch.zeros(1, 32, 32)
        soft[0, 13, 13] = 1
        return soft

    run(PseudoLabelWriter(cases, store, labels, tmp_path / "out"), store, labels, one_pixel)
    mask = np.asarray(nib.load(tmp_path / "out" / "c.nii.gz").dataobj)
    assert (mask.reshape(-1, SHAPE[2]).sum(0) == 1).all()


def test_a_peak_in_the_padding_is_no_pseudo_label(tmp_path):
    """Once: a pseudo-label of one pixel. The columns of 16 x 8 voxels are padded by a quarter on either side."""
    path = tmp_path / "a.nii.gz"
    image = np.random.default_rng(0).uniform(0.2, 0.4, (16, 8, 1)).astype(np.float32)
    image[4:8, 2:4] = 0.8
    write_nifti(image, np.eye(4), path)
    cases = [{"case": "a", "image": str(path)}]
    store = build_slice_store(cases, tmp_path / "store", 32, content_threshold=None, progress=False)
    labels = SliceLabels(("atrium",), {"a": [("atrium",)]}, {})
    item = SliceDataset(store, labels)[0]
    spoilt = torch.where(item["valid"], item["image"], 50.0)[None]

    class Identity(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.class_head = self, torch.nn.Identity()

        def encode(self, image):
            return image, image

    labeler = CAMPseudoLabeler(Identity(), blur_kernel_size=5, walk_size=32)
    writer = PseudoLabelWriter(cases, store, labels, tmp_path / "out")
    run(writer, store, labels, lambda item: labeler(spoilt, torch.ones(1, 1), item["valid"][None])[0])
    mask = np.asarray(nib.load(writer.path("a")).dataobj)[..., 0]
    assert mask[4:8, 2:4].all() and mask.sum() < 24
    run(
        again := PseudoLabelWriter(cases, store, labels, tmp_path / "old"),
        store,
        labels,
        lambda item: labeler(spoilt, torch.ones(1, 1))[0],
    )
    assert np.asarray(nib.load(again.path("a")).dataobj)[4:8, 2:4].sum() == 0


def test_figures_of_every_second_slice(study, tmp_path):
    pytest.importorskip("matplotlib")
    _, store, labels = study
    backbone = build_network("efficient_sam_tiny", img_size=32, depth=1)
    labeler = CAMPseudoLabeler(WeakMedSAMNet(backbone, 1, 2), PromptAffinity(backbone, 2, size=32), blur_kernel_size=3)
    figures = PseudoLabelFigures(labeler.eval(), tmp_path, ["atrium"], 2, lambda case, index: np.eye(32))
    engine = Engine(lambda _, batch: batch)
    figures.attach(engine)
    engine.run([[item] for item in SliceDataset(store, labels, ["c"], keep="with")])
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["c_000.png", "c_002.png", "c_004.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in tmp_path.glob("*.png"))
    with pytest.raises(ValueError, match="every: expected at least 1, but got 0"):
        PseudoLabelFigures(labeler, tmp_path, ["atrium"], every=0)


def test_figures_show_the_pseudo_label_that_was_written(study, tmp_path, monkeypatch):
    """Once: maps as the network gave them, while the walk through the volume had made other masks of them."""
    pytest.importorskip("matplotlib")
    from weakmedsam_ext.handlers import pseudo_label_figures

    cases, store, labels = study
    backbone = build_network("efficient_sam_tiny", img_size=32, depth=1)
    labeler = CAMPseudoLabeler(WeakMedSAMNet(backbone, 1, 2), blur_kernel_size=3).eval()
    turned = torch.rand(1, 32, 32, 5, generator=torch.Generator().manual_seed(0))
    writer = PseudoLabelWriter(cases, store, labels, tmp_path / "out", refine=lambda maps, image, spacing: turned)
    figures = PseudoLabelFigures(labeler, tmp_path / "figures", ["atrium"], every=2, writer=writer)
    drawn, plot = [], pseudo_label_figures.plot_pseudo_label
    monkeypatch.setattr(
        pseudo_label_figures, "plot_pseudo_label", lambda *args: (drawn.append((args[-1], args[1])), plot(*args))[1]
    )
    dataset = SliceDataset(store, labels, ["c"], keep="with")
    engine = Engine(lambda _, batch: [{"pred": left_half(item)} for item in batch])
    figures.attach(engine)
    writer.attach(engine)
    engine.run([[dataset[i] for i in range(5)[k : k + 2]] for k in (0, 2, 4)])
    assert [title for title, _ in drawn] == ["c, slice 0", "c, slice 2", "c, slice 4"]
    for (_, steps), index in zip(drawn, (0, 2, 4), strict=True):
        assert torch.equal(steps.soft[0], turned[..., index])
        assert torch.equal(steps.mask[0, 0], (turned[0, ..., index] > 0.5).to(torch.uint8))
    assert len(list((tmp_path / "figures").glob("c_*.png"))) == 3 and not figures._waiting


def test_maps_are_refined_as_volumes_before_they_become_masks(study, tmp_path):
    cases, store, labels = study
    seen = []

    def refine(maps, image, spacing):
        seen.append((maps, image, spacing))
        return maps.roll(1, dims=-1)  # to the next slice

    run(PseudoLabelWriter(cases, store, labels, tmp_path / "out", refine=refine), store, labels, left_half)
    assert len(seen) == 2  # a case without any visible class needs none
    maps, image, spacing = seen[0]
    assert maps.shape == image.shape == (1, 32, 32, 5)
    torch.testing.assert_close(image[0, :, :, 3], store.image("a", 3)[0])
    # the longer side, 20 voxels of 2 mm or 28 of 1.5 mm, has 32 pixels
    assert spacing == pytest.approx((42 / 32, 42 / 32, 3.0), abs=0.1)
    shown = np.asarray(nib.load(tmp_path / "out/a.nii.gz").dataobj).any((0, 1))
    assert shown.tolist() == [False, False, True, True, False]


@pytest.mark.slow
def test_two_processes_write_the_files_of_one(study, tmp_path):
    """Also where another run has left its own before."""
    cases, store, labels = study
    key = RunKey(tmp_path, {"threshold": 0.5})
    run(PseudoLabelWriter(cases, store, labels, tmp_path / "one", run_key=key), store, labels, left_half)
    other = RunKey(tmp_path, {"threshold": 0.1})
    run(PseudoLabelWriter(cases, store, labels, tmp_path / "two", run_key=other), store, labels, nothing)
    script = Path(__file__).with_name("write_pseudo_labels.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-6000:]
    for case in VISIBLE:
        masks = [np.asarray(nib.load(tmp_path / name / f"{case}.nii.gz").dataobj) for name in ("one", "two")]
        np.testing.assert_array_equal(*masks)
    assert {path.name for path in (tmp_path / "two").iterdir()} == {path.name for path in (tmp_path / "one").iterdir()}
    assert json.loads((tmp_path / "two" / "pseudo_labels.json").read_text())["settings"] == {"threshold": 0.5}


def nothing(item):
    return torch.zeros(1, 32, 32)
