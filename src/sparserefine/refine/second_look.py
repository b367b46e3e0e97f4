"""The dense model's second look: one window of an image, at full resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refine.uncertainty import entropy

# Windows begin and end at multiples of it, in pixels.
CELL = 32


class Window(NamedTuple):
    """A part of an image, in pixels; `bottom` and `right` are the first beyond it."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass(frozen=True)
class SecondLook:
    """What the dense model says of a window that it has seen at full resolution.

    Attributes:
        window: Where.
        logits: There, a column of classes per pixel.
    """

    window: Window
    logits: Float[Tensor, "K h w"]

    def write(self, rows: Float[Tensor, "N K"], coords: Int[Tensor, "N 3"]) -> None:
        """Put the logits in the rows of the pixels in the window of which they are surer.

        A window shows more detail and less of what surrounds it, so it is not always right.

        Args:
            rows: Logits of the first look, changed in place.
            coords: (batch, y, x) of the rows' pixels, all of one image.
        """
        top, left, bottom, right = self.window
        _, y, x = coords.long().unbind(1)
        seen = ((y >= top) & (y < bottom) & (x >= left) & (x < right)).nonzero().squeeze(1)
        again = self.logits[:, y[seen] - top, x[seen] - left].T.to(rows.dtype)
        surer = entropy(again) < entropy(rows[seen])
        rows[seen[surer]] = again[surer]


def richest_window(mask: Bool[Tensor, "H W"], share: float) -> Window | None:
    """Of all windows that cover about a share of an image, one with most selected pixels.

    Args:
        mask: The selected pixels.
        share: Area of the window relative to the image's, 0 to 1. It is not exceeded, but for
            images of few cells.

    Returns:
        The window; none where nothing is selected.
    """
    height, width = mask.shape
    counts = _cell_counts(mask)
    if not bool(counts.any()):
        return None
    rows, columns = counts.shape
    sums = F.pad(counts.cumsum(0).cumsum(1), (1, 0, 1, 0))
    best, found = -1, Window(0, 0, height, width)
    for tall in range(1, rows + 1):
        wide = min(int(share * rows * columns / tall), columns)
        if not wide:
            break
        inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide]
        inside = inside + sums[:-tall, :-wide]
        most = int(inside.max())
        if most > best:
            best = most
            top, left = divmod(int(inside.argmax()), inside.shape[1])
            found = Window(
                top * CELL,
                left * CELL,
                min((top + tall) * CELL, height),
                min((left + wide) * CELL, width),
            )
    return found


def _cell_counts(mask: Bool[Tensor, "H W"]) -> Int[Tensor, "rows columns"]:
    """Selected pixels per cell, on the CPU: what follows is a few hundred numbers."""
    height, width = mask.shape
    padded = F.pad(mask, (0, -width % CELL, 0, -height % CELL))
    cells = padded.unflatten(1, (-1, CELL)).unflatten(0, (-1, CELL))
    return cells.sum((1, 3)).cpu()
