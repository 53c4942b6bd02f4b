from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image
from tiny_run import CASES, CLASS_MAP, DICE, SHAPE, make_run

from weakmedsam_ext.data import SliceLabels
from weakmedsam_ext.report import (
    learnt_from_few_masks,
    learnt_from_images,
    learnt_from_slices,
    report_inputs,
    write_report,
)
from weakmedsam_ext.report.case_images import load_case
from weakmedsam_ext.report.findings import find_slices
from weakmedsam_ext.report.run_record import pick_cases, read_steps, stage_records
from weakmedsam_ext.report.viewers import chosen_slices, viewer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    steps, cases = make_run(folder)
    path = write_report(folder / "run", steps, cases, CLASS_MAP, "A <sentence>.", progress=False)
    return folder / "run", steps, cases, path.read_text(encoding="utf-8")


def case_of(run, name, axis=2):
    folder, _, cases, _ = run
    item = next(case for case in cases if case["case"] == name)
    return load_case(item, {"network": folder / "predictions"}, CLASS_MAP, axis)


def text_of(page):
    """What a reader sees, without tags."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def test_scores_are_those_of_the_evaluation(run):
    folder, steps, cases, _ = run
    labels, network = read_steps(folder, steps, cases)
    assert network.is_main and not labels.is_main and network.metric == "volume_dice"
    assert network.case_scores() == pytest.approx(DICE, abs=1e-6)
    assert labels.case_scores() == {name: 1.0 for name in DICE}


def test_a_step_without_scores_is_left_out(run):
    folder, steps, cases, _ = run
    missing = {"scores": str(folder / "nowhere"), "cases": cases}
    assert [
        step.title for step in read_steps(folder, {"none": missing, "no cases": {**missing, "cases": []}}, cases)
    ] == []


@pytest.mark.parametrize(
    "scores, chosen",
    [
        ({"a": 0.5, "b": 0.9, "c": 0.1}, {"best": "b", "median": "a", "worst": "c"}),
        ({"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.2}, {"best": "b", "median": "a", "worst": "c"}),
        ({"a": 0.5, "b": 0.9}, {"best": "b", "worst": "a"}),
        ({"a": 0.5}, {"best": "a"}),
        ({}, {}),
    ],
)
def test_best_median_and_worst_are_different_cases(scores, chosen):
    assert pick_cases(scores) == chosen


def test_missed_and_spurious_slices(run):
    found = find_slices(case_of(run, "fair"), "network", ["lesion"])
    assert [(finding.kind, finding.number) for finding in found] == [("missed", 1), ("spurious", 4)]
    assert [finding.area for finding in found] == [4 * 5 * 2.0 * 1.0] * 2  # voxels of 2 mm x 1 mm
    assert find_slices(case_of(run, "good"), "network", ["lesion"]) == []


def test_a_case_is_turned_as_a_radiologist_looks_at_it(tmp_path, run):
    """The same patient, stored from right to left and from front to back, gives the same picture."""
    from weakmedsam_ext.data import load_volume, write_nifti

    folder, _, cases, _ = run
    volume = load_volume(cases[0]["image"])
    turned = volume.affine @ np.array(
        [[-1, 0, 0, SHAPE[0] - 1], [0, 0, -1, SHAPE[1] - 1], [0, 1, 0, 0], [0, 0, 0, 1.0]]
    )
    item = {"case": "good"}
    for key in ("image", "label"):
        array = load_volume(cases[0][key]).array
        stored = array[::-1, ::-1].transpose(0, 2, 1)
        write_nifti(stored.astype(np.float32 if key == "image" else np.uint8), turned, tmp_path / f"{key}.nii.gz")
        item[key] = str(tmp_path / f"{key}.nii.gz")
    other, case = load_case(item, {}, CLASS_MAP, 2), case_of(run, "good")
    np.testing.assert_array_equal(other.image, case.image)
    np.testing.assert_array_equal(other.layers["reference"], case.layers["reference"])
    assert other.spacing == case.spacing == (2.0, 1.0, 3.0)


def test_a_picture_shows_the_slice_with_front_up_and_right_side_left(run):
    case = case_of(run, "good")
    assert case.start == 1 and case.size == (24.0, 10.0)
    plane = case.plane(case.image, 2)
    assert plane.shape == (10, 12) and plane[0, 0] == case.image[-1, -1, 2] and plane[-1, 0] == case.image[-1, 0, 2]
    content = base64.b64decode(case.picture(2).split(",")[1])
    picture = np.asarray(Image.open(io.BytesIO(content)))
    assert picture.shape == (10, 12) and picture.dtype == np.uint8
    lesion = case.plane(case.layers["reference"], 2) > 0
    assert picture[lesion].mean() > picture[~lesion].mean() + 30


def test_a_photograph_is_shown_as_it_is_and_has_no_sides(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for name, array in (("image", pixels), ("label", (pixels < 12).astype(np.uint8))):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    item = {"case": "p", "image": str(tmp_path / "image.png"), "label": str(tmp_path / "label.png")}
    case = load_case(item, {}, {"lesion": 1}, 2)
    np.testing.assert_array_equal(case.plane(case.image, 0), pixels)
    page = viewer(case, "p", "", ["reference"], {})
    assert '<span class="side left"></span>' in page and "hidden" in page and ">R<" not in page


def test_an_outline_goes_around_the_mask_in_mm(run):
    case = case_of(run, "good")
    line = case.outline("reference", 2)
    points = np.array([[float(x) for x in pair.split(",")] for pair in re.findall(r"[\d.]+,[\d.]+", line)])
    # x: voxels 3 to 6 of 12, of 2 mm, mirrored; y: voxels 2 to 6 of 10, of 1 mm, mirrored; to half a voxel
    np.testing.assert_allclose([points.min(0), points.max(0)], [[10, 3], [18, 8]], atol=0.01)
    assert case.outline("reference", 0) == "" and line.count("M") == 1


def test_the_slider_keeps_the_fullest_slice_and_few_others(run, monkeypatch):
    case = case_of(run, "bad")
    assert chosen_slices(case) == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr("weakmedsam_ext.report.viewers.MAX_SLICES", 3)
    assert len(chosen_slices(case)) == 3 and case.start in chosen_slices(case)
    assert chosen_slices(case_of(run, "good"))[1] in (1, 2, 3)


def test_the_page_tells_the_main_numbers(run):
    text = text_of(run[3])
    assert "A &lt;sentence&gt;." in text and "Tiny &lt;run&gt;" in text
    assert "0.67 overlap (Dice) of the median case; from 0.00 to 1.00 in 3 held-out cases" in text
    assert "4 of 9 slices that show a structure were missed" in text
    assert "2 of 9 slices without a structure were marked all the same" in text
    for place, name in (("best", "good"), ("median", "fair"), ("worst", "bad")):
        assert f"{place}: {name}" in text
    assert "bad lesion 0–2 5" in text  # the list of all such slices


def test_the_table_has_a_row_a_case_that_sorts_by_value(run):
    table = re.search(r'<table class="sorts">.*?</table>', run[3], re.DOTALL)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", table.split("<tbody>")[1], re.DOTALL)
    cells = {row[0]: row[1:] for row in (re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows)}
    assert set(cells) == set(CASES) and [cells[name][0] for name in CASES] == ["1.00", "0.67", "0.00"]
    assert cells["bad"][-2:] == ["3", "1"] and cells["fair"][-2:] == ["1", "1"]
    assert 'data-value="0.666667"' in table and len(re.findall("<th[ >]", table)) == table.count("<button") == 6


def test_curves_times_versions_and_settings_are_there(run):
    text = text_of(run[3])
    assert "training of the network: loss, at the end 0.333" in text
    assert "overlap (Dice) with real masks of the validation cases, at the end 0.3" in text
    assert "training of the network 3 min 1.5 GB" in text and "2 min since it was started again" in text
    assert "together 5 min" in text and "torch 9.9" in text and "epochs 3" in text
    assert [stage.name for stage in stage_records(run[0])] == ["train", "predict"]


def test_the_file_needs_nothing_else_and_is_well_formed(run):
    page = run[3]
    links = re.findall(r'(?:src|href)="([^"]{0,30})', page)
    assert links and all(link.startswith("data:image/") for link in links)
    assert "http" not in page and "@import" not in page and "$" not in re.sub(r"data:image[^\"]*", "", page)
    opened = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attributes):
            if tag not in ("meta", "input", "img"):
                opened.append(tag)

        def handle_startendtag(self, tag, attributes):
            assert tag in ("image", "circle", "line", "path", "polyline")

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balance().feed(page)
    assert opened == []


def test_what_the_report_shows_is_in_its_key(run):
    folder, steps, cases, _ = run
    flat = {str(path) for part in report_inputs(folder, steps, cases) for one in part for path in np.atleast_1d(one)}
    inside = {
        "metrics.csv",
        "logs/train.csv",
        "stages/train.json",
        "predictions/bad.nii.gz",
        "pseudo_labels/bad.nii.gz",
    }
    assert {str(folder / name) for name in inside} | {cases[0]["image"], cases[0]["label"]} <= flat
    assert not {str(folder / f"stages/{name}.json") for name in ("settings", "hashes", "report")} & flat


def test_a_run_without_scores_still_has_a_report(run, tmp_path):
    folder = tmp_path / "run"
    (folder / "stages").mkdir(parents=True)
    (folder / "stages" / "settings.json").write_text("{}")
    path = write_report(folder, {}, [], {"lesion": 1}, "Nothing.", progress=False)
    text = text_of(path.read_text(encoding="utf-8"))
    assert "this report shows no results" in text and "kept no table of its training" in text


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="settings.json does not exist; give the output_dir of a pipeline"):
        write_report(tmp_path, {}, [], {"lesion": 1}, "", progress=False)


def test_what_was_learnt_from_what(tmp_path):
    held_out = [{"case": "t", "label": "x"}]
    split = {"train": [{"case": "a", "label": "x"}, {"case": "b"}], "validation": held_out, "test": []}
    SliceLabels(("lesion",), {"a": [("lesion",), ()], "b": [(), ()], "t": [("lesion",)]}, {}).write(tmp_path / "s.json")
    told = learnt_from_slices(split, {"lesion": 1}, tmp_path / "s.json", True)
    assert "“lesion” from 2 cases without ever seeing an outline" in told and "(1 of 4), by a list of slices." in told
    assert told.endswith("It is judged on 1 held-out case; they also watched over the training.")
    few = learnt_from_few_masks({**split, "test": held_out * 2}, {"a": 1, "b": 2, "c": 3}, 1)
    assert "“a”, “b” and “c” from the masks of 1 case and from 1 case without a mask." in few
    assert few.endswith("It is judged on 2 held-out cases.")
    assert "the masks of 1 case and" in learnt_from_few_masks(split, {"a": 1}, None)
    alone = learnt_from_images({"train": [{}], "validation": [], "test": []}, True)
    assert "without any label" in alone and "nobody has measured" in alone and "real masks" in alone
