"""What a data loader must give an engine: items that are ready, and batches that lack nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ignite.engine import Engine, Events
from monai.utils import CommonKeys as Keys
from monai.utils import convert_to_tensor
from torch import Tensor

__all__ = ["explain_missing_keys", "prepare_items", "prepare_pair", "tell_epochs"]

ADD = "add it to the items of the data set"


def prepare_items(data_loader: Iterable) -> None:
    """Call `prepare_items` of a loader's data set, or of those that a `ConcatDataset` joins, where they have it.

    An engine calls it when it runs, so that reading its config starts no processes.
    """
    dataset = getattr(data_loader, "dataset", None)
    for one in (dataset, *getattr(dataset, "datasets", ())):
        prepare = getattr(one, "prepare_items", None)
        if callable(prepare):
            prepare()


def tell_epochs(engine: Engine, source: Any) -> None:
    """Have an engine tell a sampler or a loader, by its `set_epoch`, the number of each epoch that starts."""
    engine.add_event_handler(Events.EPOCH_STARTED, lambda engine: source.set_epoch(engine.state.epoch))


@contextmanager
def explain_missing_keys(name: str, remedy: str) -> Iterator[None]:
    """Say in one sentence that only some items have an image or a label, which transforms and collate functions need.

    Args:
        name: argument of the engine that the items come from.
        remedy: ends the error about labels, says where they come from.

    Raises:
        ValueError: in place of a KeyError, also of one that a transform or a worker of the loader has met.
    """
    try:
        yield
    except (KeyError, RuntimeError) as error:
        key = _missing_key(error)
        if key is None:
            raise
        advice = remedy if key == Keys.LABEL else ADD
        raise ValueError(f"{name}: some items lack {key!r}, so that they make no batch; {advice}.") from error


def _missing_key(error: BaseException | None) -> str | None:
    """Image or label, where an error or what caused it says that a dictionary lacks it."""
    while error is not None:
        if isinstance(error, (KeyError, RuntimeError)):
            last = (str(error).strip().splitlines() or [""])[-1]  # of a worker's traceback
            for key in (Keys.IMAGE.value, Keys.LABEL.value):
                if last in (repr(key), f"KeyError: {key!r}") or f"Key `{key}` of transform" in str(error):
                    return key
        error = error.__cause__
    return None


def prepare_pair(
    prepare_batch: Callable, batchdata: Any, device: Any, non_blocking: bool, remedy: str, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Image and label of a batch as plain tensors on the device.

    Args:
        prepare_batch: of the engine, gives both.
        batchdata: from the data loader.
        device: see `prepare_batch`.
        non_blocking: see `prepare_batch`.
        remedy: ends the error, says where labels come from.
        kwargs: see `prepare_batch`.

    Raises:
        ValueError: when one of them is missing.
    """
    try:
        image, label = prepare_batch(batchdata, device, non_blocking, **kwargs)
    except KeyError as error:
        raise ValueError(_lacks(error.args[0], batchdata, ADD)) from error
    if label is None:
        raise ValueError(_lacks(Keys.LABEL, batchdata, remedy))
    return convert_to_tensor(image, track_meta=False), convert_to_tensor(label, track_meta=False)


def _lacks(key: Any, batchdata: Any, remedy: str) -> str:
    found = f" beside {sorted(map(str, batchdata))}" if isinstance(batchdata, Mapping) else ""
    return f"batch: {str(key)!r} is missing{found}; {remedy}."
