"""A real MONAI Label server with all bundles, spoken to over HTTP. `.ci/label` runs this in its own environment."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from installed_bundles import BUNDLES, CLICKS, SAID, install, shorten
from monai.bundle import ConfigWorkflow

from weakmedsam_ext.data import write_phantoms

pytest.importorskip("monailabel", reason="MONAI Label is not installed; run .ci/label")
import requests  # noqa: E402 comes with MONAI Label

pytestmark = pytest.mark.label
NAMES = [bundle.name for bundle in BUNDLES]
WAIT = 900  # seconds; a server imports for minutes on a busy machine
TRAINED = ["semisam_la2018", "weakmedsam_msd_heart", "promptable_pretrain_2d", "promptable_pretrain_3d"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The app monaibundle with every bundle, on a study folder with five images and no label."""
    folder = tmp_path_factory.mktemp("label")
    monailabel("apps", "--download", "--name", "monaibundle", "--output", folder)
    app, studies, data = folder / "monaibundle", folder / "studies", folder / "phantoms"
    for source in BUNDLES:
        bundle = install(source, tmp_path_factory.mktemp(source.name))
        shutil.copytree(bundle.root, app / "model" / bundle.name)
        shorten(app / "model" / bundle.name)
    write_phantoms(data, num_cases=5, size=(32, 36, 8), progress=False)
    shutil.copytree(data / "imagesTr", studies)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    arguments = ["start_server", "--app", app, "--studies", studies, "--host", "127.0.0.1", "--port", port]
    arguments += ["--conf", "models", ",".join(NAMES), "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    with log.open("w") as output:
        process = subprocess.Popen(command(*arguments), stdout=output, stderr=subprocess.STDOUT, cwd=folder)
    running = SimpleNamespace(
        url=f"http://127.0.0.1:{port}", models=app / "model", studies=studies, labels=data / "labelsTr", log=log
    )
    try:
        until(lambda: process.poll() is not None or answers(running), "the server starts")
        assert process.poll() is None, log.read_text()[-6000:]
        yield running
    finally:
        process.terminate()
        process.wait(60)


def command(*arguments):
    return [sys.executable, "-m", "monailabel.main", *map(str, arguments)]


def monailabel(*arguments):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=False, timeout=WAIT)
    assert done.returncode == 0, done.stdout + done.stderr


def until(condition, what):
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {WAIT} s until {what}"
        time.sleep(1)
    return found


def answers(server):
    try:
        return requests.get(f"{server.url}/info/", timeout=WAIT).ok
    except requests.ConnectionError:
        return False


def info(server):
    answer = requests.get(f"{server.url}/info/", timeout=WAIT)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ask(server, name, params=None, **how):
    form = {"params": json.dumps({"device": "cpu", **(params or {})})}
    return requests.post(
        f"{server.url}/infer/{name}", params={"output": "image", **how.pop("query", {})}, data=form, timeout=WAIT, **how
    )


def served_mask(server, name, image, params, folder):
    answer = ask(server, name, params, query={"image": image})
    assert answer.status_code == 200, server.log.read_text()[-6000:]
    path = folder / "served.nii.gz"
    path.write_bytes(answer.content)
    return nib.load(path)


def own_mask(server, name, image, said, folder):
    """What the bundle's own inference.json writes."""
    root, path = server.models / name, server.studies / f"{image}.nii.gz"
    settings = {}
    for key, content in said.items():
        (folder / f"{key}.json").write_text(json.dumps({path.name: content}))
        settings[key] = str(folder / f"{key}.json")
    workflow = ConfigWorkflow(
        config_file=str(root / "configs" / "inference.json"),
        meta_file=str(root / "configs" / "metadata.json"),
        workflow_type="inference",
        logging_file=False,
        bundle_root=str(root),
        output_dir=str(folder / "out"),
        datalist=[str(path)],
        device="cpu",
        **settings,
    )
    workflow.initialize()
    workflow.run()
    return nib.load(folder / "out" / "predictions" / path.name)


def as_viewers_send(said):
    """Clicks under the two keys of MONAI Label's viewers."""
    clicks = said.get("clicks", ())
    return {
        key: [click[:3] for click in clicks if click[3] == label]
        for key, label in (("foreground", 1), ("background", 0))
        if clicks
    }


def assert_same(served, own):
    assert np.issubdtype(served.get_data_dtype(), np.integer)
    np.testing.assert_array_equal(np.asarray(served.dataobj), np.asarray(own.dataobj))
    np.testing.assert_allclose(served.affine, own.affine, atol=1e-3)


