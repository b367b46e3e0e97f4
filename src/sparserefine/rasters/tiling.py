"""The windows that a raster is done in."""

from __future__ import annotations

from sparserefine.rasters.protocol import Window

# Pixels of a window: what is lost when a run is stopped, and read again around each.
SIDE = 2048


def tile(
    size: tuple[int, int], step: int, block: tuple[int, int], side: int = SIDE
) -> list[Window]:
    """Windows that cover a raster once, row by row.

    They are squares; of a raster whose rows are decoded whole, whole rows.

    Args:
        size: (height, width) of the raster.
        step: Windows begin at multiples of it.
        block: (height, width) of what is decoded at once.
        side: Side of a square.
    """
    side = max(side // step, 1) * step
    height, width = side, side
    if block[1] >= size[1] > side:
        width = size[1]
        height = max(side * side // width // step, 1) * step
    return [
        ((top, min(top + height, size[0])), (left, min(left + width, size[1])))
        for top in range(0, size[0], height)
        for left in range(0, size[1], width)
    ]


def widened(window: Window, margin: int, size: tuple[int, int]) -> Window:
    """A window with a margin around it, inside the raster."""
    rows, columns = (
        (max(first - margin, 0), min(last + margin, side))
        for (first, last), side in zip(window, size, strict=True)
    )
    return rows, columns


def quarters(window: Window, step: int) -> list[Window]:
    """A window in parts of about half its sides; itself where it cannot be divided."""
    spans = []
    for first, last in window:
        half = (last - first) // 2 // step * step
        spans.append([(first, first + half), (first + half, last)] if half else [(first, last)])
    return [(rows, columns) for rows in spans[0] for columns in spans[1]]
