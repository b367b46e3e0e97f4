"""The refiner that a command's options describe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner


def load_refiner(
    name: str,
    threshold: float | None,
    max_density: float | None,
    device: str,
    calibration: Path | None = None,
) -> SparseRefiner:
    """Read a refiner, change what the options change, and move it to its device."""
    from sparserefine.refine.refiner import SparseRefiner

    if calibration is not None and threshold is not None:
        raise ValueError("--calibration and --threshold both set the threshold. Use one of them.")
    refiner = SparseRefiner.from_pretrained(name)
    if calibration is not None:
        refiner.load_calibration(calibration)
    changes = {
        key: value
        for key, value in (("threshold", threshold), ("max_density", max_density))
        if value is not None
    }
    refiner.selector = replace(refiner.selector, **changes)
    return move(refiner, device)


def move(refiner: SparseRefiner, device: str) -> SparseRefiner:
    """To a device; "auto" takes a GPU where there is one.

    Raises:
        ValueError: This machine lacks the device.
    """
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return refiner.to(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device {device!r} cannot be used ({reason}). Use cpu, or a device of this machine."
        ) from None


def wrap_dense(name: str, weights: Path, allow_pickle: bool, device: str) -> SparseRefiner:
    """A dense model by name, in a refiner that is not trained."""
    from sparserefine import dense
    from sparserefine.refine.extractor import SparseUNet
    from sparserefine.refine.refiner import SparseRefiner

    frozen = dense.create(name, weights, allow_pickle=allow_pickle)
    # Nobody will use it: the smallest is made fastest.
    extractor = SparseUNet(frozen.num_classes, widths=(8,), blocks=1)
    return move(SparseRefiner(frozen, extractor=extractor), device)
