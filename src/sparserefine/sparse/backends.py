"""The choice of the implementation that runs a convolution, and the reasons for it."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch import Tensor

from sparserefine.sparse.choice import VARIABLE, Backend, asked_backend
from sparserefine.sparse.gpu import can_run_triton
from sparserefine.sparse.native import library


def can_run_native(feats: Tensor, weight: Tensor) -> str | None:
    """Why the compiled CPU kernels cannot run here; None where they can."""
    if feats.device.type != "cpu":
        return f'feats are on {feats.device}, the kernels run on the CPU. Use backend="torch".'
    if feats.dtype != torch.float32:
        return f'feats are {feats.dtype}, the kernels take float32. Use backend="torch".'
    if 0 in weight.shape:
        return f'the weight {tuple(weight.shape)} is empty. Use backend="torch".'
    loaded = library.load()
    return loaded if isinstance(loaded, str) else None


def can_run_torch(feats: Tensor, weight: Tensor) -> str | None:
    """Always None, as plain torch runs everything everywhere."""
    return None


def can_run_reference(feats: Tensor, weight: Tensor) -> str | None:
    """Always None, as the definition runs everything everywhere."""
    return None


# Backends, fastest first. Each answers None where it can run, else the reason why not.
CAN_RUN: dict[str, Callable[[Tensor, Tensor], str | None]] = {
    "triton": can_run_triton,
    "native": can_run_native,
    "torch": can_run_torch,
    "reference": can_run_reference,
}


def explain_backends() -> dict[str, str]:
    """Whether each backend, fastest first, can run float32 here, and the reason.

    The answers are for the CPU, and for the GPU where torch sees one. That a backend cannot run
    which `use_backend` or the environment asks for is part of the answer, not an error.

    Raises:
        ValueError: The environment asks for an unknown backend.
    """
    try:
        asked = asked_backend("auto")
    except ValueError as error:  # `use_backend` lets no such name pass
        raise ValueError(f"{VARIABLE}: {error}") from None
    answers = {name: _explain_on(device, asked) for name, device in _devices().items()}
    if len(answers) == 1:
        return next(iter(answers.values()))
    return {
        name: "; ".join(f"{device}: {of[name].rstrip('.')}" for device, of in answers.items())
        for name in CAN_RUN
    }


def _devices() -> dict[str, str]:
    """Devices to ask about, with the names users know them by."""
    return {"CPU": "cpu", "GPU": "cuda"} if torch.cuda.is_available() else {"CPU": "cpu"}


def _explain_on(device: str, asked: str) -> dict[str, str]:
    try:
        feats, weight = torch.zeros(1, 1, device=device), torch.zeros(9, 1, 1, device=device)
    except RuntimeError as error:  # torch sees a GPU, but another process has all of its memory
        return dict.fromkeys(CAN_RUN, f"cannot run: {str(error).splitlines()[0]}")
    reasons = {name: can_run(feats, weight) for name, can_run in CAN_RUN.items()}
    fastest = next(name for name, reason in reasons.items() if reason is None)
    chosen = fastest if asked == "auto" else asked
    by = VARIABLE if os.environ.get(VARIABLE) == asked else "use_backend"
    answers = {}
    for name, reason in reasons.items():
        can = "can run" if reason is None else f"cannot run: {reason}"
        if name != chosen:
            answers[name] = can
        elif asked == "auto":
            answers[name] = "runs, the fastest that can"
        else:
            answers[name] = f"forced by {by}, but {can}" if reason else f"runs, forced by {by}"
        if name == "native" and reason is None:
            found = library.loaded()
            answers[name] += f", with {found.isas[found.isa]} of {', '.join(found.isas)}"
    return answers


def resolve_backend(backend: Backend, feats: Tensor, weight: Tensor) -> str:
    """The backend that runs: the one asked for, or the fastest that can.

    Raises:
        ValueError: The backend is unknown, or the one asked for cannot run.
    """
    asked = asked_backend(backend)
    if asked == "auto":
        return next(name for name, can_run in CAN_RUN.items() if can_run(feats, weight) is None)
    reason = CAN_RUN[asked](feats, weight)
    if reason is not None:
        raise ValueError(f'backend "{asked}" cannot run: {reason}')
    return asked
