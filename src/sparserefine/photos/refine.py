"""A mask that somebody has, at the full resolution of its photo."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor
from torch.nn import functional as F

from sparserefine.images import ImageLike, as_photo
from sparserefine.photos.foreground import Foreground
from sparserefine.photos.given_mask import read_mask
from sparserefine.photos.given_values import GivenMask, Kind
from sparserefine.photos.refined import Refined, RefinedInstance
from sparserefine.refinement.alpha import Method, refine_alpha
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.label_bands import LabelMethod, refine_labels
from sparserefine.refinement.mask_cell import COARSEST, cell_of, soft_masks
from sparserefine.refinement.timing import StageTimer

Fit = Literal["stretch", "pad"]

FOREGROUND_METHOD: Method = "edges"
LABEL_METHOD: LabelMethod = "guided"

# Around an instance its window reaches this share of its size farther, and some cells.
MARGIN, MARGIN_CELLS = 0.15, 4


def refine(
    image: ImageLike,
    mask: object,
    *,
    kind: Kind | None = None,
    fit: Fit | None = None,
    method: Method | None = None,
    cell: float | None = None,
    timer: StageTimer | None = None,
) -> Refined:
    """Bring a low-resolution mask or prediction to the full resolution of its photo.

    Args:
        image: The photo: a path, a Pillow image, an array or a tensor.
        mask: What a model, a program or a person made of it, at any resolution: bool, 0 and 255,
            probabilities [h, w] or [K, h, w], logits [K, h, w], labels [h, w], a file of these, or
            the results of transformers, ultralytics, supervision or SAM; see docs/refine.md.
        kind: What its numbers mean, where they do not say: "mask", "probabilities", "logits" or
            "labels".
        fit: How it lies on the photo where its proportions are others: "stretch", squashed as
            U²-Net and most models see photos, or "pad", on a square that is filled up to the right
            and below, as SAM sees them.
        method: How alpha is found, of one foreground or of each class; see `refine_alpha`. Default:
            "edges" for one foreground and for instances, which keeps a mask as fine as the photo
            that follows its edges already (`Refined.kept`); "guided" for several classes, whose
            errors are of meaning more than of edges.
        cell: Side of the cells of a hard mask in pixels of the photo: how far off its edge may be.
            Default: measured by its stairs, and 1/256 of the longer side where it has none. One
            that is given is believed: the mask is not kept.
        timer: Collects the stages.

    Raises:
        ImageError: The photo cannot be read.
        ValueError: The mask is empty or full, of other proportions than the photo, or nothing that
            can be read as a mask; or several classes are to be only enlarged.
    """
    _check_options(fit, method, cell)
    timer = timer or StageTimer()
    with timer.stage("read"):
        opened = as_photo(image)
        photo = _Photo(opened.image, opened.deep, opened.icc_profile)
        given = read_mask(mask, kind=kind)
    if isinstance(given, GivenMask):
        return _refine_one(photo, given, fit, method, cell, timer)
    return _refine_instances(photo, given, fit, method or FOREGROUND_METHOD, cell, timer)


def _check_options(fit: str | None, method: str | None, cell: float | None) -> None:
    if fit not in (None, *get_args(Fit)):
        raise ValueError(f"fit={fit!r}: expected one of {', '.join(get_args(Fit))}, or None.")
    if method not in (None, *get_args(Method)):
        raise ValueError(f"method {method!r} is unknown. Use one of {', '.join(get_args(Method))}.")
    if cell is not None and not 0 < cell < math.inf:
        raise ValueError(f"cell is {cell}, expected pixels of the photo, more than 0.")


@dataclass(frozen=True, eq=False)
class _Photo:
    image: UInt8[np.ndarray, "H W 3"]
    deep: UInt16[np.ndarray, "H W 3"] | None
    icc_profile: bytes

    @property
    def pixels(self) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
        """With all the bits that there are."""
        return self.image if self.deep is None else self.deep

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    @property
    def tensor(self) -> Tensor:
        """[1, 3, H, W]: bytes, or floats in 0..1 where there are more bits than those hold."""
        if self.deep is None:
            return torch.from_numpy(self.image).permute(2, 0, 1)[None]
        return torch.from_numpy(self.deep.astype(np.float32) / 65535).permute(2, 0, 1)[None]

    def part(self, rows: slice, columns: slice) -> _Photo:
        """A window of it."""
        deep = None if self.deep is None else np.ascontiguousarray(self.deep[rows, columns])
        return _Photo(np.ascontiguousarray(self.image[rows, columns]), deep, b"")


def _refine_one(
    photo: _Photo,
    given: GivenMask,
    fit: Fit | None,
    method: Method | None,
    cell: float | None,
    timer: StageTimer,
) -> Refined:
    if given.kind == "labels":
        return _refine_labels(photo, given, fit, _label_method(method), cell, timer)
    low = prediction_on(photo.size, given, fit)
    if low.num_classes > 2:
        found = refine_labels(
            photo.tensor, low.logits.softmax(1), method=_label_method(method), timer=timer
        )
        labels = found.labels.numpy()
        return Refined(
            image=photo.image, labels=labels, mask=found.mask.numpy(), stages_ms=timer.stages_ms
        )
    cells = _cells(low.logits.shape[2:], photo.size, cell)
    _check_foreground(low, given)
    method = method or FOREGROUND_METHOD
    matte = refine_alpha(photo.tensor, low, method=method, cell=cells, timer=timer)
    return Refined(
        image=photo.image,
        labels=(matte.alpha > 0.5).numpy().astype(np.uint8),
        mask=matte.mask.numpy(),
        foreground=Foreground(
            alpha=matte.alpha.numpy(),
            colors=matte.cleaned(photo.pixels),
            icc_profile=photo.icc_profile,
        ),
        kept=matte.kept,
        stages_ms=timer.stages_ms,
    )


def _label_method(method: Method | None) -> LabelMethod:
    if method == "bilinear":
        raise ValueError(
            'method "bilinear" merely enlarges, which for several classes needs no photo. Use one '
            f"of {', '.join(get_args(LabelMethod))}."
        )
    return method or LABEL_METHOD


def _refine_labels(
    photo: _Photo,
    given: GivenMask,
    fit: Fit | None,
    method: LabelMethod,
    cell: float | None,
    timer: StageTimer,
) -> Refined:
    """Labels as they are: 255 for "ignore" and gaps between them are classes like others."""
    values, indices = np.unique(given.values, return_inverse=True)
    labels = _laid_on(photo.size, given, fit, indices.reshape(given.values.shape))
    cells = _cells(labels.shape, photo.size, cell) or cell_of(labels)
    probabilities = soft_masks(labels, range(len(values)), cells)[None]
    found = refine_labels(photo.tensor, probabilities, given=labels, method=method, timer=timer)
    return Refined(
        image=photo.image,
        labels=values[found.labels.numpy()],
        mask=found.mask.numpy(),
        stages_ms=timer.stages_ms,
    )


def _refine_instances(
    photo: _Photo,
    given: Sequence[GivenMask],
    fit: Fit | None,
    method: Method,
    cell: float | None,
    timer: StageTimer,
) -> Refined:
    """Each instance in a window of its own, so that a small one has a grid as fine as a large one.

    Where they overlap, their alphas share what there is.
    """
    height, width = photo.size
    total, best = np.zeros((height, width), np.float32), np.zeros((height, width), np.float32)
    labels = np.zeros((height, width), np.uint16)
    mask, colors = np.zeros((height, width), bool), photo.pixels.copy()
    found = []
    for number, one in enumerate((one.laid_out_for(photo.size) for one in given), 1):
        low = prediction_on(photo.size, one, fit) if one.window is None else None
        if _is_nothing(one):
            nothing = np.zeros((1, 1), np.float32)
            found.append(RefinedInstance(window=(0, 0, 1, 1), alpha=nothing, name=one.name))
            continue
        window = one.window or _window(low, photo.size)
        rows, columns = _slices(window)
        part = photo.part(rows, columns)
        # A library that gives a window gives the mask of just that window.
        inside = (
            prediction_on(part.size, one, fit) if low is None else _part(low, window, photo.size)
        )
        cells = _cells(inside.logits.shape[2:], part.size, cell)
        matte = refine_alpha(part.tensor, inside, method=method, cell=cells, timer=timer)
        alpha = matte.alpha.numpy()
        found.append(RefinedInstance(window=window, alpha=alpha, name=one.name, kept=matte.kept))
        total[rows, columns] += alpha
        wins = (alpha > best[rows, columns]) & (alpha > 0.5)
        labels[rows, columns][wins] = number
        best[rows, columns] = np.maximum(best[rows, columns], alpha)
        mask[rows, columns] |= matte.mask.numpy()
        colors[rows, columns] = matte.cleaned(colors[rows, columns])
    shared = [_shared(one, total) for one in found]
    return Refined(
        image=photo.image,
        labels=labels,
        mask=mask,
        foreground=Foreground(
            alpha=np.minimum(total, 1), colors=colors, icc_profile=photo.icc_profile
        ),
        instances=tuple(shared),
        names=tuple(one.name for one in given),
        kept=sum(one.kept for one in found) / max(len(found), 1),
        stages_ms=timer.stages_ms,
    )


def _is_nothing(given: GivenMask) -> bool:
    """Whether an instance has no pixel: it stays empty, and the others are refined."""
    half = 0.0 if given.kind == "logits" else 0.5
    return not bool((given.values > half).any())


def prediction_on(
    size: tuple[int, int], given: GivenMask, fit: Fit | None, *, num_classes: int | None = None
) -> DensePass:
    """A given mask as a prediction whose cells cover a photo evenly.

    Args:
        size: (H, W) of the photo.
        given: The mask.
        fit: How it lies on the photo where its proportions are others; see `refine`.
        num_classes: Number of its classes; labels need it where the last may be absent.

    Raises:
        ValueError: Its proportions are others, and `fit` does not say why; or it has other classes.
    """
    values = _laid_on(size, given, fit, given.values)
    if given.kind == "logits" and values.ndim == 2:
        values = values[None]
    return DensePass.of(values, kind=given.kind, num_classes=num_classes)


def _laid_on(
    size: tuple[int, int], given: GivenMask, fit: Fit | None, values: np.ndarray
) -> Tensor:
    """The values of a mask that cover the photo; see `prediction_on`."""
    height, width = values.shape[-2:]
    # How far the proportions are off, in rows and columns of the mask; where that is larger than
    # the photo, in those of the photo.
    rows_off = abs(height - width * size[0] / size[1]) / max(height / size[0], 1)
    columns_off = abs(width - height * size[1] / size[0]) / max(width / size[1], 1)
    if fit is None and given.padded_square:
        fit = "pad"
    if fit == "pad":
        if abs(height - width) > 1:
            raise ValueError(
                f'{given.source} is {height}×{width}, expected a square for fit="pad". Give it '
                "with what it was filled up by, or leave fit out."
            )
        longer = max(size)
        rows = min(max(round(height * size[0] / longer), 1), height)
        columns = min(max(round(width * size[1] / longer), 1), width)
        values = values[..., :rows, :columns]
    elif fit is None and min(rows_off, columns_off) > 1 + 1e-6:
        raise ValueError(
            f"{given.source} is {height}×{width}, the photo {size[0]}×{size[1]}: other "
            'proportions. Give the mask of this photo, or say how it lies on it: fit="stretch" '
            '(squashed, as most models see photos) or fit="pad" (filled up to a square, as SAM).'
        )
    return torch.from_numpy(np.array(values, order="C"))  # what is given may be read-only


def _cells(
    shape: Sequence[int], size: tuple[int, int], cell: float | None
) -> tuple[float, float] | None:
    """A cell's side in pixels of the photo as (height, width) in those of a mask.

    A mask has some cells on its shorter side at least.
    """
    if cell is None:
        return None
    most = min(shape) / COARSEST
    sides = (cell * mine / theirs for mine, theirs in zip(shape, size, strict=True))
    height, width = (max(min(side, most), 1.0) for side in sides)
    return height, width


def _check_foreground(low: DensePass, given: GivenMask) -> None:
    """Refuse what has one side only; warn of what looks inverted."""
    inside = low.logits[0].argmax(0) == 1
    share = float(inside.float().mean())
    if share in (0.0, 1.0):
        side, how = ("foreground", "above") if share else ("background", "below")
        soft = "" if low.hard else f" (its probability is {how} one half everywhere)"
        raise ValueError(
            f"{given.source} is all {side}{soft}, so it has no edge to refine. Give a mask with "
            "both."
        )
    height, width = inside.shape
    border = torch.cat([inside[0], inside[-1], inside[:, 0], inside[:, -1]]).float().mean()
    middle = inside[height // 3 : -(-2 * height // 3), width // 3 : -(-2 * width // 3)]
    if border > 0.9 and float(middle.float().mean()) < 0.1:
        warnings.warn(
            f"the border of {given.source} is foreground and its middle is not. If it is inverted, "
            "give its opposite.",
            stacklevel=4,
        )


def _window(low: DensePass | None, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) in the photo of where an instance may be, and some of around."""
    assert low is not None
    maybe = low.logits.softmax(1)[0, 1] > 0.03
    bounds = []
    for axis, side in enumerate(size):
        cells = maybe.shape[axis]
        found = maybe.any(1 - axis).nonzero()[:, 0]
        first, last = (int(found[0]), int(found[-1]) + 1) if len(found) else (0, cells)
        # The cells of an enlarged mask are larger than its pixels.
        coarsest = max(cells / 256, 1)
        margin = max(MARGIN * (last - first), MARGIN_CELLS * coarsest)
        start = max(int((first - margin) * side / cells), 0)
        end = min(-int(-(last + margin) * side / cells), side)
        bounds.append((start, end - start))
    (top, height), (left, width) = bounds
    return top, left, height, width


def _part(low: DensePass, window: tuple[int, int, int, int], size: tuple[int, int]) -> DensePass:
    """A prediction's part in a window of the photo, resampled to where the window's cells lie."""
    top, left, height, width = window
    rows, columns = low.logits.shape[2] / size[0], low.logits.shape[3] / size[1]
    cells = (max(round(height * rows), 2), max(round(width * columns), 2))
    y = (top + (torch.arange(cells[0]) + 0.5) * height / cells[0]) / size[0] * 2 - 1
    x = (left + (torch.arange(cells[1]) + 0.5) * width / cells[1]) / size[1] * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    mode = "nearest" if low.hard else "bilinear"
    logits = F.grid_sample(low.logits, grid, mode, padding_mode="border", align_corners=False)
    return DensePass(logits, low.hard)


def _slices(window: tuple[int, int, int, int]) -> tuple[slice, slice]:
    top, left, height, width = window
    return slice(top, top + height), slice(left, left + width)


def _shared(one: RefinedInstance, total: Float[np.ndarray, "H W"]) -> RefinedInstance:
    alpha = one.alpha / np.maximum(total[_slices(one.window)], 1)
    return replace(one, alpha=alpha)
