"""Pictures and a list of what they show become a network, by the commands that README.md names."""

from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import pytest
from heart_runs import SMALL

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.bundle import training_workflow

pytestmark = pytest.mark.slow  # a whole pipeline

OTHERS = ("slices_per_volume", "num_test", "device")


def write_pictures(folder, number=12):
    """Noise with a bright disc in every other picture, grey and in colour, and the list."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    rows, columns = np.mgrid[:28, :36]
    lines = ["Case;Classes"]
    for index in range(number):
        picture = generator.integers(0, 80, (28, 36))
        if index % 2:
            picture[(rows - 12) ** 2 + (columns - 10 - index) ** 2 < 30] += 150
        array = picture.astype(np.uint8) if index % 3 else np.stack([picture] * 3, -1).astype(np.uint8)
        itk.imwrite(itk.image_from_array(array, is_vector=array.ndim == 3), str(folder / f"p.{index:02d}.png"))
        lines.append(f"p.{index:02d}.png;{'disc' if index % 2 else ''}")
    (folder / "labels.csv").write_bytes("\r\n".join(lines).encode("utf-16"))


def test_from_pictures_to_masks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "own")
    small = {name: value for name, value in SMALL.items() if name not in OTHERS}
    settings = [part for name, value in small.items() for part in (f"--{name}", str(value))]
    command = ["create", "--recipe", "weakmedsam", "--output", "mine", "--dataset_dir", "own"]
    assert main([*command, "--class_map", "['disc']", "--labels_csv", "own/labels.csv", *settings]) == 0
    where = {"bundle_root": str(tmp_path / "mine"), "output_dir": str(tmp_path / "run"), "device": "cpu"}
    monkeypatch.chdir("/")
    training_workflow(tmp_path / "mine/configs", "pipeline.json", **where).run()
    masks = sorted((tmp_path / "run/predictions").glob("*.nii.gz"))
    assert len(masks) == 6 and not (tmp_path / "run/metrics.json").exists()
    for path in masks:
        mask = nib.load(path)
        assert mask.shape == (36, 28, 1) and set(np.unique(mask.dataobj)) <= {0, 1}
        assert path.name.removesuffix(".nii.gz") in {f"p.{index:02d}" for index in range(12)}
    labels = (tmp_path / "run/pseudo_labels").glob("*.nii.gz")
    assert {nib.load(path).shape for path in labels} == {(36, 28, 1)}
