"""Datasets, paired transforms and the synthetic street."""

from sparserefine.data.camvid import CamVid
from sparserefine.data.folder import ImageFolder, LabeledFolder
from sparserefine.data.layout import open_dataset
from sparserefine.data.sample import IGNORE_INDEX, Sample, content_hash
from sparserefine.data.synthetic import SyntheticStreet
from sparserefine.data.transforms import (
    Crop,
    apply_crop_image,
    apply_crop_labels,
    crop_coords,
    draw_crop,
    scaled_size,
)

__all__ = [
    "IGNORE_INDEX",
    "CamVid",
    "Crop",
    "ImageFolder",
    "LabeledFolder",
    "Sample",
    "SyntheticStreet",
    "apply_crop_image",
    "apply_crop_labels",
    "content_hash",
    "crop_coords",
    "draw_crop",
    "open_dataset",
    "scaled_size",
]
