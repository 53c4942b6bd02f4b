"""Sub-class index of every (slice, class), as clustering has found it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .io import read_json, write_json

__all__ = ["Subclasses"]

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
        """Target of the sub-class head, float32 with K*S+1 entries: 0 is "no class here", 1 + k*S + s is class k,
        cluster s.

        Args:
            case: name of the case.
            index: slice.
            class_label: 0/1 for each of the K classes.

        Raises:
            ValueError: when a visible class has no cluster, or one outside 0 to S - 1.
        """
        target = np.zeros(len(self.classes) * self.num_subclasses + 1, dtype=np.float32)
        target[0] = not class_label.any()
        clusters = self.cases.get(case, {}).get(str(index), {})
        for position in np.flatnonzero(class_label):
            name = self.classes[position]
            cluster = clusters.get(name)
            if cluster is None or cluster not in range(self.num_subclasses):
                raise ValueError(
                    f"sub-class of {name!r} in slice {index} of {case}: expected 0 to {self.num_subclasses - 1}, "
                    f"but got {cluster}; {REMEDY} with this case."
                )
            target[1 + position * self.num_subclasses + cluster] = 1
        return target

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
