"""Results of other libraries, read as segmentations; by their fields, without importing them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from sparserefine.photos.given_array import as_array, read_array, refuse_nothing
from sparserefine.photos.given_picture import read_picture
from sparserefine.photos.given_values import GivenMask, Kind

# Outputs of the networks which pad photos to a square; SAM 2 and 3 stretch them.
PADDING_SAMS = frozenset({"SamImageSegmentationOutput", "SamHQImageSegmentationOutput"})


def read_result(given: object, *, kind: Kind | None = None) -> GivenMask | list[GivenMask] | None:
    """Read the result of a library for one photo.

    Args:
        given: Something with the fields of such a result, as attributes or as keys.
        kind: What the values mean; None: they decide.

    Returns:
        A list of masks where the library returns one for each instance or segment; one
        segmentation where it returns one; None where it is no result that is known here.

    Raises:
        ValueError: Nothing was found, the result is of several photos, or an array in it cannot
            be read; see `read_array`.
    """
    if _has(given, "pred_masks"):
        return _read_sam(given)
    if _has(given, "segments_info"):
        return _read_segments(given)
    if _has(given, "segmentation"):
        return _read_one(_get(given, "segmentation"), kind or "labels", _title(given))
    if _has(given, "masks") and _has(given, "orig_shape"):
        return _read_ultralytics(given, kind)
    if _has(given, "mask") and _has(given, "xyxy"):
        return _read_supervision(given, kind)
    if _has(given, "masks"):
        return _read_masks(given, kind)
    if _has(given, "mask"):
        return read_labelled(given, kind=kind)
    for name in ("logits", "out"):
        if _has(given, name):
            return _read_scores(_get(given, name), kind or "logits", f"{name} of {_title(given)}")
    return None


def read_labelled(given: object, *, kind: Kind | None = None) -> GivenMask:
    """Read one segment of a pipeline of transformers: its mask, label and score.

    Raises:
        ValueError: The mask cannot be read.
    """
    label, score = _get(given, "label"), _get(given, "score")
    mask = _read_one(_get(given, "mask"), kind, f"mask {label or ''}".strip())
    return replace(mask, name=str(label or ""), score=None if score is None else float(score))


def _read_sam(given: object) -> GivenMask | list[GivenMask]:
    """The best of each prompt's masks, as they are: low-resolution logits."""
    source = _title(given)
    if _get(given, "iou_scores") is None:
        raise ValueError(
            f"{source} has pred_masks without iou_scores, expected those of SAM. Pass what the "
            f"processor's post_process method returns for this photo."
        )
    masks, scores = as_array(_get(given, "pred_masks")), as_array(_get(given, "iou_scores"))
    if masks.ndim != 5 or len(masks) != 1:
        raise ValueError(
            f"{source} has pred_masks {list(masks.shape)}, expected [1, prompts, masks, h, w] of "
            f"one photo. Pass one photo's at a time."
        )
    if masks.shape[1] == 0:
        refuse_nothing(source)
    best = scores[0].argmax(axis=-1)
    padded = type(given).__name__ in PADDING_SAMS
    found = [
        replace(
            _read_one(prompt[index], "logits", source),
            score=float(score[index]),
            padded_square=padded,
        )
        for prompt, score, index in zip(masks[0], scores[0], best, strict=True)
    ]
    return found[0] if len(found) == 1 else found


def read_predicted(given: Sequence[object]) -> GivenMask | None:
    """Read what SAM's own predictors return: masks [n, H, W], scores [n], logits [n, h, w].

    Returns:
        The logits of the best answer; None where it is something else. They cover the photo padded
        to a square, or stretched to it, whichever fits the mask of the photo's size.
    """
    arrays = [as_array(one) for one in given if isinstance(one, np.ndarray | Tensor)]
    if len(given) != 3 or [array.ndim for array in arrays] != [3, 1, 3]:
        return None
    if len({len(array) for array in arrays}) > 1 or len(arrays[0]) == 0:
        return None
    masks, scores, logits = arrays
    best = int(scores.argmax())
    mask, score = _read_one(logits[best], "logits", "SAM's logits"), float(scores[best])
    (height, width), rows_columns = masks[best].shape, mask.values.shape
    rows, columns = (
        max(round(cells * side / max(height, width)), 1)
        for cells, side in zip(rows_columns, (height, width), strict=True)
    )
    padded = _agreement(masks[best], mask.values[:rows, :columns])
    stretched = _agreement(masks[best], mask.values)
    return replace(mask, score=score, padded_square=padded > stretched)


def _agreement(mask: np.ndarray, logits: np.ndarray) -> float:
    """Share of the cells whose sign is that of the mask at their centers."""
    y, x = (
        ((np.arange(cells) + 0.5) * side / cells).astype(int)
        for cells, side in zip(logits.shape, mask.shape, strict=True)
    )
    return float(((mask[np.ix_(y, x)] != 0) == (logits > 0)).mean())


