"""Which implementation of the convolutions runs, and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from sparserefine.sparse.gpu import can_run_triton

Backend = Literal["auto", "triton", "torch", "reference"]
BACKENDS: tuple[str, ...] = get_args(Backend)
VARIABLE = "SPARSEREFINE_BACKEND"


@dataclass(frozen=True)
class _Wish:
    backend: Backend
    exact: bool


_NO_WISH = _Wish("auto", exact=False)
_wish: ContextVar[_Wish] = ContextVar("sparserefine_backend", default=_NO_WISH)


def can_run_torch(feats: Tensor, weight: Tensor) -> str | None:
    """None: plain torch runs anything, anywhere."""
    return None


def can_run_reference(feats: Tensor, weight: Tensor) -> str | None:
    """None: the definition runs anything, anywhere."""
    return None


# Fastest first. Each answers None where it can run, else the reason why not.
CAN_RUN: dict[str, Callable[[Tensor, Tensor], str | None]] = {
    "triton": can_run_triton,
    "torch": can_run_torch,
    "reference": can_run_reference,
}


@contextmanager
def use_backend(backend: Backend = "auto", *, exact: bool = False) -> Iterator[None]:
    """Choose the backend of every convolution in the block that does not name one itself.

    Args:
        backend: One of `BACKENDS`. "auto" takes the fastest that can run.
        exact: Never use Winograd's method, whose transforms amplify rounding errors.

    Raises:
        ValueError: The backend is unknown.
    """
    check_backend(backend)
    token = _wish.set(_Wish(backend, exact))
    try:
        yield
    finally:
        _wish.reset(token)


def is_exact() -> bool:
    """Whether Winograd's method is ruled out here."""
    return _wish.get().exact


def resolve_backend(backend: Backend, feats: Tensor, weight: Tensor) -> str:
    """The backend that runs: the one asked for, or the fastest that can.

    What the call names comes first, then `use_backend`, then the environment variable
    SPARSEREFINE_BACKEND.

    Raises:
        ValueError: The backend is unknown, or the one asked for cannot run.
    """
    if backend == "auto":
        backend = _wish.get().backend
    asked: str = backend
    if asked == "auto":
        asked = os.environ.get(VARIABLE) or "auto"
    check_backend(asked)
    if asked == "auto":
        return next(name for name, can_run in CAN_RUN.items() if can_run(feats, weight) is None)
    reason = CAN_RUN[asked](feats, weight)
    if reason is not None:
        raise ValueError(f'backend "{asked}" cannot run: {reason}')
    return asked


def check_backend(backend: str) -> None:
    """Raise ValueError unless it is a known backend."""
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is unknown. Use one of {', '.join(BACKENDS)}.")
