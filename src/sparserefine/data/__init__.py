"""Datasets of images and labels, and the transforms that both undergo alike."""

from sparserefine.data.camvid import CamVid
from sparserefine.data.folder import ImageFolder, LabeledFolder
from sparserefine.data.layout import as_dataset, open_dataset, open_photos
from sparserefine.data.published import PUBLISHED, open_published
from sparserefine.data.sample import IGNORE_INDEX, Sample, content_hash, ignore_index
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
    "PUBLISHED",
    "CamVid",
    "Crop",
    "ImageFolder",
    "LabeledFolder",
    "Sample",
    "apply_crop_image",
    "apply_crop_labels",
    "as_dataset",
    "content_hash",
    "crop_coords",
    "draw_crop",
    "ignore_index",
    "open_dataset",
    "open_photos",
    "open_published",
    "scaled_size",
]