def test_info_names_every_bundle_with_its_labels(server):
    models = info(server)["models"]
    assert set(NAMES) <= set(models)
    assert set(models["weakmedsam_abdomenct1k"]["labels"]) == {"liver", "kidney", "spleen", "pancreas"}
    assert set(info(server)["trainers"]) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_served_masks_are_those_of_the_bundle(server, name, tmp_path):
    said = SAID.get(name, {})
    served = served_mask(server, name, "heart_001", as_viewers_send(said), tmp_path)
    own = own_mask(server, name, "heart_001", said, tmp_path)
    assert_same(served, own)
    assert 0 < (np.asarray(own.dataobj) > 0).mean() < 1


@pytest.mark.parametrize("name", sorted(SAID))
def test_background_clicks_of_a_viewer_change_the_mask(server, name, tmp_path):
    """Of a background click, the sign alone differs."""
    on, off = ([[*click[:3], label] for click in CLICKS[:1]] for label in (1, 0))
    masks = [
        np.asarray(served_mask(server, name, "heart_001", as_viewers_send({"clicks": clicks}), tmp_path).dataobj)
        for clicks in (on, [*on, [*CLICKS[1][:3], 0]], [*on, CLICKS[1]], off)
    ]
    assert (masks[1] != masks[2]).any() and (masks[0] != masks[3]).any()


@pytest.mark.parametrize("name", ["semisam_la2018", "promptable_pretrain_2d"])
def test_bad_input_is_an_error_and_the_server_goes_on(server, name, tmp_path):
    assert ask(server, name, query={"image": "nobody"}).status_code >= 400
    text = tmp_path / "text.nii.gz"
    text.write_text("this is no image")
    with text.open("rb") as file:
        assert ask(server, name, files={"file": (text.name, file)}).status_code >= 400
    # the API answers "Internal Server Error" to everything that an app raises; its log has the sentence, a moment later
    until(lambda: "is damaged or no medical volume" in server.log.read_text(), "the log says what is wrong")
    assert info(server)["models"]


def give_label(server, case):
    with (server.labels / f"{case}.nii.gz").open("rb") as file:
        answer = requests.put(
            f"{server.url}/datastore/label",
            params={"image": case, "tag": "final"},
            files={"label": (f"{case}.nii.gz", file)},
            timeout=WAIT,
        )
    assert answer.status_code == 200, answer.text


def train(server, name, max_epochs):
    request = {"max_epochs": max_epochs, "device": "cpu", "val_split": 0.3, "name": "train_01"}
    answer = requests.post(f"{server.url}/train/{name}", json=request, timeout=WAIT)
    assert answer.status_code == 200, answer.text


def training(server):
    return requests.get(f"{server.url}/train/", timeout=WAIT).json()


def weights(server, name):
    return torch.load(server.models / name / "models" / "model.pt", weights_only=True)


def differ(one, other):
    return any(not torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("name", TRAINED)
def test_train_stop_and_train_again_with_more_labels(server, name, tmp_path):
    """What was learnt before the stop stays, and the next training is of its own labels and number of epochs."""
    model = server.models / name / "models" / "model.pt"
    for case in ("heart_002", "heart_003"):
        give_label(server, case)
    start, written = weights(server, name), model.stat().st_mtime_ns
    train(server, name, max_epochs=500)
    over = ("DONE", "ERROR")
    until(lambda: model.stat().st_mtime_ns != written or training(server)["status"] in over, "an epoch ends")
    assert training(server)["status"] == "RUNNING", training(server)
    assert requests.delete(f"{server.url}/train/", timeout=WAIT).json()["status"] == "STOPPED", training(server)
    stopped = weights(server, name)
    assert differ(start, stopped)
    give_label(server, "heart_001")  # the first one is among those that are trained on, the last one validates
    train(server, name, max_epochs=1)
    task = until(lambda: (now := training(server))["status"] in over and now, "the second training ends")
    assert task["status"] == "DONE", "\n".join(map(str, task["details"]))
    assert differ(stopped, weights(server, name))
    record = json.loads(model.with_suffix(".json").read_text())["inputs"]
    assert any("heart_001" in path for path in record)
    if name.startswith("semisam"):  # nobody has labelled these two; the others do not learn from such images
        assert {Path(path).name for path in record} >= {"heart_004.nii.gz", "heart_005.nii.gz"}
    said = SAID.get(name, {})
    served = served_mask(server, name, "heart_005", as_viewers_send(said), tmp_path)
    assert_same(served, own_mask(server, name, "heart_005", said, tmp_path))
    for case in ("heart_001", "heart_002", "heart_003"):
        removed = requests.delete(f"{server.url}/datastore/label", params={"id": case, "tag": "final"}, timeout=WAIT)
        assert removed.status_code == 200, removed.text
