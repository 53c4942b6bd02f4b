"""Names that nobody has declared are refused, with the nearest that somebody has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["check_names"]


def check_names(names: Iterable[str], known: Iterable[str], where: str) -> None:
    """Check that names are known.

    Args:
        names: what was given.
        known: what there is.
        where: what the names belong to; begins the error.

    Raises:
        ValueError: for the first unknown name; it says which known one is nearest.
    """
    known = list(known)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            advice = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(sorted(known))}."
            raise ValueError(f"{where}: there is no {name!r}; {advice}")
