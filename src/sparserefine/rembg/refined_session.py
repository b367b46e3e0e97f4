"""Sessions that rembg takes for its own, with masks refined at full resolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from sparserefine.dense import DenseModel, from_rembg
from sparserefine.extras import require
from sparserefine.images import as_uint8_rgb
from sparserefine.photos.cutout import find_alpha, foreground_model
from sparserefine.refinement.alpha import Method

SHIPPED = "u2netp"
"""The model that comes with this package, so that nothing is downloaded for it."""


class RefinedSession:
    """A session for `rembg.remove`, whose masks are alpha at the full size of the photo.

    Args:
        model: A dense model of background and foreground.
        method: How alpha is found between the sure sides; see `refine_alpha`.

    Raises:
        ValueError: The model is of other than two classes.
    """

    def __init__(self, model: DenseModel, method: Method = "edges") -> None:
        self.model = foreground_model(model)
        self.method: Method = method

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        """Find the foreground of a photo.

        Args:
            img: The photo, upright; transparent parts count as white.
            args: What rembg passes on; ignored.
            kwargs: Likewise.

        Returns:
            One gray image as large as the photo.
        """
        _, matte = find_alpha(as_uint8_rgb(img), self.model, self.method, clean_colors=False)
        return [Image.fromarray(np.round(255 * matte.alpha.numpy()).astype(np.uint8))]


def session(
    name_or_session: str | DenseModel | Any = SHIPPED, method: Method = "edges"
) -> RefinedSession:
    """Make a session for `rembg.remove(image, session=…)`.

    Args:
        name_or_session: "u2netp", which comes with this package; another name of rembg's, whose
            model file rembg finds or downloads; a session of rembg; or a dense model of two
            classes.
        method: How alpha is found between the sure sides; see `refine_alpha`.

    Raises:
        ImportError: It is another name of rembg's, and rembg is not installed.
        ValueError: rembg does not know the name, or the session is none that `from_rembg` takes.
    """
    if isinstance(name_or_session, DenseModel):
        return RefinedSession(name_or_session, method)
    if name_or_session == SHIPPED:
        return RefinedSession(foreground_model(SHIPPED), method)
    if isinstance(name_or_session, str):
        name_or_session = imported_rembg().new_session(name_or_session)
    return RefinedSession(from_rembg(name_or_session), method)


def imported_rembg() -> Any:
    """The library rembg, not this package of the same name.

    Raises:
        ImportError: It is not installed, or onnxruntime is not.
    """
    require("onnxruntime", "rembg")  # without it rembg ends the process
    return require("rembg", "rembg")
