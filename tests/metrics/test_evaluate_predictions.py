from __future__ import annotations

import csv
import json
import logging
import tracemalloc
import warnings

import monai
import numpy as np
import pytest
from monai.utils import version_geq
from scipy.spatial.transform import Rotation

from weakmedsam_ext.data import prediction_path, write_nifti
from weakmedsam_ext.metrics import PROTOCOLS, RELEASED_METRICS, VOLUME_METRICS, evaluate_predictions

AFFINE = np.diag([-0.5, -2.0, 4.0, 1.0])
SHAPE = (12, 10, 8)
CLASSES = {"atrium": 1}


def mask(*boxes, shape=SHAPE):
    """Mask of boxes (value, start, size)."""
    array = np.zeros(shape, np.uint8)
    for value, start, size in boxes:
        array[tuple(slice(a, a + b) for a, b in zip(start, size, strict=True))] = value
    return array


@pytest.fixture
def folder(tmp_path):
    """Writes pairs (prediction, reference) and gives what `evaluate_predictions` wants."""

    def write(affine=AFFINE, **pairs):
        for case, arrays in pairs.items():
            for name, array in zip(("predictions", "labels"), arrays, strict=True):
                write_nifti(array, affine, tmp_path / name / f"{case}.nii.gz")
        cases = [{"case": case, "label": str(tmp_path / "labels" / f"{case}.nii.gz")} for case in pairs]
        return cases, tmp_path / "predictions"

    return write


CUBE = mask((1, (3, 3, 2), (4, 4, 4)))
EMPTY = mask()


def test_values_of_every_case_and_their_summary(folder, tmp_path):
    moved = np.roll(CUBE, 2, 2)
    result = evaluate_predictions(*folder(a=(moved, CUBE), b=(CUBE, CUBE)), CLASSES, tmp_path / "out", progress=False)
    rows = {row["case"]: row for row in result.rows}
    assert rows["a"]["volume_dice"] == 0.5 and rows["b"]["volume_dice"] == 1
    assert rows["a"]["volume_hd95_mm"] == 8 and rows["a"]["volume_hd95_voxel"] == 2
    # 8 slices: 2 common ones are perfect, 2 are missed, 2 are spurious, and the 2 empty ones score 1
    assert rows["a"]["released_dice"] == 0.5 and rows["a"]["released_assd_px"] == 0
    assert [rows["a"][f"released_{kind}slices"] for kind in ("", "missed_", "spurious_", "empty_")] == [8, 2, 2, 2]

    summary = result.metrics["summary"]
    volume, released = summary["volume"]["atrium"], summary["released"]["atrium"]
    assert volume["dice"] == {
        "mean": 0.75, "std": 0.25, "median": 0.75, "n": 2, "n_missed": 0, "n_spurious": 0, "n_empty": 0,
    }  # fmt: skip
    assert released["dice"]["mean"] == 0.75 and released["dice"]["n"] == 16
    assert released["assd_px"]["n"] == 6 and released["assd_px"]["n_missed"] == 2
    assert set(volume) == set(VOLUME_METRICS) and set(released) == set(RELEASED_METRICS)


def test_protocols_are_labelled(folder, tmp_path):
    metrics = evaluate_predictions(*folder(a=(CUBE, CUBE)), CLASSES, tmp_path, progress=False).metrics
    assert list(metrics["summary"]) == list(metrics["protocols"]) == list(PROTOCOLS) == ["volume", "released"]
    assert "for comparison only" in metrics["protocols"]["released"]


def test_empty_missed_and_spurious_cases_are_counted_and_never_flatter(folder, tmp_path):
    pairs = {"good": (CUBE, CUBE), "missed": (EMPTY, CUBE), "spurious": (CUBE, EMPTY), "empty": (EMPTY, EMPTY)}
    result = evaluate_predictions(*folder(**pairs), CLASSES, tmp_path / "out", progress=False)
    assert [row["volume_presence"] for row in result.rows] == ["both", "missed", "spurious", "empty"]
    volume = result.metrics["summary"]["volume"]["atrium"]
    counts = {"n_missed": 1, "n_spurious": 1, "n_empty": 1}
    assert volume["dice"].items() >= {"n": 3, "mean": 0.333333, "median": 0.0, **counts}.items()
    for name in VOLUME_METRICS[2:]:
        assert volume[name].items() >= {"n": 1, "mean": 0.0, **counts}.items()
        assert [row[f"volume_{name}"] for row in result.rows] == [0, None, None, None]


