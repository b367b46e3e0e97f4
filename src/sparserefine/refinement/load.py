"""Refiners by name, and what is none."""

from __future__ import annotations

from os import PathLike
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


def check_refiner(model: object) -> None:
    """Refuse what is no refiner.

    Raises:
        ValueError: It is something else; the message says how to make a refiner of it.
    """
    if isinstance(model, SparseRefiner):
        return
    if isinstance(model, str | PathLike):
        what, remedy = repr(str(model)), f"Open it: sparserefine.load({str(model)!r})"
    else:
        what = f"a {type(model).__name__}"
        remedy = "Wrap a dense model: SparseRefiner(dense), see docs/dense-models.md"
    raise ValueError(f"the model is {what}, expected a SparseRefiner. {remedy}.")
