"""Label values of a mask as numbers of classes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_numpy, ensure_tuple

from ..data import class_numbers

__all__ = ["ClassNumbers", "ClassNumbersD", "ClassNumbersDict", "ClassNumbersd"]


class ClassNumbers(Transform):
    """Number the classes of a mask by `class_numbers`: from 1 in the order of a class map, every other value is 0.

    Values are rounded first, as slopes and exports leave whole numbers a rounding away from themselves. Where classes
    share a value, the last one has it.

    Args:
        class_map: class name -> value or values in the mask.

    Raises:
        ValueError: when a class has no value.
    """

    backend = [TransformBackends.NUMPY]

    def __init__(self, class_map: Mapping[Any, int | Sequence[int]]) -> None:
        self.class_map = dict(class_map)
        if empty := [name for name, values in class_map.items() if not ensure_tuple(values)]:
            raise ValueError(f"class_map: expected a value for each class, but got none for {empty}.")

    def __call__(self, mask: NdarrayOrTensor) -> NdarrayOrTensor:
        """Number a mask of any shape; its type is kept."""
        return convert_to_dst_type(class_numbers(np.rint(convert_to_numpy(mask)), self.class_map), mask)[0]


class ClassNumbersd(MapTransform):
    """Dictionary version of `ClassNumbers`.

    Args:
        keys: masks.
        class_map: see `ClassNumbers`.
        allow_missing_keys: do not raise when a key is missing.
    """

    backend = ClassNumbers.backend

    def __init__(
        self,
        keys: KeysCollection,
        class_map: Mapping[Any, int | Sequence[int]],
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.converter = ClassNumbers(class_map)

    def __call__(self, data: Mapping[Hashable, NdarrayOrTensor]) -> dict[Hashable, NdarrayOrTensor]:
        """Number the masks in a copy of the item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.converter(item[key])
        return item


ClassNumbersD = ClassNumbersDict = ClassNumbersd
