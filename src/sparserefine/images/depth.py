"""Values of more than 8 bits, brought to the full range of 16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

FULL = 65535
# Depths of cameras, whose values files of 16 bits hold as they are.
_DEPTHS = (8, 10, 12, 14)
# An extreme value that lies farther off than so many times the span of all others is none of them.
_GAP = 2.0
# Values of which a share may be brighter than the range that is taken for the others.
_BRIGHTEST = 0.005
# Of all 16 bits, values of so many are nearly black.
_NEARLY_BLACK = 12
# Percentiles are taken of about so many values.
_ENOUGH = 1 << 20


@dataclass(frozen=True, eq=False)
class Scaled:
    """Values at the full range of their type.

    Attributes:
        values: As many as there were.
        note: What was decided, where it could have been otherwise; empty where not.
    """

    values: UInt8[np.ndarray, "H W C"] | UInt16[np.ndarray, "H W C"]
    note: str = ""


def to_16_bits(
    samples: Shaped[np.ndarray, "H W C"],
    value_range: tuple[float, float] | None = None,
    nodata: float | None = None,
) -> Scaled:
    """Scale values to 0..65535.

    Without a range, 16-bit values keep theirs, unless they plainly are of fewer bits or so dark
    that nothing would be seen; floats in 0..1 are taken for shares of white; all others are
    scaled by their smallest and largest. A value far off all others is taken for "no data".

    Args:
        samples: Integers or floats, of any range.
        value_range: Values that become black and white; those beyond are clipped.
        nodata: Value that stands for "no data", and becomes black; NaN does so in any case.
    """
    empty = ~np.isfinite(samples) if samples.dtype.kind == "f" else np.zeros(samples.shape, bool)
    infinite = np.isposinf(samples) if samples.dtype.kind == "f" else None
    if nodata is not None and np.isfinite(nodata):
        empty |= samples == nodata
    valid = samples[~empty] if empty.any() else samples.reshape(-1)
    if not valid.size:
        return Scaled(np.zeros(samples.shape, np.uint16), "there is not one value in it")
    notes = []
    if value_range is None:
        value_range, far, note = _own_range(valid)
        if far is not None:
            notes.append(
                f"{(samples == far).mean():.1%} of its values are {far:g}, far off the others, and "
                f"are read as no data"
            )
            empty |= samples == far
        if note:
            notes.append(note)
    low, high = value_range
    scaled = (samples.astype(np.float32) - low) / np.float32(high - low or 1.0)
    scaled[empty] = 0.0
    if infinite is not None:
        scaled[infinite] = 1.0
    values = np.round(scaled.clip(0.0, 1.0) * FULL).astype(np.uint16)
    return Scaled(values, "; ".join(notes))


def _own_range(valid: np.ndarray) -> tuple[tuple[float, float], float | None, str]:
    """The range to take, a value that is no data, and what is to be said."""
    low, high = float(valid.min()), float(valid.max())
    far = _far_value(valid, low, high)
    if far is not None:
        valid = valid[valid != far]
        low, high = float(valid.min()), float(valid.max())
    if low == high == 0:
        return (0.0, float(FULL)), far, ""
    if valid.dtype.kind == "f" and low >= 0 and 0.5 < high <= 1:
        return (0.0, 1.0), far, ""
    if valid.dtype.kind == "f" or low < 0 or high > FULL:
        note = (
            f"its values are read from {low:.6g} as black to {high:.6g} as white; --range LOW,HIGH "
            f"chooses others"
        )
        return (low, high), far, note
    white, note = _white(valid, high)
    return (0.0, white), far, note


def _far_value(valid: np.ndarray, low: float, high: float) -> float | None:
    """An extreme value with a wide gap to all others."""
    for extreme, others in ((low, valid[valid > low]), (high, valid[valid < high])):
        if not others.size:
            return None
        first, last = float(others.min()), float(others.max())
        gap = first - low if extreme == low else high - last
        # Labels and masks have a few values with gaps between them.
        few = valid.dtype.kind != "f" and last - first < 16
        if not few and first < last and gap > _GAP * (last - first):
            return extreme
    return None


def _white(valid: np.ndarray, high: float) -> tuple[float, str]:
    """The value of white in integers of 0 to 65535, and what is to be said."""
    part = valid[:: max(1, valid.size // _ENOUGH)]
    almost_all = float(np.quantile(part, 1 - _BRIGHTEST))
    for top in (high, almost_all):
        depth = next((depth for depth in _DEPTHS if top < 1 << depth), None)
        if depth is None or (top < high and depth > _NEARLY_BLACK):
            continue
        reach = "reach" if top == high else "but for the brightest reach"
        note = (
            f"its values {reach} {top:.0f} of {FULL} and are read as {depth} bits; --range "
            f"0,{FULL} takes them to be as dark as that"
        )
        return float((1 << depth) - 1), note
    return float(FULL), ""
