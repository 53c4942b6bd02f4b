"""The page in a real browser: it is drawn, its slider moves, its table sorts."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from tiny_run import CLASS_MAP, make_run

from weakmedsam_ext.report import write_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    steps, cases = make_run(folder)
    return write_report(folder / "run", steps, cases, CLASS_MAP, "A sentence.", progress=False)


def browse(page, *options):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", *options]
    profile = f"--user-data-dir={page.parent / 'profile'}"
    return subprocess.run([*command, profile, page.as_uri()], capture_output=True, text=True, timeout=60).stdout


@pytest.mark.parametrize("width", [1100, 500])
def test_it_is_drawn(page, width, tmp_path):
    browse(page, f"--screenshot={tmp_path / 'page.png'}", f"--window-size={width},3000", "--hide-scrollbars")
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert picture.shape == (3000, width, 3)
    paper = picture[0, 0]
    inked = (np.abs(picture - paper).sum(-1) > 60).mean()
    assert 0.05 < inked < 0.7
    # outlines: the orange of the predictions lies on black screens
    orange = (np.abs(picture - [255, 140, 26]).sum(-1) < 40).sum()
    assert orange > 50
    # nothing reaches beyond the right edge: a strip there is empty
    assert (np.abs(picture[:, -8:] - paper).sum(-1) <= 60).all()


def test_the_slider_shows_one_slice_and_the_table_sorts(page):
    """What a user does is done by a script at the end of the page; then the page is read back."""
    acts = """<script>
    const slider = document.querySelector(".viewer input[type=range]");
    slider.value = 0; slider.dispatchEvent(new Event("input"));
    document.querySelector(".layers input").click();
    document.querySelectorAll("table.sorts th button")[1].click();
    </script>"""
    acted = page.with_name("acted.html")
    acted.write_text(page.read_text(encoding="utf-8").replace("</body>", acts + "</body>"), encoding="utf-8")
    dom = browse(acted, "--dump-dom")
    first = dom.split('<div class="viewer ')[1]
    assert first.startswith("hide2 hide0")
    assert len(re.findall(r"<svg[^>]*class=\"on\"", first)) == 1
    assert "slice 0 (6 slices" in re.search(r'class="place">([^<]*)', first)[1]
    table = re.search(r'<table class="sorts">.*?</table>', dom, re.DOTALL)[0]
    assert re.findall(r'<td class="text">(\w+)', table) == ["bad", "fair", "good"]
    assert 'aria-sort="ascending"' in table
