"""What a refiner returns of a batch of images, as one prediction of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.output import RefinerOutput
from sparserefine.refinement.prediction import Prediction
from sparserefine.refinement.resampling import Upsampling, cells_around
from sparserefine.refinement.timing import StageTimer

if TYPE_CHECKING:
    from sparserefine.refinement.refiner import SparseRefiner


@torch.no_grad()
def predict_images(
    model: SparseRefiner,
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    *,
    alpha: bool = False,
    timer: StageTimer | None = None,
    described: Mapping[str, Any] | None = None,
) -> list[Prediction]:
    """Segment images of one size as one batch, in evaluation mode.

    Args:
        model: The refiner.
        images: The images, all of one size.
        alpha: Find the share of the foreground in each pixel too; of models of two classes.
        timer: Collects milliseconds per stage, of the whole batch; each prediction gets its part.
        described: Description of the model. Default: without its weights.

    Raises:
        ValueError: The images differ in size, or alpha is asked for and there are other than two
            classes.
    """
    if alpha:
        check_has_alpha(model)
    if len({image.shape for image in images}) != 1:
        sizes = ", ".join(sorted({f"{image.shape[0]}×{image.shape[1]}" for image in images}))
        raise ValueError(f"a batch has images of {sizes or 'no size'}, expected one size.")
    stacked = images[0][None] if len(images) == 1 else np.stack(images)
    batch = torch.from_numpy(stacked).permute(0, 3, 1, 2).to(model.device)
    output = model.in_evaluation()(batch, timer=timer)
    return predictions_of(model, images, output, alpha=alpha, timer=timer, described=described)


def predictions_of(
    model: SparseRefiner,
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    output: RefinerOutput,
    *,
    alpha: bool = False,
    timer: StageTimer | None = None,
    described: Mapping[str, Any] | None = None,
) -> list[Prediction]:
    """One prediction of each image of a batch that was refined.

    Args:
        model: The refiner.
        images: The images.
        output: What the refiner returned of them.
        alpha: Find the share of the foreground in each pixel too; of models of two classes.
        timer: The timer of the batch.
        described: Description of the model. Default: without its weights.
    """
    described = model.describe(weights=False) if described is None else described
    alphas = foreground_shares(output, model.upsampling).cpu().numpy() if alpha else None
    stages = {} if timer is None else timer.stages_ms
    return [
        Prediction(
            image=image,
            labels=output.labels[index].cpu().numpy(),
            mask=output.mask[index].cpu().numpy(),
            entropy=output.low.entropy[index].cpu().numpy(),
            stages_ms={name: ms / len(images) for name, ms in stages.items()},
            model=described,
            class_names=model.preset.class_names,
            palette=model.preset.palette,
            alpha=None if alphas is None else alphas[index],
        )
        for index, image in enumerate(images)
    ]


def check_has_alpha(model: SparseRefiner) -> None:
    """Refuse models of other than two classes.

    Raises:
        ValueError: It has more.
    """
    if model.num_classes != 2:
        raise ValueError(
            f"alpha is asked for, but the model has {model.num_classes} classes, expected 2: "
            "background and foreground. Leave alpha out, or take labels."
        )


def foreground_shares(output: RefinerOutput, upsampling: Upsampling) -> Float[Tensor, "B H W"]:
    """Probability of the second of two classes: as refined, elsewhere as at low resolution.

    It exceeds a half exactly where the label is 1: of two classes the probability is the sigmoid of
    their logits' difference, and the difference of what is interpolated is interpolated.

    Args:
        output: What a refiner of two classes returned.
        upsampling: How the refiner brings low-resolution logits to full resolution.
    """
    size = (output.mask.shape[1], output.mask.shape[2])
    low = output.low.logits.float()
    difference = low[:, 1:] - low[:, :1]
    if upsampling == "bilinear":
        full = F.interpolate(difference, size, mode="bilinear")[:, 0]
    else:
        rows = cells_around(upsampling, low.shape[2], size[0], low.device)[0]
        columns = cells_around(upsampling, low.shape[3], size[1], low.device)[0]
        full = difference[:, 0].index_select(1, rows).index_select(2, columns)
    batch, y, x = output.pixels.coords.long().unbind(1)
    refined = output.pixels.refined
    full[batch, y, x] = refined[:, 1] - refined[:, 0]
    return full.sigmoid_()
