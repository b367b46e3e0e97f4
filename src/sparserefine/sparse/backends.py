"""Which implementation of the convolutions runs, and why."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparserefine.sparse.choice import Backend, asked_backend
from sparserefine.sparse.gpu import can_run_triton
from sparserefine.sparse.native import library


def can_run_native(feats: Tensor, weight: Tensor) -> str | None:
    """None where the compiled CPU kernels can run, else why not."""
    if feats.device.type != "cpu":
        return f'feats are on {feats.device}, the kernels run on the CPU. Use backend="torch".'
    if feats.dtype != torch.float32:
        return f'feats are {feats.dtype}, the kernels take float32. Use backend="torch".'
    if 0 in weight.shape:
        return f'the weight {tuple(weight.shape)} is empty. Use backend="torch".'
    loaded = library.load()
    return loaded if isinstance(loaded, str) else None


def can_run_torch(feats: Tensor, weight: Tensor) -> str | None:
    """None: plain torch runs anything, anywhere."""
    return None


def can_run_reference(feats: Tensor, weight: Tensor) -> str | None:
    """None: the definition runs anything, anywhere."""
    return None


# Fastest first. Each answers None where it can run, else the reason why not.
CAN_RUN: dict[str, Callable[[Tensor, Tensor], str | None]] = {
    "triton": can_run_triton,
    "native": can_run_native,
    "torch": can_run_torch,
    "reference": can_run_reference,
}


def explain_backends() -> dict[str, str]:
    """For each backend, fastest first, whether it runs float32 here, and why not.

    Asked for the CPU, and for the GPU where torch sees one.
    """
    if not torch.cuda.is_available():
        return _explain_on("cpu")
    on_cpu, on_gpu = _explain_on("cpu"), _explain_on("cuda")
    return {name: f"CPU: {on_cpu[name]}; GPU: {on_gpu[name]}" for name in CAN_RUN}


def _explain_on(device: str) -> dict[str, str]:
    feats, weight = torch.zeros(1, 1, device=device), torch.zeros(9, 1, 1, device=device)
    chosen = resolve_backend("auto", feats, weight)
    answers = {}
    for name, can_run in CAN_RUN.items():
        reason = can_run(feats, weight)
        answers[name] = f"cannot run: {reason}" if reason else "can run"
        if name == chosen:
            answers[name] = "runs"
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
