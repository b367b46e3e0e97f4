"""The entropy of a prediction: how unsure it is of each pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.native.scores import as_cells, can_score, entropies

# The floor under the logarithm is the authors' and part of the published thresholds.
MIN_PROBABILITY = 1e-5


def entropy(logits: Float[Tensor, "*shape"], dim: int = 1) -> Float[Tensor, "*reduced"]:
    """Shannon entropy of softmax(logits) over `dim`, in nats.

    e = −Σ p ln max(p, 1e-5); 0 for a certain prediction, ln K for a uniform one (2.944 for
    K = 19). Not normalized.

    Args:
        logits: Class scores along `dim`.
        dim: The dimension of the classes.

    Returns:
        Entropies in nats, in the shape of `logits` without `dim`.

    Source: SparseRefine, arXiv:2407.19014, section 3.2; details as in the authors' code.
    """
    if dim == 1 and logits.ndim in (2, 4) and can_score(logits, classes=logits.shape[1]):
        cells = logits if logits.ndim == 4 else as_cells(logits)
        return entropies(cells).view(logits.shape[:1] + logits.shape[2:])
    probabilities = torch.softmax(logits, dim)
    return -(probabilities * probabilities.clamp(min=MIN_PROBABILITY).log()).sum(dim)
