"""Full-resolution segmentation from a low-resolution prediction, for the model you already have.

Names are loaded when first used, so that `import sparserefine.cli` does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparserefine import data, dense, rembg, sparse
    from sparserefine.calibration.calibrate import calibrate
    from sparserefine.calibration.headroom import headroom
    from sparserefine.cluster.bulk import bulk
    from sparserefine.data.check import check
    from sparserefine.evaluation.evaluate import evaluate
    from sparserefine.experiments.ablations import ablate
    from sparserefine.experiments.frontier import frontier
    from sparserefine.experiments.latency import measure_latency
    from sparserefine.exporting.export import export
    from sparserefine.photos.benchmark import benchmark
    from sparserefine.photos.cutout import cutout
    from sparserefine.photos.demo import demo
    from sparserefine.photos.predict import predict
    from sparserefine.photos.refine import refine
    from sparserefine.photos.report import report
    from sparserefine.rasters.predict import predict_raster
    from sparserefine.refinement.dense_pass import DensePass
    from sparserefine.refinement.edge_selector import EdgeSelector
    from sparserefine.refinement.ensembler import GatedEnsembler
    from sparserefine.refinement.extractor import Extractor, SparseUNet
    from sparserefine.refinement.load import load
    from sparserefine.refinement.prediction import Prediction
    from sparserefine.refinement.refiner import SparseRefiner
    from sparserefine.refinement.selector import EntropySelector, Selector
    from sparserefine.refinement.stage_extractor import StageExtractor
    from sparserefine.serving.server import serve
    from sparserefine.training.config import TrainConfig
    from sparserefine.training.train import train
    from sparserefine.video.predict_video import predict_video

__version__ = "0.1.0.dev0"

__all__ = [
    "DensePass",
    "EdgeSelector",
    "EntropySelector",
    "Extractor",
    "GatedEnsembler",
    "Prediction",
    "Selector",
    "SparseRefiner",
    "SparseUNet",
    "StageExtractor",
    "TrainConfig",
    "ablate",
    "benchmark",
    "bulk",
    "calibrate",
    "check",
    "cutout",
    "data",
    "demo",
    "dense",
    "evaluate",
    "export",
    "frontier",
    "headroom",
    "load",
    "measure_latency",
    "predict",
    "predict_raster",
    "predict_video",
    "refine",
    "rembg",
    "report",
    "serve",
    "sparse",
    "train",
]

_HOME = {
    "DensePass": "sparserefine.refinement.dense_pass",
    "EdgeSelector": "sparserefine.refinement.edge_selector",
    "EntropySelector": "sparserefine.refinement.selector",
    "Extractor": "sparserefine.refinement.extractor",
    "GatedEnsembler": "sparserefine.refinement.ensembler",
    "Prediction": "sparserefine.refinement.prediction",
    "Selector": "sparserefine.refinement.selector",
    "SparseRefiner": "sparserefine.refinement.refiner",
    "SparseUNet": "sparserefine.refinement.extractor",
    "StageExtractor": "sparserefine.refinement.stage_extractor",
    "TrainConfig": "sparserefine.training.config",
    "ablate": "sparserefine.experiments.ablations",
    "benchmark": "sparserefine.photos.benchmark",
    "bulk": "sparserefine.cluster.bulk",
    "calibrate": "sparserefine.calibration.calibrate",
    "check": "sparserefine.data.check",
    "cutout": "sparserefine.photos.cutout",
    "demo": "sparserefine.photos.demo",
    "evaluate": "sparserefine.evaluation.evaluate",
    "export": "sparserefine.exporting.export",
    "frontier": "sparserefine.experiments.frontier",
    "headroom": "sparserefine.calibration.headroom",
    "load": "sparserefine.refinement.load",
    "measure_latency": "sparserefine.experiments.latency",
    "predict": "sparserefine.photos.predict",
    "predict_raster": "sparserefine.rasters.predict",
    "predict_video": "sparserefine.video.predict_video",
    "refine": "sparserefine.photos.refine",
    "report": "sparserefine.photos.report",
    "serve": "sparserefine.serving.server",
    "train": "sparserefine.training.train",
}
_PACKAGES = ("data", "dense", "rembg", "sparse")


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"sparserefine.{name}")
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sparserefine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
