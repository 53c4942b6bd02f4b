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
        ({"a.nii.gz": [1, 2, 3, 1]}, r"expected a list of clicks on 'a.nii.gz', but got \[1, 2, 3, 1\]; write"),
        ([], "expected a JSON object, but got list; write"),
    ],
)
def test_bad_files(tmp_path, content, sentence):
    path = tmp_path / "clicks.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=sentence):
        read_clicks(path, ["a.nii.gz"])
