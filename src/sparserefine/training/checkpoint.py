"""Checkpoints: the state of a training run in one safetensors file, replaced atomically."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparserefine.dense.weights import save_weights


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The state of a run.

    Attributes:
        step: Number of steps done.
        model: Tensors of the model by name.
        optimizer: State of the optimizer, by the number of a parameter and by name.
        average: Averages of the model's tensors; empty where none are kept.
        values: What else goes on: plain values.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        step: int,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: Mapping[str, Tensor],
        values: Mapping[str, Any],
    ) -> Checkpoint:
        """The state of a run now."""
        state = {
            index: {name: torch.as_tensor(value) for name, value in own.items()}
            for index, own in optimizer.state_dict()["state"].items()
        }
        return cls(step, dict(model.state_dict()), state, dict(average), dict(values))

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Put model and optimizer into this state."""
        model.load_state_dict(self.model)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": self.optimizer, "param_groups": groups})

    def save(self, path: Path, run: Mapping[str, Any]) -> None:
        """Write a file; an older one is replaced when the new one is complete.

        Args:
            path: File to write.
            run: Description of the run in plain values; `load` accepts only an equal one.
        """
        tensors = {f"model.{name}": value for name, value in self.model.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        for index, own in self.optimizer.items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in own.items()}
        metadata = {"step": self.step, "run": run, "values": self.values}
        save_weights(tensors, path, {name: json.dumps(value) for name, value in metadata.items()})

    @classmethod
    def load(cls, path: Path, run: Mapping[str, Any]) -> Checkpoint:
        """Read a file.

        Raises:
            ValueError: The checkpoint is of a run with other settings, or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"{path} is damaged ({error}). Delete it to begin the run anew."
            ) from None
        found, wanted = json.loads(metadata.get("run", "{}")), json.loads(json.dumps(run))
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"{path} belongs to a run with other settings ({', '.join(differing)}; {key} was "
                f"{found.get(key)}, is {wanted[key]}). Use another output folder, or delete this "
                f"one."
            )
        optimizer: dict[int, dict[str, Tensor]] = {}
        for key, value in _below(tensors, "optimizer.").items():
            index, name = key.split(".", 1)
            optimizer.setdefault(int(index), {})[name] = value
        return cls(
            json.loads(metadata["step"]),
            _below(tensors, "model."),
            optimizer,
            _below(tensors, "average."),
            json.loads(metadata["values"]),
        )


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)
    }
