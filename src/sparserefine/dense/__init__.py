"""Dense segmentation models behind one protocol."""

from sparserefine.dense.create import create, names
from sparserefine.dense.espnetv2 import ESPNetv2
from sparserefine.dense.protocol import DenseModel, Preset

__all__ = ["DenseModel", "ESPNetv2", "Preset", "create", "names"]
