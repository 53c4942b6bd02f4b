"""Choose between MONAI's handlers that send losses and metrics to an experiment tracker."""

from __future__ import annotations

import ignite.distributed as idist
from monai.utils import look_up_option, optional_import

__all__ = ["uses_tracker"]

TRACKERS = ("tensorboard", "mlflow")


def uses_tracker(chosen: str | None, name: str) -> bool:
    """Whether this process sends to a tracker; of several processes the first one does.

    Args:
        chosen: the setting: None, "tensorboard" or "mlflow".
        name: the tracker that is asked for.

    Raises:
        ImportError: when the chosen tracker's package is missing.
        ValueError: for another choice.
    """
    if chosen is None:
        return False
    look_up_option(chosen, TRACKERS)
    if not optional_import(chosen)[1]:
        raise ImportError(f'tracker: {chosen} is not installed; run `pip install "weakmedsam-ext[{chosen}]"`.')
    return chosen == name and idist.get_rank() == 0
