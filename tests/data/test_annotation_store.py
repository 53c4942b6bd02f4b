from __future__ import annotations

import numpy as np

from weakmedsam_ext.data import cache_with_unlabelled, with_unlabelled, write_nifti


def make(path):
    write_nifti(np.zeros((2, 2, 2), np.uint8), np.eye(4), path)
    return str(path)


def store(folder):
    """Four images, of which one is trained on and one is held out; both have a final label."""
    for name in "abcd":
        make(folder / f"{name}.nii.gz")
    for name in "ab":
        make(folder / "labels" / "final" / f"{name}.nii.gz")
    make(folder / "labels" / "original" / "c.nii.gz")  # an answer of the network that nobody has accepted
    (folder / "datastore_v2.json").write_text("{}")
    return {"image": str(folder / "a.nii.gz"), "label": str(folder / "labels" / "final" / "a.nii.gz")}


def test_images_without_a_final_label_are_added_and_the_held_out_one_is_not(tmp_path):
    item = store(tmp_path)
    added = [{"image": str(tmp_path / f"{name}.nii.gz")} for name in "cd"]
    assert with_unlabelled([item]) == [item, *added]
    assert with_unlabelled([item, added[0]]) == [item, *added]


def test_items_of_other_layouts_stay_as_they_are(tmp_path):
    images = [make(tmp_path / "imagesTr" / f"{name}.nii.gz") for name in "ab"]
    items = [{"image": images[0], "label": make(tmp_path / "labelsTr" / "a.nii.gz")}]
    assert with_unlabelled(items) == items
    several = [{"image": images, "label": str(tmp_path / "imagesTr" / "labels" / "final" / "a.nii.gz")}]
    assert with_unlabelled(several) == several


def test_the_cached_data_set_holds_both(tmp_path):
    data_set = cache_with_unlabelled([store(tmp_path)], lambda item: "label" in item, cache_num=0)
    assert [data_set[index] for index in range(len(data_set))] == [True, False, False]
