"""The state of a training run in one safetensors file that is replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparserefine.atomic import atomic_write


def save_checkpoint(
    path: Path, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, run: str
) -> None:
    """Write the model's and the optimizer's tensors.

    Args:
        path: Replaced when the new file is complete.
        step: Steps done.
        model: Its parameters and buffers are kept.
        optimizer: Its state is kept.
        run: Describes the run; `load_checkpoint` accepts only the same.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    copies = {name: value.detach().cpu().clone() for name, value in tensors.items()}
    metadata = {"step": json.dumps(step), "run": run}
    atomic_write(path, lambda partial: save_file(copies, partial, metadata=metadata))


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: str
) -> int:
    """Restore model and optimizer, and return the number of steps done.

    Raises:
        ValueError: The checkpoint is of a run with other settings.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if metadata.get("run") != run:
        raise ValueError(
            f"{path} belongs to a run with other settings ({metadata.get('run')}). Use another "
            f"output folder, or delete this one to start anew."
        )
    model.load_state_dict(_below(tensors, "model."))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _below(tensors, "optimizer.").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    return json.loads(metadata["step"])


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)
    }
