"""The refiner that a command's options describe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparserefine.refine.refiner import SparseRefiner


def load_refiner(
    name: str, threshold: float | None, max_density: float | None, device: str
) -> SparseRefiner:
    """Read a refiner, change what the options change, and move it to its device."""
    from sparserefine.refine.refiner import SparseRefiner

    refiner = SparseRefiner.from_pretrained(name)
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
