"""The parts of the page that are written by hand, as HTML."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from sparserefine import viz
from sparserefine.app.catalog import EXAMPLES
from sparserefine.app.kept import Answer, Kept, is_alpha
from sparserefine.app.pictures import (
    View,
    data_url,
    left_picture,
    palette_of,
    right_picture,
    thumbnail,
)
from sparserefine.app.visit import Visit
from sparserefine.photos.shipped import shipped_photo

HEADER = """<header class="sr-header"><h1>sparserefine</h1>
<p>A prediction at low resolution, refined at full resolution just where it is unsure.
Nothing leaves this machine.</p></header>"""

EMPTY = """<div class="sr-empty"><p>Drop a photo, or take an example.</p>
<p>You then see the prediction before and after refinement, and two dials to turn.</p></div>"""

# Of the classes in a photo so many are named.
_NAMED = 6
_TITLES: dict[View, tuple[str, str]] = {
    "result": ("prediction, enlarged", "refined"),
    "entropy": ("photo", "entropy"),
    "selected": ("photo", "refined pixels"),
}
# The place of both sliders stands at the root of the page, so that it outlives a new picture.
_MOVE = "document.documentElement.style.setProperty('--sr-x', this.value + '%')"


def examples() -> str:
    """Buttons with the photos of the package; each says its number as it is clicked."""
    buttons = [
        f'<button type="button" data-example="{number}" title="{escape(one.model)}">'
        f'<img src="{thumbnail(shipped_photo(one.photo))}" alt="">'
        f"<span>{escape(one.caption)}</span></button>"
        for number, one in enumerate(EXAMPLES)
    ]
    return f'<div class="sr-examples">{"".join(buttons)}</div>'


def viewer(visit: Visit, view: View) -> str:
    """The photo and its detail, two pictures each with a slider between.

    Args:
        visit: What is shown, with an answer.
        view: What is compared.
    """
    kept, answer = visit.kept, visit.answer
    assert kept is not None and answer is not None
    parts = {"sr-whole": None, "sr-detail": visit.box}
    shown = []
    for kind, box in parts.items():
        key = f"{kind} {view == 'result'}"
        if key not in visit.drawn:
            visit.drawn[key] = data_url(left_picture(kept, view, box))
        pictures = visit.drawn[key], data_url(right_picture(kept, answer, view, box))
        size = kept.image.shape[:2] if box is None else box[2:]
        titles = _TITLES[view] if box is None else ("detail", "")
        shown.append(
            _compared(kind, pictures, size, titles, "" if box else _outline(visit.box, kept))
        )
    return f'<div class="sr-view">{"".join(shown)}</div>'


def _compared(
    kind: str,
    pictures: tuple[str, str],
    size: tuple[int, int],
    titles: tuple[str, str],
    more: str,
) -> str:
    (before, after), (height, width), (left, right) = pictures, size, titles
    return (
        f'<div class="sr-compare {kind}" style="--w:{width};--h:{height}">'
        f'<img src="{before}" alt="{escape(left)}" decoding="sync">'
        f'<img class="sr-after" src="{after}" alt="{escape(right)}" decoding="sync">{more}'
        f'<span class="sr-tag sr-left">{escape(left)}</span>'
        + (f'<span class="sr-tag sr-right">{escape(right)}</span>' if right else "")
        + '<i class="sr-line"></i>'
        f'<input type="range" min="0" max="100" step="0.5" value="50" oninput="{_MOVE}" '
        'aria-label="how much of the left picture is shown"></div>'
    )


def _outline(box: viz.Box, kept: Kept) -> str:
    height, width = kept.image.shape[:2]
    top, left, rows, columns = box
    sides = {
        "top": top / height, "left": left / width, "height": rows / height, "width": columns / width
    }  # fmt: skip
    style = ";".join(f"{name}:{100 * share:.2f}%" for name, share in sides.items())
    return f'<i class="sr-box" style="{style}"></i>'


def facts(visit: Visit, picture_ms: float) -> str:
    """How much was refined, how long it took, and what can be downloaded.

    Args:
        visit: What is shown, with an answer.
        picture_ms: Milliseconds of drawing it.
    """
    kept, answer = visit.kept, visit.answer
    assert kept is not None and answer is not None
    height, width = kept.image.shape[:2]
    now = answer.stages_ms | {"picture": picture_ms}
    count = int(answer.mask.sum())
    return (
        '<div class="sr-facts"><div class="sr-numbers">'
        f'<div><b id="sr-density">{100 * answer.density:.1f} %</b><span>refined: {count:,} of '
        f"{width}×{height} pixels</span></div>"
        f'<div><b id="sr-now">{sum(now.values()):.0f} ms</b><span>for these dials: {_stages(now)}'
        "</span></div>"
        f"<div><b>{sum(kept.once_ms.values()):.0f} ms</b><span>once for the photo: "
        f"{_stages(kept.once_ms)}</span></div></div>"
        f"{_classes(kept, answer)}{_downloads(visit)}</div>"
    )


def _stages(stages_ms: Mapping[str, float]) -> str:
    return ", ".join(f"{escape(name)} {ms:.0f}" for name, ms in stages_ms.items())


def _classes(kept: Kept, answer: Answer) -> str:
    """The largest classes of a photo with their colors; nothing of one foreground."""
    if is_alpha(kept):
        return ""
    palette = palette_of(kept)
    values, counts = np.unique(answer.values, return_counts=True)
    chips = []
    for index in counts.argsort()[::-1][:_NAMED]:
        value = int(values[index])
        known = 0 <= value < len(kept.class_names)
        name = kept.class_names[value] if known else f"label {value}"
        red, green, blue = palette[value] if 0 <= value < len(palette) else (128, 128, 128)
        color = f"rgb({red},{green},{blue})"
        chips.append(f'<span><i style="background:{color}"></i>{escape(name)}</span>')
    return f'<div class="sr-classes">{"".join(chips)}</div>'


def _downloads(visit: Visit) -> str:
    kept = visit.kept
    assert kept is not None
    names = ("cutout", "alpha", "labels") if is_alpha(kept) else ("labels",)
    links = [
        f'<a href="download/{visit.token}/{name}.png" download>{name.replace("cutout", "cut-out")}'
        "</a>"
        for name in names
    ]
    return f'<div class="sr-downloads"><span>Download at full size:</span>{"".join(links)}</div>'


def notice(text: str, *, bad: bool = True) -> str:
    """A sentence for the person; empty where there is nothing to say."""
    if not text:
        return ""
    kind = "sr-bad" if bad else "sr-good"
    return f'<div class="sr-notice {kind}" role="alert">{escape(text)}</div>'
