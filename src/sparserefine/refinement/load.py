"""Refiners by name."""

from __future__ import annotations

from pathlib import Path

from sparserefine.dense import DenseModel
from sparserefine.refinement.refiner import SparseRefiner


def load(
    name: str | Path, *, dense: DenseModel | None = None, num_classes: int | None = None
) -> SparseRefiner:
    """Load a refiner that ships with the package, or that somebody saved.

    Args:
        name: "edges" (the refiner of any prediction), "demo" (a pair with its dense model), a
            folder written by `save_pretrained`, or a hub id.
        dense: The dense model in front of it, where it has none.
        num_classes: Number of classes of the predictions, for "edges" without a dense model.
            Default: 2, background and foreground.

    Raises:
        ValueError: Files are missing, damaged, or of another model.
    """
    return SparseRefiner.from_pretrained(name, dense=dense, num_classes=num_classes)
