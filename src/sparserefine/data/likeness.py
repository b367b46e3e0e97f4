"""A look at images: which of them are label maps rather than photos, by their content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sparserefine.data.roles import Role, core_of
from sparserefine.images import ImageError
from sparserefine.images.channels import channels_in
from sparserefine.images.reading import decoded

LOOKED_AT = 2000
"""How many images are opened of a folder, evenly spread; only their headers, of most."""
DECODED = 24
MOST_VALUES = 32
"""Label maps have fewer gray values than photos."""
_ROWS = 16


def looks_like_labels(paths: Sequence[Path]) -> list[Path]:
    """Which images look like label maps: one channel, and few values.

    Args:
        paths: The images. Where there are very many, a sample of them is looked at.

    Returns:
        Those of them that were looked at and that look so.
    """
    step = max(-(-len(paths) // LOOKED_AT), 1)
    # Names that hint at labels first: a sample must not miss the few that matter.
    hinted = [path for path in paths if core_of(path.stem)[0] is Role.LABELS]
    looked = dict.fromkeys([*hinted[:LOOKED_AT], *paths[::step]])
    single = [path for path in looked if _has_one_channel(path)]
    every = max(-(-len(single) // DECODED), 1)
    return [path for path in single[::every] if _has_few_values(path)]


def _has_one_channel(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if count := channels_in(file):
                return count == 1
        with Image.open(path) as image:
            return image.mode in ("1", "L", "P", "I") or image.mode.startswith("I;16")
    except Exception:  # what cannot be opened is reported when it is read
        return False


def _has_few_values(path: Path) -> bool:
    try:
        with decoded(path) as found:  # what there is to be said of it is said when it is read
            image = found.image
            if image.mode == "P" and image.format != "PNG":  # a GIF of a photo has a palette too
                return False
            values = np.asarray(image)
            # Photos have many values in any part already.
            few = values.size > 4 * MOST_VALUES and _count(values[::_ROWS]) <= MOST_VALUES
            return few and _count(values) <= MOST_VALUES
    except ImageError:
        return False


def _count(values: np.ndarray) -> int:
    """How many different values there are, of 8 bits without sorting them."""
    if values.dtype == np.uint8:
        return int(np.count_nonzero(np.bincount(values.ravel())))
    return len(np.unique(values))
