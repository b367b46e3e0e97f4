"""The part of a scaled image that a crop shows, without scaling the rest."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data.transforms import Crop, scaled_size


def crop_window(image: UInt8[Tensor, "3 H W"], crop: Crop) -> UInt8[Tensor, "3 height width"]:
    """Scale (bilinear, antialiased), crop and flip; padding is 0.

    The same as `apply_crop_image` to a level of rounding, in time that grows with the crop alone.

    Args:
        image: RGB.
        crop: The crop to make.
    """
    size = (image.shape[1], image.shape[2])
    height, width = scaled_size(size, crop.scale)
    rows = max(min(crop.height, height - crop.top), 0)
    columns = max(min(crop.width, width - crop.left), 0)
    if (height, width) == size or not rows or not columns:
        window = image[:, crop.top : crop.top + rows, crop.left : crop.left + columns]
    else:
        down, y = _cut(size[0], height, crop.top, rows)
        across, x = _cut(size[1], width, crop.left, columns)
        part = image[:, y, x].permute(1, 2, 0).contiguous().numpy()
        box = (across[0], down[0], across[1], down[1])
        resized = Image.fromarray(part).resize((columns, rows), Image.Resampling.BILINEAR, box)
        window = torch.from_numpy(np.array(resized)).permute(2, 0, 1)
    window = F.pad(window, (0, crop.width - columns, 0, crop.height - rows))
    return (window.flip(-1) if crop.flipped else window).contiguous()


def _cut(length: int, scaled: int, start: int, count: int) -> tuple[tuple[float, float], slice]:
    """What of an image some scaled pixels show along one side, and the pixels to read for that.

    Pillow reads beyond the box what its filter needs, so that the ends of the box are no borders.

    Returns:
        The ends of the box within the pixels to read, and these.
    """
    step = length / scaled
    first, last = start * step, min((start + count) * step, length)
    reach = math.ceil(max(step, 1)) + 1
    low, high = max(math.floor(first) - reach, 0), min(math.ceil(last) + reach, length)
    return (first - low, last - low), slice(low, high)
