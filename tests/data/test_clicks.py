from __future__ import annotations

import json

import pytest

from weakmedsam_ext.data import read_clicks


def test_clicks_go_to_their_images(tmp_path, caplog):
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"b.nii.gz": [[1, 2, 3, 1]]}))
    items = read_clicks(path, ["x/a.nii.gz", "x/b.nii.gz"])
    assert items == [{"image": "x/a.nii.gz", "clicks": []}, {"image": "x/b.nii.gz", "clicks": [[1, 2, 3, 1]]}]
    assert not caplog.records
    assert read_clicks(None, ["a.nii.gz"]) == [{"image": "a.nii.gz", "clicks": []}]
    assert "every mask will be empty" in caplog.text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"c.nii.gz": []}, "'c.nii.gz' is none of the 1 images; correct the name"),
        ({"a.nii.gz": [1, 2, 3, 1]}, r"for every click on 'a.nii.gz', but got 1; write"),
        ({"a.nii.gz": 7}, "expected a list of clicks on 'a.nii.gz', but got 7; write"),
        ({"a.nii.gz": {"0": [1, 2, 3, 1]}}, "expected a list of clicks on 'a.nii.gz'"),
        ({"a.nii.gz": [[1, 2, 3, 1], [1, 2, 3]]}, r"for every click on 'a.nii.gz', but got \[1, 2, 3\]; write"),
        ({"a.nii.gz": [[1, 2, 3, 2]]}, "with label 1 or 0 for every click on 'a.nii.gz'"),
        ({"a.nii.gz": [[1, 2, float("nan"), 1]]}, r"on 'a.nii.gz', but got \[1, 2, nan, 1\]"),
        ({"a.nii.gz": [["1", 2, 3, 1]]}, "whole numbers .* on 'a.nii.gz'"),
        ({"a.nii.gz": [None]}, "on 'a.nii.gz', but got None"),
        ([], "expected a JSON object, but got list; write"),
    ],
)
def test_bad_files(tmp_path, content, sentence):
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence):
        read_clicks(path, ["a.nii.gz"])


def test_clicks_on_a_folder_and_on_images_of_several_files(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        (tmp_path / name).touch()
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps({"b.nii.gz": [[1, 2, 3, 1]]}))
    assert [item["clicks"] for item in read_clicks(path, str(tmp_path))] == [[], [[1, 2, 3, 1]]]
    assert [item["clicks"] for item in read_clicks(path, str(tmp_path / "b.nii.gz"))] == [[[1, 2, 3, 1]]]
    both = [str(tmp_path / name) for name in ("b.nii.gz", "a.nii.gz")]
    assert read_clicks(path, [both]) == [{"image": both, "clicks": [[1, 2, 3, 1]]}]
