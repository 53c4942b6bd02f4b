"""Channels of an encoder's features are dropped for one pass of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .thin_vnet import ThinVNet

__all__ = ["dropped_features"]


@contextmanager
def dropped_features(network: nn.Module, rate: float = 0.5) -> Iterator[None]:
    """Drop channels of what an encoder gives its decoder, at every level, as the feature stream of UniMatch does.

    The encoder itself sees all channels: what a level passes to the next one is whole. Drawn by PyTorch's generator, an
    own choice for every image and level, the others scaled by 1 / (1 - rate).

    Args:
        network: MONAI's `BasicUNet` or a `ThinVNet`, also under DistributedDataParallel.
        rate: part of the channels that are dropped.

    Raises:
        ValueError: when the network is of another kind.

    Example:
        >>> with dropped_features(network):
        ...     logits = network(image)
    """

    def drop(features: Tensor) -> Tensor:
        return F.dropout3d(features, rate) if features.ndim == 5 else F.dropout2d(features, rate)

    def deepest(module: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return drop(given[0]), drop(given[1])

    def skip(module: nn.Module, given: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        return given[0], drop(given[1])

    def output(module: nn.Module, given: Any, features: Tensor) -> Tensor:
        return drop(features)

    inner = network.module if isinstance(network, DistributedDataParallel) else network
    if isinstance(inner, BasicUNet):
        handles = [inner.upcat_4.register_forward_pre_hook(deepest)]
        handles += [level.register_forward_pre_hook(skip) for level in (inner.upcat_3, inner.upcat_2, inner.upcat_1)]
    elif isinstance(inner, ThinVNet):
        handles = [layer.register_forward_hook(output) for layer in inner.encoder_outputs()]
    else:
        raise ValueError(
            f"network: features of {type(inner).__name__} cannot be dropped; take a BasicUNet ('unet') or a ThinVNet."
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
