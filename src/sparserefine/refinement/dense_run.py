"""A run of a dense model on images of any size."""

from __future__ import annotations

import torch
from jaxtyping import Float, Num
from torch import Tensor
from torch.nn import functional as F

from sparserefine.dense import DenseModel
from sparserefine.dense.protocol import dtype_of
from sparserefine.refinement.checks import check_own_logits
from sparserefine.refinement.dense_size import DenseSize
from sparserefine.refinement.features import as_unit_floats
from sparserefine.refinement.timing import StageTimer, stage


@torch.no_grad()
def run_dense(
    dense: DenseModel,
    images: Num[Tensor, "B 3 H W"],
    size: tuple[int, int],
    dense_size: DenseSize,
    timer: StageTimer | None = None,
) -> Float[Tensor, "B K h w"]:
    """Predict the images resized to `size`, in the precision of the model.

    The model's input is padded to the multiple it needs, by repeating the last row and column;
    the padding is cut off again.

    Args:
        dense: The model.
        images: RGB, uint8 or float in 0..1.
        size: (h, w) to run at.
        dense_size: Knows the number that the model's sides must be multiples of.
        timer: Collects the stages "resize" and "dense".

    Returns:
        Logits brought to `size`, float32.
    """
    with stage(timer, "resize"):
        # Resizing of uint8 exists on the CPU only, and rounds: floats give one answer anywhere.
        images = as_unit_floats(images)
        if tuple(images.shape[2:]) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return run_resized(dense, images, dense_size, timer)


@torch.no_grad()
def run_resized(
    dense: DenseModel,
    images: Float[Tensor, "B 3 h w"],
    dense_size: DenseSize,
    timer: StageTimer | None = None,
) -> Float[Tensor, "B K h w"]:
    """Predict images that have been resized; see `run_dense`.

    Args:
        dense: The model.
        images: RGB, float32 in 0..1.
        dense_size: Knows the number that the model's sides must be multiples of.
        timer: Collects the stages "resize" and "dense".
    """
    size = (images.shape[2], images.shape[3])
    with stage(timer, "resize"):
        padded = dense_size.padded(size)
        bottom, right = padded[0] - size[0], padded[1] - size[1]
        if bottom or right:
            images = F.pad(images, (0, right, 0, bottom), mode="replicate")
        images = images.to(dtype_of(dense))
    with stage(timer, "dense"):
        logits = dense(images)
        check_own_logits(dense, logits)
        logits = logits.float()
        if tuple(logits.shape[2:]) != padded:
            logits = F.interpolate(logits, padded, mode="bilinear", align_corners=False)
    return logits[:, :, : size[0], : size[1]]
