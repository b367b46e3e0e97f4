"""Checkpoints: the state of a training run in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from sparserefine.dense.weights import save_weights


def save_checkpoint(
    path: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    run: Mapping[str, Any],
) -> None:
    """Write the model's and the optimizer's tensors.

    Args:
        path: File to write; an older one is replaced when the new one is complete.
        step: Number of steps done.
        model: Module whose parameters and buffers are kept.
        optimizer: Optimizer whose state is kept.
        run: Description of the run in plain values; `load_checkpoint` accepts only an equal one.
    """
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
    save_weights(tensors, path, metadata={"step": json.dumps(step), "run": json.dumps(run)})


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, run: Mapping[str, Any]
) -> int:
    """Restore model and optimizer, and return the number of steps done.

    Raises:
        ValueError: The checkpoint is of a run with other settings.
    """
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found, wanted = json.loads(metadata.get("run", "{}")), json.loads(json.dumps(run))
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path} belongs to a run with other settings ({', '.join(differing)}; {key} was "
            f"{found.get(key)}, is {wanted[key]}). Use another output folder, or delete this one."
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
