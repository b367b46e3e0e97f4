"""Dense segmentation models behind one protocol."""

from sparserefine.dense.adapters.callable import from_callable
from sparserefine.dense.adapters.libraries import from_smp, from_timm, from_torchvision
from sparserefine.dense.adapters.mmseg import from_mmseg
from sparserefine.dense.adapters.onnx import from_onnx
from sparserefine.dense.adapters.onnx_size import free_size
from sparserefine.dense.adapters.rembg import from_rembg
from sparserefine.dense.adapters.transformers import from_transformers
from sparserefine.dense.create import create, names
from sparserefine.dense.espnetv2 import ESPNetv2
from sparserefine.dense.hrnet import HRNet
from sparserefine.dense.open_model import is_dense, open_model
from sparserefine.dense.optimize import Optimization, explain_optimization, optimize
from sparserefine.dense.protocol import DenseModel, Fit, Preset
from sparserefine.dense.segnext import SegNeXt
from sparserefine.dense.u2net import U2Net
from sparserefine.dense.vector_math import settle

__all__ = [
    "DenseModel",
    "ESPNetv2",
    "Fit",
    "HRNet",
    "Optimization",
    "Preset",
    "SegNeXt",
    "U2Net",
    "create",
    "explain_optimization",
    "free_size",
    "from_callable",
    "from_mmseg",
    "from_onnx",
    "from_rembg",
    "from_smp",
    "from_timm",
    "from_torchvision",
    "from_transformers",
    "is_dense",
    "names",
    "open_model",
    "optimize",
]

settle()  # before any dense model runs; refinement and training import this package too
