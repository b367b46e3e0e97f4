"""The choice of a convolution's method: the one that costs least by a small model."""

from __future__ import annotations

from typing import Literal

from sparserefine.sparse.choice import is_exact
from sparserefine.sparse.native import maps
from sparserefine.sparse.pixels import ActivePixels

Method = Literal["direct", "winograd2", "winograd4"]

# From so many channels on, skipping absent neighbors saves more than rows out of order cost.
SORTED_CHANNELS = 128


def choose_method(pixels: ActivePixels, c_in: int, c_out: int, *, gradient: bool = False) -> Method:
    """The fastest method for a submanifold convolution, or for the gradient of its weight.

    Costs are counted in MACs. What the transforms of a point cost for each channel, and gathering a
    window for each of its channels, was measured in the same unit (benchmarks/sparse_conv.py): it
    hides behind the products of many channels and outweighs them for few.
    """
    if is_exact() or len(pixels) == 0:
        return "direct"
    # A gradient is summed per thread in an array as large as the weight, which costs its pages.
    summing = 300 * c_in * c_out if gradient else 0
    # Sorted rows skip nearly all neighbors that are absent: pixels far apart have one of nine.
    skips = c_in >= SORTED_CHANNELS and not gradient
    pairs = pixels.keep(maps.count_pairs) if skips else 9 * len(pixels)
    costs: dict[Method, float] = {"direct": pairs * (c_in * c_out + 16 * c_in) + 9 * summing}
    blocks: tuple[tuple[Method, int, float], ...] = (
        ("winograd2", len(pixels.keep(maps.blocks_2x2).origins), 9),
        ("winograd4", len(pixels.keep(maps.blocks_4x4).origins), 10),
    )
    for method, count, transform in blocks:
        points = 16 if method == "winograd2" else 36
        costs[method] = points * (count * (c_in * c_out + transform * (c_in + c_out)) + summing)
    return min(costs, key=costs.__getitem__)
