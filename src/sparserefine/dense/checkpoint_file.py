"""The state dict in a pickled checkpoint, found without executing anything of the file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparserefine.dense import restricted_pickle
from sparserefine.dense.restricted_pickle import Placeholder

# Where training programs keep the weights, beside the optimizer and whatever else.
_KEYS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "module",
    "weights", "params",
)  # fmt: skip
_SHOWN = 3


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the weights in a file that torch.save or pickle wrote.

    Args:
        path: The file, which exists. The weights may lie inside other dicts, under the names that
            training programs use or as the only ones.

    Returns:
        Tensors by name.

    Raises:
        ValueError: It holds a whole model, several sets of weights or none, or is
            truncated.
    """
    try:
        content = _load_restricted(path)
    except OSError:
        raise
    # Bytes that are not a checkpoint make the unpickler raise nearly anything.
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is not a whole file of tensors ({type(error).__name__}: {reason}). "
            "Download it again, or export its state dict as safetensors."
        ) from error
    found = _find(content)
    if len(found) == 1:
        return next(iter(found.values()))
    if found:
        raise ValueError(
            f"{path} holds several sets of weights ({', '.join(found)}), expected one. Write the "
            "one that is meant with save_weights()."
        )
    if whole := _whole_model(content):
        raise ValueError(
            f"{path} holds a whole model ({whole}), expected its weights only: to build it, code "
            "of the file would have to run. Where that code is, write "
            "torch.save(model.state_dict(), FILE)."
        )
    raise ValueError(
        f"{path} holds {_summarize(content)}, expected a dict from name to tensor. "
        "Take the state dict out of it and write that with save_weights()."
    )


def refuse_programs(path: Path) -> None:
    """Raise ValueError for files of torch that hold a program and not weights alone."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
        raise ValueError(
            f"{path} is a TorchScript archive: a program, expected weights. Run it as it is: "
            "sparserefine.dense.from_callable(torch.jit.load(FILE), kind, num_classes)."
        )
    if any(name.endswith(("serialized_exported_program.json", "models/model.json"))
           for name in names):  # fmt: skip
        raise ValueError(
            f"{path} is a program of torch.export, expected weights. Run it as it is: "
            "sparserefine.dense.from_callable(torch.export.load(FILE).module(), kind, num_classes)."
        )


def _load_restricted(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # objects that torch does not know
        return torch.load(
            path, map_location="cpu", weights_only=False, pickle_module=restricted_pickle
        )


def _find(content: Any) -> dict[str, dict[str, Tensor]]:
    """The state dicts in what was read, by where they are; one if a well-known key has one."""
    if not isinstance(content, Mapping) or not content:
        return {}
    if all(isinstance(k, str) and isinstance(value, Tensor) for k, value in content.items()):
        return {"": dict(content)}
    for key in _KEYS:
        if found := _find(content.get(key)):
            return found
    inside = {key: _find(value) for key, value in content.items() if isinstance(key, str)}
    return {
        f"{key}.{name}" if name else key: state
        for key, states in inside.items()
        for name, state in states.items()
    }


def _whole_model(content: Any) -> str:
    """The class of the model that was pickled with its weights; empty if there is none."""
    if isinstance(content, Placeholder):
        return type(content).__name__ if content.is_module else ""
    if isinstance(content, Mapping):
        found = (_whole_model(content.get(key)) for key in (*_KEYS, "ema"))
        return next(filter(None, found), "")
    return ""


def _summarize(content: Any) -> str:
    if isinstance(content, Mapping):
        names = list(map(str, content))
        return f"a dict with {', '.join(names[:_SHOWN])}" + (", …" if len(names) > _SHOWN else "")
    return f"a {type(content).__name__}"