def _read_segments(given: object) -> list[GivenMask]:
    """What `post_process_instance_segmentation` and its panoptic twin return."""
    source = _title(given)
    segments, segmentation = _get(given, "segments_info"), _get(given, "segmentation")
    if segmentation is None or len(segments) == 0:
        refuse_nothing(source)
    if isinstance(segmentation, list):
        raise ValueError(
            f"{source} has run lengths, expected a map of segments. Leave out "
            f"return_coco_annotation=True."
        )
    ids = as_array(segmentation)
    return [
        GivenMask(
            values=ids[index] != 0 if ids.ndim == 3 else ids == segment["id"],
            kind="mask",
            source=f"segment {segment['id']} of {source}",
            name=str(segment["label_id"]),
            score=segment.get("score"),
        )
        for index, segment in enumerate(segments)
    ]


def _read_ultralytics(given: Any, kind: Kind | None) -> list[GivenMask]:
    source = _title(given)
    if given.masks is None or len(given.masks.data) == 0:
        refuse_nothing(source)
    data = as_array(given.masks.data)
    rows, columns = _unpadded(data.shape[1:], given.orig_shape)
    names, boxes = given.names, given.boxes
    classes = [None] * len(data) if boxes is None else as_array(boxes.cls).astype(int).tolist()
    scores = [None] * len(data) if boxes is None else as_array(boxes.conf).tolist()
    return _many(
        data[:, rows, columns],
        ["" if index is None else names[index] for index in classes],
        scores,
        kind,
        source,
    )


def _unpadded(size: tuple[int, ...], photo: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a mask of (h, w) `size` that show the photo.

    Such a mask lies on what the network saw: the photo, scaled to fit and centered, with borders.
    An odd border has its larger half at the bottom or right. Masks as large as the photo have none.
    """
    scale = min(size[0] / photo[0], size[1] / photo[1])
    inside = (round(scale * photo[0]), round(scale * photo[1]))
    before = [(outer - inner) // 2 for outer, inner in zip(size, inside, strict=True)]
    rows, columns = (
        slice(start, start + length) for start, length in zip(before, inside, strict=True)
    )
    return rows, columns


def _read_supervision(given: Any, kind: Kind | None) -> list[GivenMask]:
    source = _title(given)
    if given.mask is None or len(given.mask) == 0:
        refuse_nothing(source)
    count = len(given.mask)
    names = (given.data or {}).get("class_name")
    if names is None:
        names = [""] * count if given.class_id is None else given.class_id
    scores = [None] * count if given.confidence is None else given.confidence.tolist()
    # The compact form keeps each mask's own part of the photo.
    if not hasattr(given.mask, "crop"):
        return _many(given.mask, names, scores, kind, source)
    found = _many([given.mask.crop(i) for i in range(count)], names, scores, kind, source)
    corners = np.asarray(given.mask.offsets).tolist()
    _, height, width = given.mask.shape
    return [
        replace(
            one,
            window=(int(top), int(left), *one.values.shape),
            window_of=(int(height), int(width)),
        )
        for one, (left, top) in zip(found, corners, strict=True)
    ]


def _read_masks(given: object, kind: Kind | None) -> list[GivenMask]:
    """A dict of N masks: transformers' mask generation, SAM 3, torchvision's Mask R-CNN."""
    source, masks = _title(given), _get(given, "masks")
    if masks is None or len(masks) == 0:
        refuse_nothing(source)
    labels, scores = _get(given, "labels"), _get(given, "scores")
    return _many(
        masks,
        [""] * len(masks) if labels is None else _listed(labels),
        [None] * len(masks) if scores is None else _listed(scores),
        kind,
        source,
    )


def _read_scores(scores: Any, kind: Kind, source: str) -> GivenMask:
    """What networks for K classes return for one photo, before anything is done with it."""
    # Three axes would be several photos or prompts, or no map at all.
    if scores.ndim not in (2, 4):
        raise ValueError(
            f"{source} has shape {list(scores.shape)}, expected [1, K, h, w] of one photo. Pass "
            f"what the processor's post_process method returns for it."
        )
    return _read_one(scores, kind, source)


def _many(
    masks: Iterable[Any],
    names: Iterable[object],
    scores: Iterable[float | None],
    kind: Kind | None,
    source: str,
) -> list[GivenMask]:
    return [
        replace(_read_one(mask, kind, f"mask {i} of {source}"), name=str(name), score=score)
        for i, (mask, name, score) in enumerate(zip(masks, names, scores, strict=True))
    ]


def _read_one(mask: Any, kind: Kind | None, source: str) -> GivenMask:
    if isinstance(mask, Image.Image):
        given = read_picture(mask, kind=kind, source=source)
    else:
        given = read_array(mask, kind=kind, source=source)
    if isinstance(given, list):
        raise ValueError(
            f"{source} has {len(given)} planes, expected one mask [h, w]. Choose one of them."
        )
    return given


def _listed(values: Any) -> list[Any]:
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _has(given: object, name: str) -> bool:
    return name in given if isinstance(given, Mapping) else hasattr(given, name)


def _get(given: object, name: str) -> Any:
    return given.get(name) if isinstance(given, Mapping) else getattr(given, name, None)


def _title(given: object) -> str:
    if type(given) is dict:
        return f"a dict of {', '.join(map(str, given))}"
    return f"{type(given).__module__.split('.')[0]} {type(given).__name__}"
