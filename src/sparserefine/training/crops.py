"""Training crops: the input of the extractor and its targets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import apply_crop_image, apply_crop_labels, crop_coords, draw_crop
from sparserefine.data.jitter import jitter_colors
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.refiner import SparseRefiner
from sparserefine.refinement.resampling import sample
from sparserefine.sparse import ActivePixels
from sparserefine.training.config import TrainConfig
from sparserefine.training.teacher_cache import TeacherCache


@dataclass(frozen=True)
class Crops:
    """A batch of training crops.

    Attributes:
        images: RGB in 0..1.
        pixels: The selected pixels.
        dense: Logits of the low-resolution prediction at the selected pixels, row-major.
        targets: Classes at the selected pixels; `ignore_index(K)` does not count.
        teacher: Class probabilities at the selected pixels; None where no teacher gives any.
    """

    images: Float[Tensor, "B 3 h w"]
    pixels: ActivePixels
    dense: Float[Tensor, "N K"]
    targets: Integer[Tensor, " N"]
    teacher: Float[Tensor, "N K"] | None


def draw_crops(
    model: SparseRefiner, cache: TeacherCache, config: TrainConfig, generator: torch.Generator
) -> Crops:
    """Draw a batch of crops, augmented, with the pixels the selector picks in whole images."""
    images, masks, dense, targets, teacher = [], [], [], [], []
    for _ in range(config.batch_size):
        # Every pixel has the same chance: a photo of 8 megapixels holds ten times
        # as much to learn as one of 0.8 megapixels.
        index = int(torch.multinomial(cache.areas, 1, generator=generator))
        view = int(torch.randint(config.views, (), generator=generator))
        cached = cache.load(index, view)
        size = (cached.image.shape[1], cached.image.shape[2])
        flip = 0.5 if config.flip else 0.0
        crop = draw_crop(generator, size, config.crop_size, labels=cached.targets, flip=flip)
        # The selector sees the whole image: a pixel budget is a share of that.
        selected = model.selector(cached.low, size)[0]
        mask = apply_crop_labels(selected, crop, fill=0)  # nothing is selected in the padding
        coords = F.pad(crop_coords(crop)[mask], (1, 0)).int()  # of image 0
        images.append(apply_crop_image(cached.image, crop))
        masks.append(mask)
        dense.append(cached.low.at(coords, size, model.upsampling))
        targets.append(apply_crop_labels(cached.targets, crop)[mask])
        if cached.teacher is not None:
            teacher.append(sample(cached.teacher[None].float(), coords, size, "bilinear"))
    batch = as_unit_floats(torch.stack(images))
    if config.jitter:
        batch = jitter_colors(batch, config.jitter, generator)
    return Crops(
        images=batch.to(model.device),
        pixels=ActivePixels.from_mask(torch.stack(masks).to(model.device)),
        dense=torch.cat(dense).to(model.device),
        targets=torch.cat(targets).to(model.device),
        teacher=torch.cat(teacher).to(model.device) if teacher else None,
    )
