"""Check what a user says about label values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.utils import ensure_tuple

__all__ = ["check_class_map"]


def check_class_map(class_map: Mapping[Any, Any], setting: str = "class_map") -> None:
    """Check that classes have names and label values, none of which is 0, the background.

    Args:
        class_map: class name -> value or values in the masks.
        setting: its name, which begins the error.

    Raises:
        ValueError: when it is no dictionary, a class has no value, or a value is no whole number above 0.
    """
    if not isinstance(class_map, Mapping):
        raise ValueError(f"{setting}: expected names and values, for example {{'liver': 1}}, but got {class_map!r}.")
    for name, values in class_map.items():
        given = ensure_tuple(values)
        if not given:
            raise ValueError(
                f"{setting}: expected a label value for {name!r}, but got none; give one, or leave it out."
            )
        for value in given:
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(
                    f"{setting}: expected whole numbers above 0, but got {value!r} for {name!r}; correct the value."
                )
            if value == 0:
                raise ValueError(
                    f"{setting}: 0 is the background and no class; leave {name!r} out, or correct its value."
                )