def test_nothing_found_at_all_gives_no_distance_and_no_warning(folder, tmp_path):
    given = folder(a=(EMPTY, CUBE), b=(EMPTY, EMPTY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False)
    for protocol, name in (("volume", "hd95_mm"), ("released", "hd95_px")):
        entry = result.metrics["summary"][protocol]["atrium"][name]
        assert entry["mean"] is entry["std"] is entry["median"] is None and entry["n"] == 0


def test_files_hold_what_is_returned(folder, tmp_path):
    result = evaluate_predictions(*folder(a=(EMPTY, CUBE), b=(CUBE, CUBE)), CLASSES, tmp_path / "out", progress=False)
    text = (tmp_path / "out/metrics.json").read_text()
    assert json.loads(text) == result.metrics and "NaN" not in text
    with (tmp_path / "out/metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [{key: "" if v is None else str(v) for key, v in row.items()} for row in result.rows]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "metrics.json"]


def test_the_same_masks_give_the_same_bytes(folder, tmp_path):
    generator = np.random.default_rng(0)
    pairs = {name: (generator.uniform(size=(2, *SHAPE)) < 0.3).astype(np.uint8) for name in "abc"}
    given = folder(**pairs)
    for output in ("first", "second"):
        evaluate_predictions(*given, CLASSES, tmp_path / output, progress=False)
    for name in ("metrics.json", "metrics.csv"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_millimetres_follow_the_array_axes_of_a_turned_and_permuted_volume(folder, tmp_path, axis):
    sizes = np.array([0.5, 2.0, 4.0])
    turned = Rotation.from_euler("xyz", [30, -20, 50], degrees=True).as_matrix()[:, [2, 0, 1]] * sizes
    affine = np.block([[turned, np.array([[5], [-6], [7]])], [np.zeros((1, 3)), 1]])
    voxel = mask((1, (4, 4, 3), (1, 1, 1)))
    given = folder(affine, a=(np.roll(voxel, 2, axis), voxel))
    row = evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False).rows[0]
    assert row["volume_assd_mm"] == row["volume_hd95_mm"] == pytest.approx(2 * sizes[axis], rel=1e-5)
    assert row["volume_assd_voxel"] == row["volume_hd95_voxel"] == 2


def test_several_classes_with_values_of_their_own(folder, tmp_path):
    reference = mask((4, (1, 1, 1), (3, 3, 3)), (2, (6, 5, 3), (4, 4, 4)))
    reference[2, 2, 2] = 1  # a core that belongs to the first class
    prediction = mask((1, (1, 1, 1), (3, 3, 3)), (2, (6, 5, 3), (4, 4, 2)))
    given = folder(a=(prediction, reference))
    result = evaluate_predictions(*given, {"tumour": [1, 4], "liver": 2}, tmp_path / "out", progress=False)
    dice = {row["class"]: row["volume_dice"] for row in result.rows}
    assert dice == {"tumour": 1, "liver": 0.666667}
    assert result.metrics["classes"]["tumour"] == {"reference": [1, 4], "prediction": [1]}

    swapped = {"liver": 1, "tumour": 2}
    result = evaluate_predictions(*given, {"tumour": [1, 4], "liver": 2}, tmp_path / "out", swapped, progress=False)
    assert {row["class"]: row["volume_dice"] for row in result.rows} == {"tumour": 0, "liver": 0}


def test_predictions_by_path(folder, tmp_path):
    cases, predictions = folder(a=(CUBE, CUBE))
    write_nifti(CUBE, AFFINE, tmp_path / "elsewhere/x.nii")
    result = evaluate_predictions(cases, {"a": tmp_path / "elsewhere/x.nii"}, CLASSES, tmp_path / "out", progress=False)
    assert result.rows[0]["volume_dice"] == 1
    (predictions / "a.nii.gz").unlink()
    write_nifti(CUBE, AFFINE, predictions / "a.nii")
    assert evaluate_predictions(cases, predictions, CLASSES, tmp_path / "out", progress=False).metrics == result.metrics


@pytest.mark.skipif(
    not version_geq(monai.__version__, "1.6"), reason="MONAI before 1.6 leaves cycles to the garbage collector"
)
def test_one_case_in_memory_at_a_time(folder, tmp_path):
    big = mask((1, (20, 20, 10), (20, 20, 20)), shape=(60, 60, 40))

    def peak(number):
        given = folder(**{f"c{index}": (big, big) for index in range(number)})
        tracemalloc.start()
        evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return largest

    peak(1)  # first use of a library allocates
    assert peak(6) < peak(2) + 4 * big.nbytes  # half of what four cases more would hold; the rest is small objects


def test_a_class_that_no_reference_holds_is_told(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        evaluate_predictions(*folder(a=(EMPTY, CUBE)), {"a": 1, "ventricle": 7}, tmp_path / "out", progress=False)
    assert [r.getMessage() for r in caplog.records] == [
        "class 'ventricle' (values [7]) is in none of the 1 reference masks; check class_map."
    ]


def test_progress_can_be_seen(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("weakmedsam_ext.data.progress.on_terminal", lambda: True)
    evaluate_predictions(*folder(a=(CUBE, CUBE)), CLASSES, tmp_path / "out")
    assert "evaluate: 100%" in capsys.readouterr().err


def test_missing_predictions_are_told_before_anything_is_read(folder, tmp_path):
    cases, predictions = folder(**{name: (CUBE, CUBE) for name in "abcde"})
    (tmp_path / "labels/a.nii.gz").write_bytes(b"")
    for name in "bcde":
        (predictions / f"{name}.nii.gz").unlink()
    message = r"4 of 5 predictions are missing \(.*b.nii.gz, .*c.nii.gz, .*d.nii.gz, ...\); run the stage"
    with pytest.raises(FileNotFoundError, match=message):
        evaluate_predictions(cases, predictions, CLASSES, tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "remedy"), [("predictions", "segment this case again, or leave it out"), ("labels", "download, export or")]
)
def test_a_damaged_mask_is_named_and_no_file_is_written(folder, tmp_path, kind, remedy):
    given = folder(a=(CUBE, CUBE), b=(CUBE, CUBE))
    damaged = tmp_path / kind / "b.nii.gz"
    damaged.write_bytes(damaged.read_bytes()[:60])
    with pytest.raises(ValueError, match=rf"{kind}/b.nii.gz is damaged .*; {remedy}"):
        evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_missing_reference_is_named(folder, tmp_path):
    given = folder(a=(CUBE, CUBE))
    (tmp_path / "labels/a.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match="labels/a.nii.gz does not exist; correct the path"):
        evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    "array, affine, message",
    [
        (CUBE[:-1], AFFINE, r"predictions/a.nii.gz: expected the shape \(12, 10, 8\) of .*labels/a.nii.gz, .*resample"),
        (CUBE, np.diag([-0.5, -2.0, 5.0, 1.0]), "predictions/a.nii.gz: its affine differs .* by up to 1; resample"),
        (CUBE * 255, AFFINE, r"a.nii.gz: expected the values \[0, 1\] .* got \[255\]; give prediction_map"),
        (CUBE * 0.5, AFFINE, "a.nii.gz: expected whole label values, but got fractions"),
    ],
)
def test_a_prediction_that_does_not_fit(folder, tmp_path, array, affine, message):
    given = folder(a=(CUBE, CUBE))
    write_nifti(array, affine, tmp_path / "predictions/a.nii.gz")
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(*given, CLASSES, tmp_path / "out", progress=False)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"cases": []}, r"cases: expected at least one case and each once, but got \[\]"),
        ({"cases": [{"case": "a", "label": "x"}] * 2}, r"cases: .* each once, but got \['a', 'a'\]"),
        ({"cases": [{"case": "a"}]}, r"cases without a reference mask \(a\) cannot be evaluated; leave them out"),
        ({"predictions": {"b": "x"}}, "predictions: expected a path for every case, but a have none; add them"),
        ({"class_map": {}}, "class_map: expected a class and for each whole values above 0, but got {}"),
        ({"class_map": {"a": 0.5}}, "class_map: expected a class and for each whole values above 0, but got .*0.5"),
        ({"class_map": {"a": []}}, "class_map: expected a class"),
        ({"class_map": {"a": 0}}, "class_map: expected a class and for each whole values above 0"),
        ({"prediction_map": {"b": 1}}, r"prediction_map: expected the classes \['atrium'\], but got \['b'\]"),
    ],
)
def test_wrong_arguments_are_refused(folder, tmp_path, changes, message):
    cases, predictions = folder(a=(CUBE, CUBE))
    given = {"cases": cases, "predictions": predictions, "class_map": CLASSES, "output_dir": tmp_path / "out"}
    with pytest.raises(ValueError, match=message):
        evaluate_predictions(**{**given, **changes}, progress=False)


def test_predictions_may_be_named_after_the_image(tmp_path):
    item = {"case": "a", "image": [str(tmp_path / "a_flair.nii.gz"), str(tmp_path / "a_t1.nii.gz")]}
    assert prediction_path(tmp_path, item).name == "a.nii.gz"
    (tmp_path / "a_flair.nii.gz").touch()
    assert prediction_path(tmp_path, item).name == "a_flair.nii.gz"
    (tmp_path / "a.nii").touch()
    assert prediction_path(tmp_path, item).name == "a.nii"
