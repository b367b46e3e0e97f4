"""Figures that the paper measured, to compare ours with.

Source: SparseRefine, arXiv:2407.19014, tables A1 to A3; the files lie in assets/paper.
"""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

NAMES = {
    "hrnet-w48": "HRNet-W48",
    "segformer-b5": "SegFormer-B5",
    "mask2former-swin-tiny": "Mask2Former-T",
    "mask2former-swin-large": "Mask2Former-L",
    "segnext-l": "SegNeXt-L",
}
DEVICES = {"rtx3090": "table_a2_rtx3090.csv", "orin": "table_a3_orin.csv"}
DEFAULT_DENSITY = 0.2


def density(model: str) -> float:
    """Share of the pixels that the paper refines with a model; 0.2 for one it does not have."""
    for row in _rows("table_a1.csv"):
        if row["baseline"] == NAMES.get(model):
            return float(row["density"])
    return DEFAULT_DENSITY


def speedup(model: str, precision: str, batch: int, device: str = "rtx3090") -> float | None:
    """How many times faster the paper's refinement is than the dense model at full resolution.

    Args:
        model: Name of the dense model, as `dense.create` has it.
        precision: Precision of the measurement, "fp16" or "fp32".
        batch: Batch size: 1, 2, 4 or 8.
        device: Device of the measurement, "rtx3090" or "orin".

    Returns:
        The ratio; None where the paper gives no figure, or its dense model ran out of memory.
    """
    found: dict[str, float] = {}
    for row in _rows(DEVICES[device]):
        here = (row["baseline"], row["precision"], row["batch_size"])
        if here == (NAMES.get(model), precision, str(batch)) and row["total_ms"] != "OOM":
            found[row["method"]] = float(row["total_ms"])
    if len(found) < 2:
        return None
    return found["dense"] / found["sparserefine"]


@cache
def _rows(name: str) -> list[dict[str, str]]:
    text = (files("sparserefine") / "assets" / "paper" / name).read_text()
    return list(csv.DictReader(text.splitlines()))
