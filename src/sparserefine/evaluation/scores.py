"""Scores that say where a low-resolution prediction may be wrong; higher is more suspicious.

The model selects by entropy. The other scores are baselines for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.resampling import classes_of
from sparserefine.refinement.uncertainty import MIN_PROBABILITY, entropy

SCORES = ("entropy", "margin", "max_probability", "edges", "random")
"""Names of the scores that `score_maps` computes."""

# Log-spaced thresholds of a score; 500 over five decades are 2.5 % apart.
STEPS = 500
# Cells this far from a label edge and further are told apart no more.
EDGE_REACH = 64


def margin(logits: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w"]:
    """1 minus the lead of the most likely class over the next: 0 certain, 1 undecided."""
    first, second = torch.softmax(logits, 1).topk(2, dim=1).values.unbind(1)
    return 1 - (first - second)


def max_probability(logits: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w"]:
    """1 minus the probability of the most likely class: 0 certain, 1 − 1/K undecided."""
    return 1 - torch.softmax(logits, 1).amax(1)


def edges(logits: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w"]:
    """Nearness to an edge between predicted labels: 1 at the edge, 1/(1+d) at d cells from it.

    Distances count diagonal steps as one; 0 beyond `EDGE_REACH` cells.
    """
    labels = classes_of(logits)
    at_edge = torch.zeros(labels.shape, dtype=torch.bool, device=labels.device)
    for dim in (1, 2):
        count = labels.shape[dim] - 1
        differs = labels.narrow(dim, 0, count) != labels.narrow(dim, 1, count)
        at_edge.narrow(dim, 0, count).logical_or_(differs)
        at_edge.narrow(dim, 1, count).logical_or_(differs)
    near = at_edge.float()
    score = near.clone()
    for distance in range(1, EDGE_REACH + 1):
        near = F.max_pool2d(near[:, None], 3, stride=1, padding=1)[:, 0]
        score = torch.maximum(score, near / (1 + distance))
        if bool(near.all()):
            break
    return score


def random(logits: Float[Tensor, "B K h w"], seed: int = 0) -> Float[Tensor, "B h w"]:
    """A score that knows nothing, drawn uniformly from 0..1."""
    generator = torch.Generator().manual_seed(seed)
    shape = (logits.shape[0], *logits.shape[2:])
    return torch.rand(shape, generator=generator).to(logits.device)


def score_maps(
    logits: Float[Tensor, "B K h w"], seed: int = 0
) -> dict[str, Float[Tensor, "B h w"]]:
    """All of `SCORES`, by name."""
    plain: dict[str, Callable[[Tensor], Tensor]] = {
        "entropy": entropy,
        "margin": margin,
        "max_probability": max_probability,
        "edges": edges,
    }
    return {
        **{name: score(logits) for name, score in plain.items()},
        "random": random(logits, seed),
    }


def thresholds(score: str, num_classes: int) -> Float[np.ndarray, " T"]:
    """Thresholds that a curve of a score is drawn over, ascending, exact in float32.

    0, then log-spaced from 1e-5 (the floor of the entropy) to the highest value of the score: ln K
    nats of entropy, 1 of the other ones. "random" is evenly spaced, "edges" has one per distance.

    Args:
        score: Name of the score: one of `SCORES`, or any other name for a probability.
        num_classes: Number of classes K.
    """
    if score == "random":
        edges = np.linspace(0, 1, STEPS + 1)
    elif score == "edges":
        # Between the values 1/(1+d), which rounding must not push over a threshold.
        edges = np.array([0.0, *(1 / (1.5 + d) for d in range(EDGE_REACH, -1, -1)), 1.0])
    else:
        highest = math.log(num_classes) if score == "entropy" else 1.0
        edges = np.concatenate([[0.0], np.geomspace(MIN_PROBABILITY, highest, STEPS)])
    return edges.astype(np.float32)
