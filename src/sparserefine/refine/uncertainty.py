"""How unsure a prediction is of each pixel."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

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
        The shape of `logits` without `dim`.

    Source: SparseRefine, arXiv:2407.19014, section 3.2; details as in the authors' code.
    """
    # The logarithm comes from log_softmax: the first torch.log of a process, when two threads make
    # it, is now and then off by some 1e-6 (MKL 2024.2), and a run is then not repeated bit by bit.
    log_probabilities = torch.log_softmax(logits, dim).clamp(min=math.log(MIN_PROBABILITY))
    return -(torch.softmax(logits, dim) * log_probabilities).sum(dim)
