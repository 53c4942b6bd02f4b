"""Faults that users met: stores, disks, lists, checkpoints, workers, packages. A kind has three members or more."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import RandFlip
from torch import nn

from weakmedsam_ext.__main__ import main
from weakmedsam_ext.bundle import check_bundle, package_bundle, user_message
from weakmedsam_ext.bundle.errors import INTERRUPTED
from weakmedsam_ext.data import prepare_la2018
from weakmedsam_ext.data.array_store import is_complete, save_array
from weakmedsam_ext.data.datasets.decathlon import decathlon_cases, image_items
from weakmedsam_ext.data.io import naming_full_disk
from weakmedsam_ext.data.ranks import share
from weakmedsam_ext.handlers import ExponentialMovingAverage, GradientClipping, ResumableEpochs
from weakmedsam_ext.handlers.accumulation import steps_now
from weakmedsam_ext.networks import AffinityRandomWalk, load_checkpoint
from weakmedsam_ext.transforms import ClassNumbers, ClassNumbersd, CropAroundClicks

BUNDLE = Path(__file__).parents[1] / "bundles" / "semisam_la2018"


def halved(path):
    os.truncate(path, path.stat().st_size // 2)


def zeroed_start(path):
    with path.open("r+b") as file:
        file.write(bytes(512))


def zeroed_end(path):
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(bytes(4096))


def other_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [halved, zeroed_start, zeroed_end, other_bit, lambda path: path.write_bytes(b"")])
def test_a_damaged_array_is_found_when_it_is_opened(tmp_path, caplog, harm):
    path = tmp_path / "a.npy"
    save_array(np.random.default_rng(0).random((40, 40)), path)
    assert is_complete(path) and not caplog.records
    harm(path)
    assert not is_complete(path)
    assert "a.npy is damaged" in caplog.text and "made again" in caplog.text
    save_array(np.zeros((2, 2)), path)
    assert is_complete(path)


def numpy_writes_short():
    raise OSError("1000000 requested and 131056 written")


def torch_loses_its_place():
    try:
        raise OSError(errno.ENOSPC, "No space left on device")
    finally:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 704 vs 598")


def quota():
    raise OSError(errno.EDQUOT, "Disk quota exceeded")


@pytest.mark.parametrize("write", [numpy_writes_short, torch_loses_its_place, quota])
def test_a_full_disk_is_told_with_the_file(write):
    with pytest.raises(OSError) as caught, naming_full_disk("/out/a.pt"):
        write()
    assert user_message(caught.value).startswith("no space is left on the disk for /out/a.pt; free some")


@pytest.mark.parametrize("error", [RuntimeError("something else"), OSError(errno.EIO, "Input/output error")])
def test_other_errors_of_writing_stay(error):
    with pytest.raises(type(error)) as caught, naming_full_disk("/out/a.pt"):
        raise error
    assert caught.value is error


def wrapped(error, times):
    for _ in range(times):
        try:
            raise RuntimeError("Failed to evaluate") from error
        except RuntimeError as outer:
            error = outer
    return error


@pytest.mark.parametrize("times", [0, 1, 3])
def test_an_interruption_is_one_line(times):
    """As it is, or from within expressions of a config."""
    assert user_message(wrapped(KeyboardInterrupt(), times)) == INTERRUPTED


@pytest.mark.parametrize(
    ("command", "function"),
    [
        (["phantom", "--output", "o"], "weakmedsam_ext.data.write_phantoms"),
        (["check", "--dataset_dir", "d"], "weakmedsam_ext.data.list_cases"),
        (["build", "--bundle", "b"], "weakmedsam_ext.bundle.build_bundle"),
        (["prepare", "brats2019", "--source", "s", "--output", "o"], "weakmedsam_ext.data.prepare_brats2019"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_an_interrupted_command_says_so_and_fails(monkeypatch, capsys, command, function):
    def interrupted(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr(function, interrupted)
    assert main(command) == 130
    assert capsys.readouterr().err.splitlines() == [INTERRUPTED]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_preparation_leaves_nothing_half_written(tmp_path, stop):
    command = [
        sys.executable,
        "-m",
        "weakmedsam_ext",
        "phantom",
        "--output",
        str(tmp_path / "out"),
        "--num_cases",
        "400",
    ]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # tests that a shell runs in the background hand down that Ctrl-C is ignored
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 300
    while len(list((tmp_path / "out").rglob("*.nii.gz"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(stop)
    _, told = process.communicate(timeout=120)
    assert process.returncode not in (0, None) and "Traceback" not in told
    if stop == signal.SIGINT:
        assert told.strip().splitlines()[-1] == INTERRUPTED and process.returncode == 130
    finished = list((tmp_path / "out").rglob("*.nii.gz"))
    assert len(finished) >= 3 and not (tmp_path / "out" / "dataset.json").exists()
    for path in finished:
        assert np.asarray(nib.load(path).dataobj).size


def drawn_by_rank(rank, monkeypatch, tmp_path, draw):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: rank)
    transform = RandFlip(0.5)
    ResumableEpochs(tmp_path / "a.pt", {}, 5, transform).reseed(SimpleNamespace(state=SimpleNamespace(epoch=2)))
    return draw(transform)


@pytest.mark.parametrize(
    "draw",
    [
        lambda transform: torch.rand(4).tolist(),  # clicks, dropout, noise
        lambda transform: np.random.random(4).tolist(),  # noqa: NPY002 transforms of other packages
        lambda transform: transform.R.random_sample(4).tolist(),  # crops and flips
        lambda transform: [random.random() for _ in range(4)],
    ],
    ids=["torch", "numpy", "transform", "python"],
)
def test_ranks_draw_numbers_of_their_own(monkeypatch, tmp_path, draw):
    first = [drawn_by_rank(rank, monkeypatch, tmp_path, draw) for rank in range(4)]
    assert all(one != other for k, one in enumerate(first) for other in first[:k])
    assert [drawn_by_rank(rank, monkeypatch, tmp_path, draw) for rank in range(4)] == first


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_ranks_share_the_work(monkeypatch, count):
    monkeypatch.setenv("WORLD_SIZE", str(count))
    parts = []
    for rank in range(count):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(share(range(5)))
    assert sorted(item for part in parts for item in part) == list(range(5))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", ["ValueError", "FileNotFoundError", "OSError"])
def test_the_sentence_of_a_worker(kind):
    text = (
        "Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"
        f'  File "a.py", line 1, in f\n    g()\n{kind}: a.nii.gz is bad; mend it.\n\nThe above exception was the '
        "direct cause of the following exception:\n\nTraceback (most recent call last):\nRuntimeError: applying\n"
    )
    assert user_message(RuntimeError(text)) == "a.nii.gz is bad; mend it."
    assert user_message(RuntimeError(text.replace(kind, "KeyError"))) is None


def written(path, content):
    path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\n", "it is text, not a model: 'a: 1'"),
        ('{"training": []}', "is text, not a model"),
        ("<html>404</html>", "is text, not a model"),
        (b"", "is empty"),
        (b"PK\x03\x04" + bytes(80), "cannot be read safely"),
        (pickle.dumps({"a": SimpleNamespace(b=1)}), "holds more than tensors"),
        (b"\x80\x02" + bytes(range(60)), "model.pt "),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.pth"])
def test_a_file_that_is_no_checkpoint(tmp_path, content, message, name):
    with pytest.raises(ValueError, match=message.replace("model.pt", name)) as caught:
        load_checkpoint(nn.Linear(2, 2), written(tmp_path / name, content))
    assert str(tmp_path / name) in str(caught.value) and "weights_only" not in str(caught.value)
    assert "\n" not in str(caught.value)


def la(root, cases=("A", "B", "C"), list_=None):
    for case in cases:
        (root / case).mkdir(parents=True)
        with h5py.File(root / case / "mri_norm2.h5", "w") as file:
            file["image"] = np.random.default_rng(0).random((4, 5, 6))
            file["label"] = np.arange(120).reshape(4, 5, 6) % 2
    if list_ is not None:
        (root / "train.list").write_bytes(list_)
    return root


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfB\r\nA\r\n", b"B\nA\n\n", b"data/B/mri_norm2.h5\nA\n", b"..\\x\\B\\mri_norm2.h5\r\nA"]
)
def test_lists_of_other_programs(tmp_path, content):
    listing = prepare_la2018(la(tmp_path / "in", list_=content), tmp_path / "out", progress=False)
    cases = json.loads(listing.with_name("cases.json").read_text())
    assert [case["case"] for case in cases.values()] == ["B", "A", "C"]


def as_group(file):
    del file["image"]
    file["image/a"] = np.zeros((4, 5, 6))


def as_text(file):
    del file["label"]
    file["label"] = "text"


def as_complex(file):
    del file["image"]
    file["image"] = np.zeros((4, 5, 6), complex)


@pytest.mark.parametrize("harm", [as_group, as_text, as_complex])
def test_a_group_or_text_in_place_of_an_array(tmp_path, harm):
    root = la(tmp_path / "in")
    with h5py.File(root / "B" / "mri_norm2.h5", "r+") as file:
        harm(file)
    with pytest.raises(ValueError, match=r"B/mri_norm2.h5 is damaged or lacks .* is no array of numbers"):
        prepare_la2018(root, tmp_path / "out", progress=False)


@pytest.mark.parametrize("where", ["old/B", "x/y/B", "B/B"])
def test_a_case_that_is_there_twice(tmp_path, where):
    root = la(tmp_path / "in")
    shutil.copytree(root / "A", root / where)
    with pytest.raises(ValueError, match="mri_norm2.h5 is there a second time as .*; remove one"):
        prepare_la2018(root, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_a_list_in_another_encoding_is_named(tmp_path):
    root = la(tmp_path / "in", list_="A\nMüller\n".encode("latin-1"))
    with pytest.raises(ValueError, match="train.list is no UTF-8 text"):
        prepare_la2018(root, tmp_path / "out", progress=False)


@pytest.mark.parametrize("label", [None, "", "absent"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_no_label_in_dataset_json(tmp_path, label, encoding):
    for name in ("a.nii.gz", "b.nii.gz", "m.nii.gz"):
        (tmp_path / name).touch()
    first = {"image": "./a.nii.gz", "label": label} if label != "absent" else {"image": "a.nii.gz"}
    listed = {"training": [first, {"image": str(tmp_path / "b.nii.gz"), "label": "./m.nii.gz"}]}
    (tmp_path / "dataset.json").write_text(json.dumps(listed), encoding=encoding)
    a, b = decathlon_cases(tmp_path)
    assert a == {"case": "a", "image": str(tmp_path / "a.nii.gz")}
    assert b == {"case": "b", "image": str(tmp_path / "b.nii.gz"), "label": str(tmp_path / "m.nii.gz")}


@pytest.mark.parametrize("label", [3, ["m.nii.gz"], {"0": "m.nii.gz"}, True])
def test_a_label_that_is_no_path(tmp_path, label):
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [{"image": "a.nii.gz", "label": label}]}))
    with pytest.raises(ValueError, match="dataset.json: expected the path of one mask under 'label'"):
        decathlon_cases(tmp_path)


def test_what_a_datalist_may_be(tmp_path):
    paths = [str(written(tmp_path / name, "")) for name in ("a.nii.gz", "b.nii.gz")]
    assert image_items(paths[0]) == [{"image": paths[0]}]
    assert image_items(str(tmp_path)) == [{"image": path} for path in paths] == image_items(paths)
    assert image_items([paths]) == [{"image": paths}] and image_items([]) == []
    series = tmp_path / "series"
    series.mkdir()
    written(series / "1.dcm", "")
    assert image_items(str(series)) == [{"image": str(series)}]
    for wrong in (3, [3], [None], {"a": 1}, [""], [[]]):
        with pytest.raises(ValueError, match="datalist: expected paths of images"):
            image_items(wrong)


@pytest.mark.parametrize("kind", [torch.tensor, MetaTensor, np.array])
def test_other_values_of_a_mask_are_background(kind):
    mask = kind(np.array([[0, 1, 2, 3.0, 4.0000002, 255]], np.float32))
    numbers = ClassNumbers({"liver": 4, "rest": [1, 3]})(mask)
    assert type(numbers) is type(mask) and numbers.tolist() == [[0, 2, 0, 2, 1, 0]]
    item = ClassNumbersd(["label", "other"], {"all": [1, 2, 3]}, allow_missing_keys=True)({"label": mask})
    assert item["label"].tolist() == [[0, 1, 1, 1, 0, 0]]
    with pytest.raises(ValueError, match="class_map: expected a value for each class"):
        ClassNumbers({"liver": []})


@pytest.mark.parametrize("cast", [lambda x: x, MetaTensor, lambda x: MetaTensor(x).half()])
def test_a_walk_without_gradients(cast):
    maps, guide = torch.rand(2, 1, 6, 6), torch.rand(2, 1, 6, 6)
    with torch.no_grad():
        out = AffinityRandomWalk()(cast(maps), cast(guide))
    assert type(out) is type(cast(maps)) and torch.isfinite(out).all()


@pytest.mark.parametrize(("size", "first", "last"), [(8, 2, 9), (8, 0, 7), (6, 10, 15), (7, 4, 10), (2, 5, 6)])
def test_clicks_that_span_the_whole_box(size, first, last):
    clicks = torch.zeros(1, 16, 16)
    clicks[0, first, first] = clicks[0, last, last] = 1
    rows, columns = CropAroundClicks(size).box(clicks)
    assert clicks[0, rows, columns].sum() == 2 and rows == columns == slice(first, last + 1)


@pytest.mark.parametrize(("steps", "length", "expected"), [(1, 3, "111111"), (2, 3, "011011"), (4, 3, "001001")])
def test_an_accumulating_trainer_clips_and_averages_where_it_steps(steps, length, expected):
    network = nn.Linear(1, 1, bias=False)
    unscaled = []
    scaler = SimpleNamespace(unscale_=lambda optimizer: unscaled.append(engine.state.iteration))
    engine = SimpleNamespace(
        accumulation_steps=steps, scaler=scaler, optimizer=None, state=SimpleNamespace(iteration=0, epoch_length=length)
    )
    average, handlers = ExponentialMovingAverage(network), []
    engine.add_event_handler = lambda event, handler: handlers.append(handler)
    GradientClipping(network, 1.0).attach(engine)
    average.attach(engine)
    clip, follow = handlers
    moved = []
    for iteration in range(1, 2 * length + 1):
        engine.state.iteration = iteration
        network.weight.grad = torch.full((1, 1), 5.0)
        clip(engine)
        assert float(network.weight.grad) == pytest.approx(1.0 if steps_now(engine) else 5.0)
        before = {name: value.clone() for name, value in average.state_dict().items()}
        nn.init.constant_(network.weight, float(iteration))
        follow(engine)
        moved.append(any(not torch.equal(before[name], value) for name, value in average.state_dict().items()))
    assert "".join(map(str, map(int, moved))) == expected
    assert unscaled == [number for number, one in enumerate(expected, 1) if one == "1"]


@pytest.fixture
def bundle(tmp_path):
    return Path(shutil.copytree(BUNDLE, tmp_path / "semisam"))


@pytest.mark.parametrize("way", ["configs/..", ".", "docs/../configs/.."])
def test_a_package_has_one_root_whatever_way_leads_to_the_bundle(bundle, tmp_path, way):
    with zipfile.ZipFile(package_bundle(bundle / way, tmp_path / "a.zip")) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"semisam"}
        assert not any(".." in name for name in archive.namelist())


@pytest.mark.parametrize("name", ["docs/secret.txt", "configs/other.json", "docs/deep/a.md"])
def test_a_link_out_of_the_bundle_is_refused(bundle, tmp_path, name):
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).symlink_to(written(tmp_path / "secret", "x"))
    with pytest.raises(ValueError, match="is a link to a file outside the bundle"):
        package_bundle(bundle, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("path", ["../a.pt", "/etc/a.pt", "models/../../a.pt", "C:\\\\a.pt", "..\\\\a.pt"])
def test_large_files_stay_in_the_bundle(bundle, path):
    entry = f'large_files:\n  - {{path: "{path}", url: u, hash_val: h, hash_type: md5}}\n'
    written(bundle / "large_files.yml", entry)
    with pytest.raises(ValueError, match="large_files.yml: .* lies outside the bundle"):
        check_bundle(bundle)
