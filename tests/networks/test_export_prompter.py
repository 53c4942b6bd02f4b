from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import ClickNet, Prompter, build_network, exported_encoder_and_decoder

CLICKS = 3


def small_click_net(dims):
    torch.manual_seed(0)
    return ClickNet(dims, img_size=32 if dims == 2 else 16, channels=(8, 16, 16), widths=(8, 8, 16), key_dim=8)


NETWORKS = {
    "click_net_2d": (lambda: build_network("click_net_2d"), (128, 96)),
    "small_click_net_3d": (lambda: small_click_net(3), (16, 24, 8)),
    "samus_small": (lambda: build_network("samus_small", img_size=32), (32, 32)),
    "efficient_sam_tiny": (lambda: build_network("efficient_sam_tiny", img_size=32), (32, 32)),
    "sam_med3d_tiny": (lambda: build_network("sam_med3d_tiny", img_size=32), (32, 32, 32)),
}


def prompts(size, labels):
    points = (torch.rand(2, 1, CLICKS, len(size)) * torch.tensor(size)).floor()
    return points, torch.tensor(labels).expand(2, 1, CLICKS).contiguous()


@pytest.mark.parametrize(
    ("name", "multimask"),
    [
        ("click_net_2d", False),
        pytest.param("click_net_2d", True, marks=pytest.mark.slow),
        *(pytest.param(name, name == "samus_small", marks=pytest.mark.slow) for name in list(NETWORKS)[1:]),
    ],
)
@torch.no_grad()
def test_saved_programs_answer_other_images_and_clicks_as_the_network_does(name, multimask, tmp_path):
    torch.manual_seed(0)
    make, size = NETWORKS[name]
    network = make().eval()
    programs = exported_encoder_and_decoder(network, torch.rand(2, 1, *size), CLICKS, multimask)
    loaded = []
    for number, program in enumerate(programs):
        torch.export.save(program, tmp_path / f"{number}.pt2")
        loaded.append(torch.export.load(tmp_path / f"{number}.pt2").module())
    encode, answer = loaded
    prompter, image = Prompter(network), torch.rand(2, 1, *size)
    embedding = prompter.encode(image)
    torch.testing.assert_close(encode(image), embedding, rtol=0, atol=1e-5)
    rows = [[1, 1, 1]] if not prompter.takes_background_clicks else [[1, 1, 1], [1, 0, 1], [1, 0, -1]]
    masks = []
    for labels in rows:
        clicks = prompts(size, labels)
        wanted = prompter.answer(embedding, *clicks, multimask)
        for got, want in zip(answer(embedding, *clicks), wanted, strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-4)
        masks.append(wanted[0])
    # other clicks, other answers: a program that had kept the example's would fail above
    assert all(not torch.equal(masks[0], other) for other in masks[1:])


@torch.no_grad()
def test_padding_stands_for_fewer_clicks():
    network, size = small_click_net(2).eval(), (32, 32)
    _, decoder = exported_encoder_and_decoder(network, torch.rand(2, 1, *size), CLICKS)
    points, labels = prompts(size, [1, -1, -1])
    embedding = Prompter(network).encode(torch.rand(2, 1, *size))
    got = decoder.module()(embedding, points, labels)
    for one, other in zip(got, Prompter(network).answer(embedding, points[:, :, :1], labels[:, :, :1]), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="num_clicks: expected a positive number, but got 0"):
        exported_encoder_and_decoder(small_click_net(2), torch.rand(1, 1, 32, 32), 0)
    with pytest.raises(ValueError, match="image: expected finite values"):
        exported_encoder_and_decoder(small_click_net(2), torch.full((1, 1, 32, 32), torch.nan), 1)
