"""The user's choice of a backend, and of whether rounding errors may grow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, get_args

Backend = Literal["auto", "triton", "native", "torch", "reference"]
BACKENDS: tuple[str, ...] = get_args(Backend)
VARIABLE = "SPARSEREFINE_BACKEND"


@dataclass(frozen=True)
class _Choice:
    backend: Backend
    exact: bool


_NO_CHOICE = _Choice("auto", exact=False)
_choice: ContextVar[_Choice] = ContextVar("sparserefine_backend", default=_NO_CHOICE)


@contextmanager
def use_backend(backend: Backend = "auto", *, exact: bool = False) -> Iterator[None]:
    """Choose the backend of every convolution in the block that does not name one itself.

    Args:
        backend: Name of the backend, one of `BACKENDS`; "auto" takes the fastest that can run.
        exact: Never use Winograd's method, whose transforms amplify rounding errors.

    Raises:
        ValueError: The backend is unknown.
    """
    check_backend(backend)
    token = _choice.set(_Choice(backend, exact))
    try:
        yield
    finally:
        _choice.reset(token)


def is_exact() -> bool:
    """Whether Winograd's method is ruled out here."""
    return _choice.get().exact


def asked_backend(backend: Backend) -> str:
    """The backend asked for: by the call, else by `use_backend`, else by the environment.

    Raises:
        ValueError: The backend is unknown.
    """
    asked: str = backend
    if asked == "auto":
        asked = _choice.get().backend
    if asked == "auto":
        asked = os.environ.get(VARIABLE) or "auto"
    check_backend(asked)
    return asked


def check_backend(backend: str) -> None:
    """Raise ValueError unless `backend` is a known name."""
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is unknown. Use one of {', '.join(BACKENDS)}.")
