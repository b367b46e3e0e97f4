"""Finding, reading and writing of images and label maps.

Everything inside the package is [H, W, 3] uint8 RGB, upright; every oddity of files ends here.
"""

from sparserefine.images.error import ImageError, ImageWarning
from sparserefine.images.finding import FoundImages, find_images, list_images
from sparserefine.images.photo import (
    ImageLike,
    Photo,
    as_photo,
    as_uint8_rgb,
    check_choices,
    open_photo,
    read_image,
)
from sparserefine.images.reading import MAX_PIXELS, decoded_image, read_labels, upright
from sparserefine.images.source import ImageSource
from sparserefine.images.suffixes import IMAGE_SUFFIXES
from sparserefine.images.writing import write_image, write_labels

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "FoundImages",
    "ImageError",
    "ImageLike",
    "ImageSource",
    "ImageWarning",
    "Photo",
    "as_photo",
    "as_uint8_rgb",
    "check_choices",
    "decoded_image",
    "find_images",
    "list_images",
    "open_photo",
    "read_image",
    "read_labels",
    "upright",
    "write_image",
    "write_labels",
]
