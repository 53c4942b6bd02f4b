from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from weakmedsam_ext.data import (
    ReadSubclassd,
    SliceDataset,
    SliceLabels,
    SubclassClustering,
    build_slice_store,
    write_nifti,
)


class Brightness(nn.Module):
    """A backbone whose pooled feature is the mean intensity."""

    def __init__(self):
        super().__init__()
        self.images = 0

    def encode(self, image):
        self.images += len(image)
        assert not torch.is_grad_enabled() and not self.training
        return image, image


@pytest.fixture
def dataset(tmp_path):
    """Twelve slices of two classes: "a" in dark and in bright slices, "b" in some."""
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10, 1)
    bright = np.array([0, 0, 0, 0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0, 0, 1], dtype=np.float32)
    write_nifti(0.1 * ramp + bright, np.eye(4), tmp_path / "x.nii.gz")
    visible = [()] * 3 + [("a",)] * 3 + [("a", "b")] * 3 + [()] * 2 + [("b",)]
    store = build_slice_store(
        [{"case": "x", "image": str(tmp_path / "x.nii.gz")}], tmp_path / "store", img_size=16, progress=False
    )
    return SliceDataset(store, SliceLabels(("a", "b"), {"x": visible}, {}))


def test_clusters_follow_the_appearance_of_every_class(dataset, tmp_path):
    found = SubclassClustering(Brightness(), 2, progress=False).run(dataset, tmp_path / "clusters.json")
    clusters = {name: {int(i): c[name] for i, c in found.cases["x"].items() if name in c} for name in "ab"}
    assert set(clusters["a"]) == {3, 4, 5, 6, 7, 8} and set(clusters["b"]) == {6, 7, 8, 11}
    assert len({clusters["a"][i] for i in (3, 4, 5)}) == 1 and clusters["a"][3] != clusters["a"][6]
    assert clusters["b"][6] == clusters["b"][7] == clusters["b"][8]


def test_defect_7_clustering_is_seeded_and_stored_as_json(dataset, tmp_path):
    for name in ("one", "two"):
        SubclassClustering(Brightness(), 3, seed=5, batch_size=3, progress=False).run(dataset, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_text().startswith("{")


def test_defect_7_only_the_given_slices_are_seen(dataset, tmp_path):
    backbone = Brightness()
    SubclassClustering(backbone, 2, progress=False).run(dataset, tmp_path / "clusters.json")
    assert backbone.images == len(dataset) == 12


def test_fewer_slices_than_clusters_is_an_error(dataset, tmp_path):
    with pytest.raises(ValueError, match="class 'b' is visible in 4 training slices, but num_subclasses is 5"):
        SubclassClustering(Brightness(), 5, progress=False).run(dataset, tmp_path / "clusters.json")
    assert not (tmp_path / "clusters.json").exists()
    with pytest.raises(ValueError, match="num_subclasses: expected at least 1, but got 0"):
        SubclassClustering(Brightness(), 0)


def test_the_reader_gives_every_slice_its_target(dataset, tmp_path):
    SubclassClustering(Brightness(), 2, progress=False).run(dataset, tmp_path / "clusters.json")
    read = ReadSubclassd(tmp_path / "clusters.json")
    by_dataset = SliceDataset(dataset.store, dataset.labels, subclasses=tmp_path / "clusters.json")
    for item, expected in zip(dataset, by_dataset, strict=True):
        target = read(item)["subclass"]
        assert torch.equal(target, expected["subclass"]) and target.shape == (5,)
        assert target[0] == (not item["class_label"].any()) and target[1:].sum() == item["class_label"].sum()
