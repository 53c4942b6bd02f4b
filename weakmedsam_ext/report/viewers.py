"""Parts of the page that show slices: a case to scroll through, and small pictures of single slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from .case_images import CaseImages
from .findings import MISSED, Finding

__all__ = ["MAX_SLICES", "viewer", "thumbnail"]

MAX_SLICES = 40  # of a viewer
MARGIN = 2  # slices above and below what any mask shows
THUMBNAIL = 160  # pixels
SIDES = {0: ("front", "back"), 1: ("R", "L"), 2: ("R", "L")}  # left and right of a picture, by axis


def viewer(case: CaseImages, heading: str, note: str, shown: Sequence[str], names: Mapping[str, str]) -> str:
    """A case with a slider over its slices and a switch for each outline.

    Args:
        case: its layers are drawn in their order, four at most.
        heading: above the picture.
        note: below it.
        shown: layers that are switched on at first.
        names: layer -> what the reader calls it.
    """
    numbers = chosen_slices(case)
    start = numbers.index(case.start)
    frames = []
    for number in numbers:
        place = f"slice {number} ({case.num_slices} slices, counted from 0)" if case.num_slices > 1 else ""
        frames.append(_frame(case, number, case.picture(number), list(case.layers), f'data-place="{place}"'))
    frames[start] = frames[start].replace("<svg", '<svg class="on"', 1)
    switches = "".join(
        f'<label><input type="checkbox" value="{k}"{" checked" * (layer in shown)}>'
        f'<span class="swatch o{k}"></span>{escape(names.get(layer, layer))}</label>'
        for k, layer in enumerate(case.layers)
    )
    hidden = "".join(f" hide{k}" for k, layer in enumerate(case.layers) if layer not in shown)
    left, right = SIDES[case.axis] if case.has_sides else ("", "")
    single = " hidden" * (len(numbers) == 1)
    slider = f'<input type="range" min="0" max="{len(numbers) - 1}" value="{start}" aria-label="slice"{single}>'
    return (
        f'<div class="viewer{hidden}"><h3>{escape(heading)}</h3>'
        f'<div class="screen">{"".join(frames)}<span class="side left">{left}</span>'
        f'<span class="side right">{right}</span></div>{slider}'
        f'<div class="place"></div><div class="layers">{switches}</div><p class="note">{escape(note)}</p></div>'
    )


def chosen_slices(case: CaseImages) -> list[int]:
    """Slices of a viewer: where any mask has something and a little around, evenly thinned, with the fullest one."""
    others = tuple(a for a in range(3) if a != case.axis)
    filled = np.flatnonzero(np.any([(mask > 0).any(others) for mask in case.layers.values()], axis=0))
    if not filled.size:
        filled = np.array([case.start])
    first, last = max(int(filled[0]) - MARGIN, 0), min(int(filled[-1]) + MARGIN, case.num_slices - 1)
    numbers = np.linspace(first, last, min(MAX_SLICES, last - first + 1)).round().astype(int).tolist()
    nearest = min(range(len(numbers)), key=lambda k: abs(numbers[k] - case.start))
    numbers[nearest] = case.start
    return numbers


def thumbnail(case: CaseImages, finding: Finding, predicted: str) -> str:
    """A small picture of a slice on which one of reference and prediction has nothing.

    Args:
        case: with the layers "reference" and `predicted`.
        finding: of that case.
        predicted: title of the prediction.
    """
    picture = case.picture(finding.number, THUMBNAIL)
    layer = "reference" if finding.kind == MISSED else predicted
    frame = _frame(case, finding.number, picture, [layer], 'role="img"', first=0 if finding.kind == MISSED else 1)
    caption = f"{escape(finding.case)}, slice {finding.number}: {escape(finding.structure)}, {_area(finding.area)}"
    return f'<figure class="thumb">{frame}<figcaption>{caption}</figcaption></figure>'


def _frame(
    case: CaseImages, number: int, picture: str, layers: Sequence[str], attributes: str = "", first: int = 0
) -> str:
    width, height = case.size
    size = f'viewBox="0 0 {width:.1f} {height:.1f}"'
    image = f'<image href="{picture}" width="{width:.1f}" height="{height:.1f}" preserveAspectRatio="none"/>'
    paths = ""
    for place, layer in enumerate(layers, first):
        if line := case.outline(layer, number):
            paths += f'<path class="o{place}" d="{line}"/>'
    return f"<svg {size} {attributes}>{image}{paths}</svg>"


def _area(area: float) -> str:
    return f"{area / 100:.1f} cm²" if area >= 100 else f"{area:.0f} mm²"
