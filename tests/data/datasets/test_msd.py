import hashlib
import http.server
import io
import json
import tarfile
import threading

import pytest

from weakmedsam_ext.__main__ import MSD_TASKS as COMMANDS
from weakmedsam_ext.__main__ import main
from weakmedsam_ext.data import MSD_TASKS, decathlon_cases, prepare_msd
from weakmedsam_ext.data.datasets import msd

HEART = "Task02_Heart"
LISTING = {
    "name": "LeftAtrium",
    "training": [{"image": "./imagesTr/la_003.nii.gz", "label": "./labelsTr/la_003.nii.gz"}],
}
FILES = {
    f"{HEART}/dataset.json": json.dumps(LISTING).encode(),
    f"{HEART}/imagesTr/la_003.nii.gz": b"image",
    f"{HEART}/labelsTr/la_003.nii.gz": b"label",
}


def archive(files):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


class Server(http.server.ThreadingHTTPServer):
    """Serves one tar file, and counts how often it was asked for."""

    content, requests, announced = b"", 0, None


class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(self.server.announced or len(self.server.content)))
        self.end_headers()
        self.wfile.write(self.server.content)

    def log_message(self, *arguments):
        pass


def publish(server, monkeypatch, content, md5=None):
    server.content = content
    address = f"http://127.0.0.1:{server.server_address[1]}/{HEART}.tar"
    monkeypatch.setattr(msd, "ADDRESSES", {HEART: address})
    monkeypatch.setattr(msd, "HASHES", {HEART: md5 or hashlib.md5(content).hexdigest()})


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        publish(server, monkeypatch, archive(FILES))
        yield server
        server.shutdown()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_tasks_are_those_of_monai():
    assert set(MSD_TASKS.values()) == set(msd.ADDRESSES) == set(msd.HASHES)
    assert tuple(MSD_TASKS) == COMMANDS


def test_download(server, tmp_path, capsys):
    command = ["prepare", "msd_heart", "--output", str(tmp_path / "out"), "--download"]
    assert main(command) == 0
    assert f"wrote {tmp_path / 'out' / HEART}" in capsys.readouterr().out
    (case,) = decathlon_cases(tmp_path / "out" / HEART)
    assert case["case"] == "la_003" and names(tmp_path / "out") == [HEART, f"{HEART}.tar"]
    assert main(command) == 0
    assert "is there already, nothing done" in capsys.readouterr().out
    assert server.requests == 1


def test_a_tar_file_that_is_there(server, tmp_path):
    tar = tmp_path / "heart.tar"
    tar.write_bytes(server.content)
    assert prepare_msd("msd_heart", tmp_path / "out", tar) == tmp_path / "out" / HEART
    assert len(decathlon_cases(tmp_path / "out" / HEART)) == 1 and tar.exists()
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / f"{HEART}.tar").write_bytes(server.content)
    prepare_msd("msd_heart", tmp_path / "again", download=True)
    assert server.requests == 0


def test_a_partial_tar_file_is_fetched_again(server, tmp_path, capsys):
    (tmp_path / f"{HEART}.tar").write_bytes(server.content[:700])
    prepare_msd("msd_heart", tmp_path, download=True)
    assert server.requests == 1 and (tmp_path / f"{HEART}.tar").read_bytes() == server.content


def test_a_damaged_source_is_refused_and_kept(server, tmp_path):
    tar = tmp_path / "heart.tar"
    tar.write_bytes(server.content[:700])
    with pytest.raises(ValueError, match=r"source: expected the MD5 sum .* has another.*download it again from http"):
        prepare_msd("msd_heart", tmp_path / "out", tar)
    assert tar.exists() and not (tmp_path / "out").exists()


def test_a_download_with_another_hash(server, tmp_path, monkeypatch):
    publish(server, monkeypatch, archive(FILES), md5="0" * 32)
    with pytest.raises(ValueError, match=f"expected the MD5 sum {'0' * 32}, but http.* has another; run again"):
        prepare_msd("msd_heart", tmp_path, download=True)
    assert names(tmp_path) == []


def test_a_download_that_breaks_off(server, tmp_path):
    server.announced = len(server.content) + 5
    with pytest.raises(ConnectionError, match="cannot be fetched .*run again"):
        prepare_msd("msd_heart", tmp_path, download=True)
    assert names(tmp_path) == []


def test_no_network(tmp_path, monkeypatch, server, capsys):
    address = "http://127.0.0.1:9/Task02_Heart.tar"  # nothing listens there
    monkeypatch.setattr(msd, "ADDRESSES", {HEART: address})
    assert main(["prepare", "msd_heart", "--output", str(tmp_path), "--download"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"error: download: {address} cannot be fetched") and "--source Task02_Heart.tar" in error


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({**FILES, "../outside.txt": b"x"}, ValueError, r"cannot be extracted \(Unsafe path .*outside.txt"),
        ({**FILES, "/outside.txt": b"x"}, ValueError, r"cannot be extracted \(Unsafe path"),
        ({"Task03_Liver/dataset.json": b"{}"}, ValueError, "expected an archive of the folder Task02_Heart"),
        (dict(list(FILES.items())[:2]), FileNotFoundError, r"1 files that .* are missing .*la_003"),
    ],
)
def test_archives_that_are_not_extracted(server, tmp_path, monkeypatch, files, error, message):
    publish(server, monkeypatch, archive(files))
    with pytest.raises(error, match=message):
        prepare_msd("msd_heart", tmp_path / "out", download=True)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == [f"{HEART}.tar"]


def test_no_archive_at_all(server, tmp_path, monkeypatch):
    publish(server, monkeypatch, b"<html>moved</html>" * 99)
    with pytest.raises(ValueError, match="Task02_Heart.tar cannot be extracted"):
        prepare_msd("msd_heart", tmp_path, download=True)


def test_an_interrupted_extraction_is_done_again(server, tmp_path, monkeypatch):
    def interrupted(tar, folder, **settings):
        (folder / HEART).mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(msd, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_msd("msd_heart", tmp_path, download=True)
    assert names(tmp_path) == [f"{HEART}.tar"]
    # a killed run cannot clean up
    (tmp_path / f"{HEART}.partial" / HEART).mkdir(parents=True)
    (tmp_path / f"{HEART}.partial" / HEART / "stale").write_text("")
    prepare_msd("msd_heart", tmp_path, download=True)
    assert names(tmp_path) == [HEART, f"{HEART}.tar"] and "stale" not in names(tmp_path / HEART)
    assert server.requests == 1


def test_an_incomplete_folder_is_told(tmp_path):
    (tmp_path / HEART).mkdir()
    with pytest.raises(FileNotFoundError, match="dataset.json does not exist"):
        prepare_msd("msd_heart", tmp_path, download=True)


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("msd_hart", {"download": True}, "msd_heart"),
        ("msd_heart", {}, "expected one of them, but got neither; give --download or --source TAR"),
        ("msd_heart", {"download": True, "source": "heart.tar"}, "but got both"),
        ("msd_heart", {"download": "yes"}, "download: expected True or False, but got 'yes'"),
    ],
)
def test_bad_arguments(tmp_path, task, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare_msd(task, tmp_path, **settings)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="source: .*nowhere.tar is no file; give Task02_Heart.tar"):
        prepare_msd("msd_heart", tmp_path, tmp_path / "nowhere.tar")
