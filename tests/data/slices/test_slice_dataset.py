import numpy as np
import pytest
import torch
from monai.data import DataLoader
from tiny_dataset import AFFINE, SHAPE

from weakmedsam_ext.data import (
    SliceDataset,
    SliceLabels,
    Subclasses,
    build_slice_store,
    decathlon_cases,
    slice_labels_from_masks,
    write_nifti,
)


@pytest.fixture
def parts(dataset, tmp_path):
    cases = decathlon_cases(dataset)
    labels = slice_labels_from_masks(cases, tmp_path / "slice_labels.json", {"left atrium": 1}, progress=False)
    store = build_slice_store(cases, tmp_path / "store", img_size=16, progress=False)
    return cases, store, labels


def same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(torch.as_tensor(one[k]), torch.as_tensor(other[k])) for k in one if k != "case")
        assert one["case"] == other["case"]


def test_items(parts):
    cases, store, labels = parts
    dataset = SliceDataset(store, labels)
    assert len(dataset) == 3 * SHAPE[2]
    item = dataset[SHAPE[2] + 2]
    assert (item["case"], item["slice"]) == ("la_003", 2)
    assert item["image"].dtype == torch.float32 and item["image"].shape == (1, 16, 16)
    np.testing.assert_array_equal(item["image"][0].numpy(), store["la_003"][2].astype(np.float32))
    assert torch.equal(item["class_label"], torch.tensor([1.0]))
    assert [int(dataset[index]["class_label"]) for index in range(6)] == [0, 0, 1, 1, 1, 0]


def test_filters(parts, tmp_path):
    cases, store, labels = parts
    with_target = SliceDataset(store, tmp_path / "slice_labels.json", cases[1:], keep="with", class_name="left atrium")
    assert [(item["case"], item["slice"]) for item in with_target] == [
        (case, index) for case in ("la_003", "la_009") for index in (2, 3, 4)
    ]
    without = SliceDataset(store, labels, ["la_003"], keep="without")
    assert [item["slice"] for item in without] == [0, 1, 5]


def test_masks_stay_shut(dataset, parts, tmp_path):
    """Once the labels are written, masks may hold anything: nothing that training sees changes by a bit."""
    cases, store, labels = parts
    before = list(SliceDataset(store, labels))
    generator = np.random.default_rng(1)
    write_nifti(generator.integers(0, 9, (3, 3, 3)).astype(np.uint8), AFFINE, cases[0]["label"])
    (dataset / "labelsTr" / "la_003.nii.gz").write_bytes(b"garbage")
    (dataset / "labelsTr" / "la_009.nii.gz").write_bytes(b"")
    again = slice_labels_from_masks(cases, tmp_path / "slice_labels.json", {"left atrium": 1}, progress=False)
    same(before, list(SliceDataset(build_slice_store(cases, tmp_path / "store", 16, progress=False), again)))
    same(before, list(SliceDataset(build_slice_store(cases, tmp_path / "new store", 16, progress=False), again)))


def test_workers_read_the_same(parts):
    _, store, labels = parts
    batches = [list(DataLoader(SliceDataset(store, labels), batch_size=5, num_workers=n)) for n in (0, 2)]
    assert batches[0][0]["image"].shape == (5, 1, 16, 16) and batches[0][0]["class_label"].shape == (5, 1)
    for alone, together in zip(*batches, strict=True):
        assert torch.equal(alone["image"], together["image"]) and alone["case"] == together["case"]


def test_a_transform_cannot_change_the_labels(parts):
    _, store, labels = parts

    def spoil(item):
        item["class_label"].fill_(7)
        return item

    dataset = SliceDataset(store, labels, transform=spoil)
    list(dataset)
    assert not any((item["class_label"] == 7).any() for item in dataset.data)
    assert dataset[0]["class_label"].item() == 7


def clusters(classes=("left atrium",), last=2):
    by_slice = {"2": {"left atrium": 0}, "3": {"left atrium": 1}, "4": {"left atrium": last}}
    return Subclasses(classes, 3, {"la_003": by_slice})


def test_subclass_targets(parts, tmp_path):
    _, store, labels = parts
    clusters().write(tmp_path / "clusters.json")
    dataset = SliceDataset(store, labels, ["la_003"], subclasses=tmp_path / "clusters.json")
    rows = torch.stack([item["subclass"] for item in dataset])
    # "no class here", then the three clusters
    none = [1.0, 0, 0, 0]
    assert torch.equal(rows, torch.tensor([none, none, [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], none]))


def test_subclass_target_of_several_classes():
    subclasses = Subclasses(("a", "b"), 2, {"x": {"5": {"a": 1, "b": 0}}})
    # entry 1 + k*S + s
    np.testing.assert_array_equal(subclasses.target("x", 5, np.array([1, 1])), [0, 0, 1, 1, 0])
    np.testing.assert_array_equal(subclasses.target("x", 5, np.array([0, 1])), [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(subclasses.target("x", 6, np.array([0, 0])), [1, 0, 0, 0, 0])


def test_bad_subclasses(parts, tmp_path):
    _, store, labels = parts
    with pytest.raises(
        ValueError, match="slice 4 of la_003: expected 0 to 2, but got 3; run the clustering stage again"
    ):
        SliceDataset(store, labels, ["la_003"], subclasses=clusters(last=3))
    with pytest.raises(ValueError, match="slice 2 of la_009: expected 0 to 2, but got None"):
        SliceDataset(store, labels, ["la_009"], subclasses=clusters())
    with pytest.raises(ValueError, match=r"subclasses: expected the classes \('left atrium',\)"):
        SliceDataset(store, labels, subclasses=clusters(("aorta",)))
    (tmp_path / "clusters.json").write_text('{"classes": []}')
    with pytest.raises(ValueError, match="clusters.json holds no sub-classes .*run the clustering stage again"):
        SliceDataset(store, labels, subclasses=tmp_path / "clusters.json")


def test_bad_arguments(parts):
    _, store, labels = parts
    with pytest.raises(ValueError, match="case 'x' is not in the slice store"):
        SliceDataset(store, labels, ["x"])
    with pytest.raises(ValueError, match="case 'la_007' has no slice labels"):
        SliceDataset(store, SliceLabels(("a",), {}, {}))
    with pytest.raises(ValueError, match="case 'la_007' has 6 slices, but labels for 1"):
        SliceDataset(store, SliceLabels(("a",), {"la_007": [()]}, {}), ["la_007"])
    with pytest.raises(ValueError, match="no slice is left of 1 cases with keep='with'"):
        SliceDataset(store, SliceLabels(("a",), {"la_007": [()] * 6}, {}), ["la_007"], keep="with")
    with pytest.raises(ValueError, match="without"):
        SliceDataset(store, labels, keep="witout")
    with pytest.raises(ValueError, match="left atrium"):
        SliceDataset(store, labels, keep="with", class_name="left atrum")
