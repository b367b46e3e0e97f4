"""The fusion of the dense and the sparse prediction of a pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refine.uncertainty import entropy

# Rows fused at a time: what they need stays in the cache, and a 30-megapixel image does not need
# gigabytes of hidden activations.
CHUNK_ROWS = 1 << 14
# On a GPU starting the kernels for so few takes longer than running them.
CHUNK_ROWS_GPU = 1 << 18


def average(dense: Float[Tensor, "N K"], refined: Float[Tensor, "N K"]) -> Float[Tensor, "N K"]:
    """The logarithm of the mean of both probabilities."""
    return (0.5 * (dense.softmax(1) + refined.softmax(1))).clamp(min=1e-10).log()


def lower_entropy(
    dense: Float[Tensor, "N K"], refined: Float[Tensor, "N K"]
) -> Float[Tensor, "N K"]:
    """Of each pixel, the logits of whichever prediction is surer."""
    surer = entropy(refined) < entropy(dense)
    return torch.where(surer[:, None], refined, dense)


class GatedEnsembler(nn.Module):
    """Weighs the two predictions of each pixel, mixes their logits, and corrects the mixture.

    w = softmax(gate([p1, e1, p2, e2])), mixture = w1 · l1 + w2 · l2, y = mixture + fuse(mixture),
    with l the logits, p their softmax and e the entropy of p. One weight per pixel serves all
    classes. 5,269 parameters at 19 classes.

    Args:
        num_classes: K.
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

    def forward(
        self, dense: Float[Tensor, "N K"], refined: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """Fuse logits of the dense model with logits of the extractor."""
        chunks = zip(_chunks(dense), _chunks(refined), strict=True)
        return torch.cat([self._fuse(*chunk) for chunk in chunks])

    def mixture(
        self, dense: Float[Tensor, "N K"], refined: Float[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """The gate's weighted sum, without the fuser."""
        chunks = zip(_chunks(dense), _chunks(refined), strict=True)
        return torch.cat([self._mix(*chunk) for chunk in chunks])

    def _mix(self, dense: Tensor, refined: Tensor) -> Tensor:
        evidence = []
        for logits in (dense, refined):
            evidence += [torch.softmax(logits, 1), entropy(logits)[:, None]]
        weights = torch.softmax(self.gate(torch.cat(evidence, 1)), 1)
        return weights[:, :1] * dense + weights[:, 1:] * refined

    def _fuse(self, dense: Tensor, refined: Tensor) -> Tensor:
        mixture = self._mix(dense, refined)
        fused = self.fuser(mixture)
        return mixture + fused if self.residual else fused


def _chunks(logits: Float[Tensor, "N K"]) -> tuple[Tensor, ...]:
    return logits.split(CHUNK_ROWS_GPU if logits.is_cuda else CHUNK_ROWS)
