"""How a refiner runs its extractor: as it is, or as a subpackage for some devices does it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from sparserefine.refinement.extractor import Extractor
from sparserefine.sparse import SparseTensor


@runtime_checkable
class Runner(Protocol):
    """Runs an extractor, with the same result as calling it."""

    def __call__(self, extractor: Extractor, seen: SparseTensor) -> Float[Tensor, "N K"]:
        """Logits at the active pixels.

        Args:
            extractor: The network.
            seen: Features that it sees of the active pixels, in row-major order.
        """
        ...


def run_plainly(extractor: Extractor, seen: SparseTensor) -> Float[Tensor, "N K"]:
    """Call the extractor."""
    return extractor(seen)


def new_runner() -> Runner:
    """A runner for one refiner.

    A subpackage beside this file is for some kind of device, and offers `Runner`, a class of them.
    The method knows none of these by name; what they cannot run, they run plainly.
    """
    packages = _device_packages()
    return packages[0].Runner() if packages else run_plainly


@cache
def _device_packages() -> tuple[ModuleType, ...]:
    package = import_module(__package__ or "")
    names = [found.name for found in iter_modules(package.__path__) if found.ispkg]
    return tuple(import_module(f"{package.__name__}.{name}") for name in names)
