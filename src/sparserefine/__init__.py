"""Full-resolution segmentation at low-resolution cost, for the model you already have.

Names are loaded when first used, so that `import sparserefine.cli` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparserefine import data, dense, sparse
    from sparserefine.refine.ensembler import GatedEnsembler
    from sparserefine.refine.extractor import SparseUNet
    from sparserefine.refine.prediction import Prediction
    from sparserefine.refine.refiner import SparseRefiner
    from sparserefine.refine.selector import EntropySelector
    from sparserefine.workflows.calibrate import calibrate
    from sparserefine.workflows.evaluate import evaluate
    from sparserefine.workflows.headroom import headroom
    from sparserefine.workflows.train import train
    from sparserefine.workflows.train_config import TrainConfig

__version__ = "0.1.0.dev0"

__all__ = [
    "EntropySelector",
    "GatedEnsembler",
    "Prediction",
    "SparseRefiner",
    "SparseUNet",
    "TrainConfig",
    "calibrate",
    "data",
    "dense",
    "evaluate",
    "headroom",
    "sparse",
    "train",
]

_HOME = {
    "EntropySelector": "sparserefine.refine.selector",
    "GatedEnsembler": "sparserefine.refine.ensembler",
    "Prediction": "sparserefine.refine.prediction",
    "SparseRefiner": "sparserefine.refine.refiner",
    "SparseUNet": "sparserefine.refine.extractor",
    "TrainConfig": "sparserefine.workflows.train_config",
    "calibrate": "sparserefine.workflows.calibrate",
    "evaluate": "sparserefine.workflows.evaluate",
    "headroom": "sparserefine.workflows.headroom",
    "train": "sparserefine.workflows.train",
}
_PACKAGES = ("data", "dense", "sparse")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"sparserefine.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sparserefine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
