import subprocess
import sys

import numpy as np
import pytest

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.data import decathlon_cases, load_volume, write_nifti


def test_phantom(tmp_path, capsys):
    arguments = ["--output", str(tmp_path / "7"), "--num_cases", "2", "--seed", "1", "--size", "32,32,10"]
    assert main(["phantom", "--layout", "decathlon", *arguments]) == 0
    assert [load_volume(case["image"]).shape for case in decathlon_cases(tmp_path / "7")] == [(32, 32, 10)] * 2
    assert "wrote" in capsys.readouterr().out


def test_prepare(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "in" / "AAA").mkdir(parents=True)
    with h5py.File(tmp_path / "in" / "AAA" / "mri_norm2.h5", "w") as file:
        file["image"] = np.random.default_rng(0).normal(size=(4, 4, 4))
        file["label"] = np.eye(4)[..., None].repeat(4, axis=2)
    assert main(["prepare", "la2018", "--source", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    assert [case["case"] for case in decathlon_cases(tmp_path / "out")] == ["la_001"]


def test_prepare_abdomenct1k(tmp_path):
    voxels = np.zeros((4, 4, 4), np.uint8)
    write_nifti(voxels, np.eye(4), tmp_path / "in/Image/Case_00001_0000.nii.gz")
    write_nifti(voxels, np.eye(4), tmp_path / "in/Mask/Case_00001.nii.gz")
    assert main(["prepare", "abdomenct1k", "--source", str(tmp_path / "in"), "--output", str(tmp_path / "out")]) == 0
    assert [case["case"] for case in decathlon_cases(tmp_path / "out")] == ["Case_00001"]


def test_prepare_brats2019(tmp_path):
    for kind, value in (("flair", 1), ("t1ce", 2), ("seg", 4)):
        voxels = np.full((4, 4, 4), value, np.uint8)
        write_nifti(voxels, np.eye(4), tmp_path / f"in/LGG/BraTS19_A_1/BraTS19_A_1_{kind}.nii.gz")
    for arguments, value in (([], 1), (["--modality", "t1ce"], 2)):
        output = str(tmp_path / f"out{value}")
        assert main(["prepare", "brats2019", "--source", str(tmp_path / "in"), "--output", output, *arguments]) == 0
        (case,) = decathlon_cases(output)
        assert case["case"] == "BraTS19_A_1" and load_volume(case["image"]).array.max() == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare", "la2018", "--source", "nowhere"], "error: source nowhere is no folder; give the folder"),
        (
            ["prepare", "brats2019", "--source", "nowhere", "--modality", "flare"],
            "error: By 'flare', did you mean 'flair'",
        ),
        (["phantom", "--layout", "nifti"], "error: "),
        (["phantom", "--num_cases", "many"], "error: num_cases: expected a whole number, at least 1, but got 'many'"),
    ],
)
def test_expected_errors_are_one_message_without_a_traceback(tmp_path, capsys, arguments, message):
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith(message) and "Traceback" not in error


def test_misspelt_options_are_refused_before_anything_is_written(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["phantom", "--output", str(tmp_path / "out"), "--num_case", "3"])
    assert "--num_case" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_command(capsys):
    assert main(["prepare"]) == 2
    assert "no command given" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["phantom"],
        ["check"],
        ["prepare", "la2018"],
        ["prepare", "abdomenct1k"],
        ["prepare", "brats2019"],
        ["prepare", "msd_heart"],
        ["package"],
    ],
)
def test_help_needs_neither_torch_nor_monai(command):
    code = (
        "import sys, weakmedsam_ext.__main__ as program\n"
        f"try: program.main({[*command, '--help']!r})\n"
        "finally: assert not {'torch', 'monai', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "weakmedsam_ext" in done.stdout + done.stderr
