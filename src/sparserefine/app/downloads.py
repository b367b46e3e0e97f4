"""What can be downloaded of a visit, as the bytes of a PNG."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import numpy as np

from sparserefine.app.kept import Answer, KeptBand, is_alpha
from sparserefine.app.pictures import palette_of
from sparserefine.app.visit import PageError, Visit
from sparserefine.images import write_labels
from sparserefine.images.stamp import png_stamp
from sparserefine.photos.foreground import Foreground

Output = Literal["cutout", "alpha", "labels"]


def png(visit: Visit, output: str) -> bytes:
    """A result at the photo's full size.

    Args:
        visit: What it is of.
        output: "cutout", "alpha" or "labels".

    Raises:
        PageError: There is no such result.
    """
    kept, answer = visit.kept, visit.answer
    if kept is None or answer is None:
        raise PageError("The photo is no longer here. Drop it again.")
    if output not in get_args(Output) or (output != "labels" and not is_alpha(kept)):
        raise PageError(f"There is no {output} of this photo.")
    with TemporaryDirectory() as folder:
        path = Path(folder) / "result.png"
        if output == "labels":
            labels = answer.values
            if is_alpha(kept):
                labels = (labels > 0.5).astype(np.uint8)
            write_labels(
                labels, palette_of(kept) if not is_alpha(kept) else _TWO, path, text=png_stamp()
            )
        else:
            assert isinstance(kept, KeptBand)
            _foreground(kept, answer).save(path, alpha_only=output == "alpha")
        return path.read_bytes()


_TWO = np.array([(0, 0, 0), (255, 255, 255)], np.uint8)


def file_name(visit: Visit, output: str) -> str:
    """What a download is called: after the photo, in plain letters."""
    stem = Path(visit.photo_name).stem
    plain = "".join(
        one if one.isascii() and (one.isalnum() or one in "-_") else "_" for one in stem
    )
    return f"{plain or 'photo'}_{output}.png"


def _foreground(kept: KeptBand, answer: Answer) -> Foreground:
    assert kept.colors is not None
    colors = kept.colors
    if not answer.mask[kept.band].all():  # what was not refined keeps the colors of the photo
        image = kept.image if colors.dtype == np.uint8 else kept.image.astype(np.uint16) * 257
        left = (kept.band & ~answer.mask)[..., None]
        colors = np.where(left, image, colors)
    return Foreground(alpha=answer.values, colors=colors, icc_profile=kept.icc_profile)
