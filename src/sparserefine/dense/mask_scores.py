"""Class probabilities per pixel from the masks and class scores of mask classification models.

Source: Cheng et al. 2021, arXiv:2107.06278 (the sum over masks); SparseRefine, arXiv:2407.19014
(the logarithm, so that softmax gives the normalized scores back).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SMALLEST = 1e-10
# Elements of upsampled masks that are held at once: 64 MiB.
CHUNK = 2**24


def log_scores(
    class_logits: Float[Tensor, "B Q K1"],
    mask_logits: Float[Tensor, "B Q h w"],
    size: tuple[int, int],
    chunk: int = CHUNK,
) -> Float[Tensor, "B K H W"]:
    """Logits whose softmax are the normalized class scores of each pixel.

    The score of class c is the sum over masks of softmax(class)_c · sigmoid(mask). The scores of a
    pixel do not sum to one, so softmax of the scores themselves would be nearly uniform, and every
    pixel uncertain. Masks are upsampled before the sigmoid, a few rows at a time: all of them at
    full size are never held.

    Args:
        class_logits: Class logits of each mask; the last class means "no object".
        mask_logits: Logits of each mask at the model's own resolution.
        size: (H, W) of the result.
        chunk: Elements of upsampled masks to hold at once.

    Returns:
        float32 `log(clip(score, 1e-10))`, with K = K1 - 1 classes.
    """
    batch, queries = mask_logits.shape[:2]
    classes = class_logits.float().softmax(2)[..., :-1].transpose(1, 2)
    rows_at_once = max(chunk // (batch * queries * size[1]), 1)
    parts = []
    for start in range(0, size[0], rows_at_once):
        stop = min(start + rows_at_once, size[0])
        masks = _upsampled_rows(mask_logits, start, stop, size).sigmoid_()
        scores = classes @ masks.flatten(2)
        parts.append(scores.view(batch, -1, stop - start, size[1]))
    return as_log(torch.cat(parts, 2))


def as_log(scores: Float[Tensor, "B K h w"]) -> Float[Tensor, "B K h w"]:
    """`log(clip(scores, 1e-10))` in float32."""
    return scores.float().clamp(min=SMALLEST).log()


def _upsampled_rows(maps: Tensor, start: int, stop: int, size: tuple[int, int]) -> Tensor:
    """Rows start to stop of the maps brought bilinearly to `size`, in float32."""
    height = maps.shape[2]
    at = torch.arange(start, stop, device=maps.device, dtype=torch.float32)
    at = ((at + 0.5) * (height / size[0]) - 0.5).clamp(0, height - 1)
    above = at.long()
    below = (above + 1).clamp(max=height - 1)
    share = (at - above)[:, None]
    rows = torch.lerp(maps[:, :, above].float(), maps[:, :, below].float(), share)
    return F.interpolate(rows, (stop - start, size[1]), mode="bilinear", align_corners=False)
