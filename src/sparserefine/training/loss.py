"""The loss that training minimizes."""

from __future__ import annotations

from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from sparserefine.data import ignore_index
from sparserefine.refinement.output import RefinedPixels


def refinement_loss(
    pixels: RefinedPixels,
    targets: Integer[Tensor, " N"],
    teacher: Float[Tensor, "N K"] | None = None,
) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """Cross-entropy of the extractor plus that of the ensembler, over labeled selected pixels.

    It is zero, with a gradient of zero, where no selected pixel has a label.

    Args:
        pixels: The refiner's predictions.
        targets: Classes of the predicted pixels; `ignore_index(K)` does not count.
        teacher: Class probabilities of the predicted pixels. Where given, the cross-entropy is with
            these: they say more than the class, above all where the teacher is unsure itself.

    Returns:
        The loss, and its parts with the share of pixels that are right before and after.
    """
    long = targets.long()
    labeled = (long != ignore_index(pixels.dense.shape[1])).sum().clamp(min=1)
    sparse, refined = (
        _cross_entropy(logits, long, teacher) / labeled
        for logits in (pixels.sparse, pixels.refined)
    )
    loss = sparse + refined
    right_dense, right_refined = (
        (logits.argmax(1) == long).sum() / labeled for logits in (pixels.dense, pixels.refined)
    )
    parts = {
        "loss": loss.item(),
        "loss_sparse": sparse.item(),
        "loss_refined": refined.item(),
        "right_dense": right_dense.item(),
        "right_refined": right_refined.item(),
        "pixels": labeled.item(),
    }
    return loss, parts


def _cross_entropy(logits: Tensor, targets: Tensor, teacher: Tensor | None) -> Tensor:
    if teacher is not None:
        return F.cross_entropy(logits, teacher, reduction="sum")
    ignored = ignore_index(logits.shape[1])
    return F.cross_entropy(logits, targets, ignore_index=ignored, reduction="sum")
