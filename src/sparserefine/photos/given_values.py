"""A segmentation as somebody gives it, and what its numbers mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NoReturn, get_args

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from PIL import Image

from sparserefine.dense.softmax_axis import wrong_softmax

Kind = Literal["mask", "probabilities", "logits", "labels"]

# Gray values from here on are taken for gray, those below for class indices.
MOST_CLASSES = 64
# A soft mask has more gray values than this, or black and white among them.
FEW_GRAYS = 8
# Resizing in float overshoots by a rounding error; that is not worth an error.
OVERSHOOT = 1e-3
# Cubic and Lanczos filters overshoot by up to a quarter of the highest value; twice that may be.
FILTERED = 0.5
# A mask that was enlarged is so near to 0 or 1 in most places. Logits there would say that nearly
# all pixels are as likely foreground as not.
FLAT = 0.02
# Of probabilities of all classes, which bfloat16 rounds by up to 0.4 %.
SUM_TOLERANCE = 1e-2


@dataclass(frozen=True, eq=False)
class GivenMask:
    """A segmentation as somebody gives it, in its own size.

    Attributes:
        values: "mask": bool [h, w]. "probabilities" and "logits": float32, [h, w] of one
            foreground or [K, h, w] of K classes. "labels": uint8 or int64 [h, w], as given, so
            that 255 or negative ones may stand for "ignore".
        kind: What the values mean.
        source: What was given, for messages.
        name: Class or label where the library says one.
        score: How sure the library is of it, 0..1 by most; None where it does not say.
        window: (top, left, height, width) in the photo where the values cover only that part and
            all else is background; None: they cover the whole photo.
        window_of: (height, width) of the picture that the window was cut from, which may be the
            photo at another size; None: the photo as it is.
        padded_square: The values cover the photo padded at its bottom or right to a square, as
            those of SAM 1 do. Arrays do not say so: False there means "not known".
    """

    values: (
        Bool[np.ndarray, "h w"]
        | Float32[np.ndarray, "h w"]
        | Float32[np.ndarray, "K h w"]
        | UInt8[np.ndarray, "h w"]
        | Int64[np.ndarray, "h w"]
    )
    kind: Kind
    source: str
    name: str = ""
    score: float | None = None
    window: tuple[int, int, int, int] | None = None
    window_of: tuple[int, int] | None = None
    padded_square: bool = False

    def laid_out_for(self, size: tuple[int, int]) -> GivenMask:
        """Itself, or as large as the picture of its window where a photo has another (H, W)."""
        if self.window is None or self.window_of in (None, size):
            return self
        top, left, height, width = self.window
        whole = np.zeros(self.window_of, self.values.dtype)
        whole[top : top + height, left : left + width] = self.values
        return replace(self, values=whole, window=None, window_of=None)


def check_kind(kind: object) -> None:
    """Refuse what is no `Kind`.

    Raises:
        ValueError: It is none of them, nor None.
    """
    if kind is not None and kind not in get_args(Kind):
        raise ValueError(
            f"kind={kind!r}, expected one of {', '.join(get_args(Kind))}, or None. Leave it out to "
            f"let the values decide."
        )


def read_plane(
    plane: np.ndarray, *, kind: Kind | None, source: str, soft: bool = False
) -> GivenMask:
    """Say what the numbers of one plane mean.

    Args:
        plane: [h, w] of bool, integers or floats, at least one pixel.
        kind: What they mean, where somebody knows; None: the values decide.
        source: What was given, for messages.
        soft: Gray values are no labels, however few there are: an alpha channel, a JPEG.

    Raises:
        ValueError: They are not what `kind` says, or could be several things.
    """
    if plane.dtype.kind == "b":
        values, kind = _read_bool(plane, kind or "mask", source)
    elif plane.dtype.kind == "f":
        values, kind = _read_floats(plane, kind, source)
    elif plane.dtype.itemsize <= 2 and plane.dtype.kind == "u":
        values, kind = _read_gray(plane, kind, source, soft)
    else:
        values, kind = _read_integers(plane, kind, source)
    return GivenMask(values=values, kind=kind, source=source)


def read_classes(scores: np.ndarray, *, kind: Kind | None, source: str) -> GivenMask:
    """Say what the numbers of K planes of floats mean.

    Args:
        scores: [K, h, w] of floats, K at least 2.
        kind: "probabilities" or "logits"; None: the values decide.
        source: What was given, for messages.

    Raises:
        ValueError: They are not what `kind` says, or could be several things.
    """
    values, low, high = _finite_floats(scores, source)
    if wrong := wrong_softmax(values):
        raise ValueError(f"{source} has values that {wrong}.")
    if kind in ("mask", "labels"):
        raise ValueError(
            f'{source} has {len(values)} planes of floats, expected one plane for kind="{kind}". '
            f"Pass argmax over the classes, or bool for masks of their own."
        )
    within = _is_0_to_1(low, high)
    adds_up = (within or _may_be_enlarged(low, high)) and _add_up_to_1(values)
    if kind is None and (adds_up or within or _was_enlarged(values, low, high)):
        kind = "probabilities"
    if kind == "probabilities":
        clipped = _checked_probabilities(values, low, high, source)
        if not adds_up:
            total = values.sum(axis=0)
            raise ValueError(
                f"{source} has {len(values)} planes which add up to {total.min():.3g} to "
                f"{total.max():.3g}, expected 1 in probabilities of classes. Pass a list of [h, w] "
                f'for masks of their own, or kind="logits" for scores.'
            )
        if not within:
            clipped /= clipped.sum(axis=0)
        return GivenMask(values=clipped, kind="probabilities", source=source)
    if kind is None and len(values) in (3, 4) and low >= 0 and (values == np.rint(values)).all():
        raise ValueError(
            f"{source} has whole numbers from {low:g} to {high:g} in {len(values)} planes, which "
            f"look like colors, expected a mask. Pass one plane, or the scores of the classes."
        )
    if adds_up:
        raise ValueError(
            f"{source} has {len(values)} planes which add up to 1, as probabilities of classes do, "
            f'expected logits. Pass kind="probabilities", or leave kind out.'
        )
    return GivenMask(values=values, kind="logits", source=source)


def _read_bool(plane: np.ndarray, kind: Kind, source: str) -> tuple[np.ndarray, Kind]:
    if kind == "logits":
        _refuse_kind(kind, source, "bool", "floats")
    kinds = {"mask": np.bool_, "labels": np.uint8, "probabilities": np.float32}
    return plane.astype(kinds[kind], copy=False), kind


def _read_gray(
    plane: np.ndarray, kind: Kind | None, source: str, soft: bool
) -> tuple[np.ndarray, Kind]:
    full = int(np.iinfo(plane.dtype).max)
    found = np.flatnonzero(gray_counts(plane))
    kind = kind or _kind_of_gray(found, full, soft)
    if kind is None:
        raise ValueError(
            f"{source} has gray values {_few(found)}, expected 0 and {full} in a mask, up to "
            f"{full} in a soft one, or labels below {MOST_CLASSES}. Say which it is with "
            f'kind="mask", "probabilities" or "labels".'
        )
    if kind == "logits":
        _refuse_kind(kind, source, str(plane.dtype), "floats")
    if kind == "mask":
        if found.size > 2 or (found.size == 2 and found[0]):
            _refuse_kind(kind, source, _few(found), "0 and one other value")
        return plane != 0, kind
    if kind == "labels":
        return (plane if plane.dtype == np.uint8 else plane.astype(np.int64)), kind
    return plane.astype(np.float32) / np.float32(full), kind


def gray_counts(plane: np.ndarray) -> np.ndarray:
    """Number of pixels of each value of a uint8 or uint16 plane."""
    if plane.dtype == np.uint8:
        # 20 times as fast as numpy.
        return np.array(Image.fromarray(plane).histogram())
    return np.bincount(plane.ravel(), minlength=np.iinfo(plane.dtype).max + 1)


def _kind_of_gray(found: np.ndarray, full: int, soft: bool) -> Kind | None:
    """What gray values mean, given those that occur, ascending; None: there is no telling."""
    top = int(found[-1])
    both_ends = found[0] == 0 and top == full
    if (found.size == 1 and top == full) or (found.size == 2 and both_ends):
        return "mask"
    if soft:
        return "probabilities"
    if top <= 1:
        return "mask"
    if top < MOST_CLASSES:
        return "labels"
    # Small numbers beside the largest one are classes and "ignore", or a mask with some dirt.
    only_small = not ((found >= MOST_CLASSES) & (found < full)).any()
    # Where nothing is foreground, numbers may be those of many instances.
    faint = top <= full // 2
    if only_small or faint or (found.size <= FEW_GRAYS and not both_ends):
        return None
    return "probabilities"


def _read_integers(plane: np.ndarray, kind: Kind | None, source: str) -> tuple[np.ndarray, Kind]:
    low, high = int(plane.min()), int(plane.max())
    two_values = low >= 0 and bool(((plane == 0) | (plane == high)).all())
    if kind is None:
        kind = "mask" if two_values and high in (0, 1, 255) else "labels"
    if kind == "mask":
        if not two_values:
            _refuse_kind(kind, source, f"{low} to {high}", "0 and one other value")
        return plane != 0, kind
    if kind == "labels":
        return plane.astype(np.int64, copy=False), kind
    _refuse_kind(kind, source, str(plane.dtype), "floats")


def _read_floats(plane: np.ndarray, kind: Kind | None, source: str) -> tuple[np.ndarray, Kind]:
    values, low, high = _finite_floats(plane, source)
    if wrong := wrong_softmax(values):
        raise ValueError(f"{source} has values that {wrong}.")
    two_values = low >= 0 and bool(((values == 0) | (values == high)).all())
    if kind is None:
        kind = _kind_of_floats(values, low, high, two_values)
    if kind is None and low < 0:
        raise ValueError(
            f"{source} has floats from {low:.4g} to {high:.4g}, expected 0 to 1 for probabilities, "
            f'or logits beyond. Say which with kind: "probabilities" where a filter overshot in '
            f'enlarging them, or "logits".'
        )
    if kind is None:
        raise ValueError(
            f"{source} has floats from {low:.4g} to {high:.4g}, expected 0 to 1 for probabilities, "
            f'or logits, some of them negative. Divide by 255, or pass kind="labels" or "logits".'
        )
    if kind == "mask":
        if not two_values:
            _refuse_kind(kind, source, f"{low:.4g} to {high:.4g}", "0 and one other value")
        return values != 0, kind
    if kind == "labels":
        if not (values == np.rint(values)).all():
            _refuse_kind(kind, source, "fractions", "whole numbers")
        return values.astype(np.int64), kind
    if kind == "probabilities":
        return _checked_probabilities(values, low, high, source), kind
    return values, kind


def _kind_of_floats(values: np.ndarray, low: float, high: float, two_values: bool) -> Kind | None:
    if _is_0_to_1(low, high):
        return "mask" if two_values and high in (0, 1) else "probabilities"
    if _was_enlarged(values, low, high):
        return "probabilities"
    # Logits without a negative one have no background: rather gray values or labels as floats. And
    # logits that a filter could have made of probabilities are asked about.
    return None if low >= 0 or _may_be_enlarged(low, high) else "logits"


def _is_0_to_1(low: float, high: float) -> bool:
    return low >= -OVERSHOOT and high <= 1 + OVERSHOOT


def _may_be_enlarged(low: float, high: float) -> bool:
    """Whether a filter that enlarged probabilities may have left this range."""
    return low >= -FILTERED * high and high <= 1 + FILTERED


def _was_enlarged(values: np.ndarray, low: float, high: float) -> bool:
    """Whether these can be nothing but probabilities that a filter enlarged."""
    if not (low < 0 and high >= 1 and _may_be_enlarged(low, high)):
        return False
    flat = np.abs(np.abs(values - 0.5) - 0.5) < FLAT
    return bool(np.count_nonzero(flat) > values.size / 2)


def _add_up_to_1(values: np.ndarray) -> bool:
    return bool(abs(values.sum(axis=0) - 1).max() <= SUM_TOLERANCE)


def _finite_floats(values: np.ndarray, source: str) -> tuple[np.ndarray, float, float]:
    """As float32, with the least and the greatest."""
    # What float32 cannot hold becomes infinite, and is refused below.
    with np.errstate(over="ignore"):
        values = values.astype(np.float32, copy=False)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        count = values.size - np.count_nonzero(np.isfinite(values))
        raise ValueError(
            f"{source} has {count} values of {values.size} that are NaN or infinite, expected "
            f"finite numbers. Look at the model that made them, or use numpy.nan_to_num."
        )
    return values, low, high


def _checked_probabilities(values: np.ndarray, low: float, high: float, source: str) -> np.ndarray:
    if not (_is_0_to_1(low, high) or _may_be_enlarged(low, high)):
        _refuse_kind("probabilities", source, f"{low:.4g} to {high:.4g}", "0 to 1")
    return values if low >= 0 and high <= 1 else values.clip(0, 1)


def _few(found: np.ndarray) -> str:
    if found.size <= FEW_GRAYS:
        return ", ".join(map(str, found))
    return f"{found[0]} to {found[-1]}"


def _refuse_kind(kind: Kind, source: str, got: str, expected: str) -> NoReturn:
    raise ValueError(
        f'{source} has {got}, expected {expected} for kind="{kind}". Pass another kind, or convert '
        f"the values."
    )
