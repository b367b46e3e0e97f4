"""Label maps as COCO's uncompressed run lengths, which pycocotools and most viewers read."""

from __future__ import annotations

import numpy as np
from jaxtyping import Integer


def run_lengths(labels: Integer[np.ndarray, "H W"]) -> dict[int, list[int]]:
    """The runs of each label that occurs, columns first, beginning with those that are not it.

    Args:
        labels: Label of each pixel.

    Returns:
        By label the counts of `{"size": [H, W], "counts": counts}`.
    """
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    found = {}
    for label in np.unique(values):
        runs = values == label
        edges = np.stack([starts[runs], ends[runs]], 1).ravel()
        counts = np.diff(edges, prepend=0)
        if edges[-1] < flat.size:
            counts = np.append(counts, flat.size - edges[-1])
        found[int(label)] = counts.tolist()
    return found
