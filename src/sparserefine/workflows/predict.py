"""Old place of `predict` of photos, and of where their results go."""

from __future__ import annotations

import warnings

from sparserefine.photos.places import result_folders
from sparserefine.photos.predict import PredictedImage, PredictedImages, predict

__all__ = ["PredictedImage", "PredictedImages", "predict", "result_folders"]

warnings.warn(
    "sparserefine.workflows.predict is now sparserefine.photos.predict and photos.places, and will "
    "go with the next release. Use sparserefine.predict.",
    DeprecationWarning,
    stacklevel=2,
)
