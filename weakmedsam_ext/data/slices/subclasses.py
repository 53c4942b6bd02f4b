"""Sub-class index of every (slice, class), found by clustering."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from ...losses import subclass_target
from ..io import read_json, write_json

__all__ = ["ReadSubclassd", "Subclasses"]

REMEDY = "run the clustering stage again"


@dataclass(frozen=True)
class Subclasses:
    """Clusters of the slices that show a class.

    Args:
        classes: names of the K classes, in the order of every K-vector.
        num_subclasses: S, clusters a class.
        cases: case -> slice, as text because JSON has no other keys -> class name -> cluster, 0 to S - 1.
    """

    classes: tuple[str, ...]
    num_subclasses: int
    cases: Mapping[str, Mapping[str, Mapping[str, int]]]

    def target(self, case: str, index: int, class_label: np.ndarray) -> np.ndarray:
        """Target of the sub-class head, float32 with K*S+1 entries.

        Entry 0 is "no class here", entry 1 + k*S + s is class k, cluster s.

        Args:
            case: name of the case.
            index: slice.
            class_label: 0/1 for each of the K classes.

        Raises:
            ValueError: when a visible class has no cluster, or one outside 0 to S - 1.
        """
        found = self.cases.get(case, {}).get(str(index), {})
        clusters = np.full(len(self.classes), -1)
        for position in np.flatnonzero(class_label):
            name = self.classes[position]
            cluster = found.get(name)
            if cluster is None or cluster not in range(self.num_subclasses):
                raise ValueError(
                    f"sub-class of {name!r} in slice {index} of {case}: expected 0 to {self.num_subclasses - 1}, "
                    f"but got {cluster}; {REMEDY} with this case."
                )
            clusters[position] = cluster
        return subclass_target(torch.from_numpy(clusters), self.num_subclasses).numpy()

    def write(self, path: str | Path) -> None:
        """Write the clusters as JSON."""
        write_json({"classes": self.classes, "num_subclasses": self.num_subclasses, "cases": self.cases}, path)

    @classmethod
    def read(cls, path: str | Path) -> Subclasses:
        """Read clusters that `write` has written.

        Raises:
            FileNotFoundError: when there is no such file.
            ValueError: when it is damaged.
        """
        content = read_json(path, REMEDY)
        try:
            return cls(tuple(content["classes"]), int(content["num_subclasses"]), dict(content["cases"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no sub-classes ({error!r}); {REMEDY}.") from error


class ReadSubclassd(Transform):
    """Add the target of the sub-class head to an item with "case", "slice" and "class_label".

    Args:
        subclasses: clusters; a file or what it holds.
        output_key: where the target goes.
    """

    def __init__(self, subclasses: Subclasses | str | Path, output_key: str = "subclass") -> None:
        self.subclasses = subclasses if isinstance(subclasses, Subclasses) else Subclasses.read(subclasses)
        self.output_key = output_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Extend a copy of an item."""
        target = self.subclasses.target(data["case"], int(data["slice"]), np.asarray(data["class_label"]))
        return {**data, self.output_key: torch.from_numpy(target)}
