"""Ensemblers, which make one prediction of the dense and the sparse prediction of a pixel."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refinement.uncertainty import entropy
from sparserefine.sparse.native.scores import MOST_CLASSES, can_score, fused

# Rows taken at a time: what they need stays in the cache, and a 30-megapixel image does not need
# gigabytes of hidden activations.
CHUNK_ROWS = 1 << 14
# Of fewer rows BLAS takes other sums, and what a pixel gets would depend on how many others there
# are (dev/LOG.md).
LEAST_ROWS = 1024
# On an accelerator starting the kernels for so few rows takes longer than running them.
CHUNK_ROWS_ACCELERATOR = 1 << 18


def average(dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """The logarithm of the mean of both probabilities."""
    return (0.5 * (dense.softmax(1) + sparse.softmax(1))).clamp(min=1e-10).log()


def lower_entropy(
    dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]
) -> Float[Tensor, "N K"]:
    """The logits of whichever prediction of a pixel is surer."""
    surer = entropy(sparse) < entropy(dense)
    return torch.where(surer[:, None], sparse, dense)


class GatedEnsembler(nn.Module):
    """Weighs the two predictions of each pixel, mixes their logits, and corrects the mixture.

    w = softmax(gate([p1, e1, p2, e2])), mixture = w1 · l1 + w2 · l2, y = mixture + fuser(mixture),
    with l the logits, p their softmax and e the entropy of p. One weight per pixel serves all
    classes. 5,269 parameters at 19 classes.

    Args:
        num_classes: Number of classes K.
        hidden: Width of both two-layer perceptrons.
        residual: Add the mixture to the fuser's output, whose last layer starts at zero, so that
            training starts from the plain mixture. False is what the authors' code does.

    Source: SparseRefine, arXiv:2407.19014, section 3.4; details as in the authors' code.
    """

    def __init__(self, num_classes: int, *, hidden: int = 64, residual: bool = True) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.hidden = hidden
        self.residual = residual
        self.gate = nn.Sequential(
            nn.Linear(2 * (num_classes + 1), hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )
        self.fuser = nn.Sequential(
            nn.Linear(num_classes, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )
        if residual:
            last = self.fuser[2]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "gated", "hidden": self.hidden, "residual": self.residual}

    def forward(
        self, dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """Combine logits of the dense model with logits of the extractor."""
        gate, fuser = _layers(self.gate), _layers(self.fuser)
        hidden = max(gate[0].out_features, fuser[0].out_features)
        given = (dense, sparse, *self.parameters())
        if self.num_classes <= MOST_CLASSES and can_score(*given, classes=hidden):
            return fused(dense, sparse, gate, fuser, self.residual)
        chunks = zip(_chunks(dense), _chunks(sparse), strict=True)
        return torch.cat([self._fuse(*chunk) for chunk in chunks])

    def mixture(
        self, dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """The sum of both logits with the weights of the gate, before the fuser."""
        chunks = zip(_chunks(dense), _chunks(sparse), strict=True)
        return torch.cat([self._mix(*chunk) for chunk in chunks])

    def _mix(self, dense: Tensor, sparse: Tensor) -> Tensor:
        evidence = []
        for logits in (dense, sparse):
            evidence += [torch.softmax(logits, 1), entropy(logits)[:, None]]
        weights = torch.softmax(self.gate(torch.cat(evidence, 1)), 1)
        return weights[:, :1] * dense + weights[:, 1:] * sparse

    def _fuse(self, dense: Tensor, sparse: Tensor) -> Tensor:
        rows = len(dense)
        if rows < LEAST_ROWS and dense.device.type == "cpu":
            missing = (0, 0, 0, LEAST_ROWS - rows)
            dense, sparse = nn.functional.pad(dense, missing), nn.functional.pad(sparse, missing)
            return self._fuse(dense, sparse)[:rows]
        mixture = self._mix(dense, sparse)
        corrected = self.fuser(mixture)
        return mixture + corrected if self.residual else corrected


class ExtractorAlone(nn.Module):
    """Takes what the extractor says, where that has weighed the dense prediction itself.

    Args:
        num_classes: Number of classes K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "extractor"}

    def forward(
        self, dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """The logits of the extractor."""
        return sparse

    def mixture(
        self, dense: Float[Tensor, "N K"], sparse: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """The logits of the extractor."""
        return sparse


def _layers(perceptron: nn.Sequential) -> tuple[nn.Linear, nn.Linear]:
    first, _, last = perceptron
    assert isinstance(first, nn.Linear) and isinstance(last, nn.Linear)
    return first, last


def _chunks(logits: Float[Tensor, "N K"]) -> tuple[Tensor, ...]:
    on_cpu = logits.device.type == "cpu"
    return logits.split(CHUNK_ROWS if on_cpu else CHUNK_ROWS_ACCELERATOR)
