from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.handlers import plot_clicks, write_click_figures
from weakmedsam_ext.metrics import ClickStep
from weakmedsam_ext.networks import build_network

pytest.importorskip("matplotlib")


def items(size, count):
    structure = torch.zeros(2, *size, dtype=torch.bool)
    structure[(0, *(slice(2, 5),) * len(size))] = True
    structure[(1, *(slice(8, 20),) * len(size))] = True
    image = torch.rand(1, *size)
    return [{"case": f"c{n}", "image": image, "structures": structure, "classes": ["s", "l"]} for n in range(count)]


@pytest.mark.parametrize(("name", "size"), [("efficient_sam_tiny", (32, 32)), ("sam_med3d_tiny", (32, 32, 32))])
def test_a_handful_of_figures_evenly_spread(name, size, tmp_path):
    network = build_network(name, img_size=32)
    paths = write_click_figures(network, items(size, 5), tmp_path, (1, 2), num_figures=3)
    assert [path.name for path in paths] == ["c0_000.png", "c2_002.png", "c4_004.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [path.name for path in paths]
    with pytest.raises(ValueError, match="items: expected at least one structure to draw, but got none"):
        write_click_figures(network, [], tmp_path)


def test_panels_say_what_they_show():
    item = items((32, 32), 1)[0]
    item["structures"] = item["structures"][1:]
    step = ClickStep(torch.tensor([[[9, 9], [1, 1]]]), torch.tensor([[1, 0]]), item["structures"].clone())
    figure = plot_clicks(item, {1: step, 5: step}, "liver")
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["image", "real mask", "1 click, IoU 1.00", "5 clicks, IoU 1.00"]
    assert "c0, liver" in figure.get_suptitle()
