"""What names a refiner, so that results of another are not taken for its own."""

from __future__ import annotations

import hashlib

import torch

from sparserefine.refine.refiner import SparseRefiner


def identity(refiner: SparseRefiner) -> str:
    """16 hex digits that name the weights and settings of a refiner and its dense model."""
    digest = hashlib.sha256(repr(sorted(refiner.settings().items())).encode())
    for name, value in refiner.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
