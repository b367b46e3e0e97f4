"""What names the content of a model, so that results of another are never taken for its own."""

from __future__ import annotations

import hashlib
import re
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# How ONNX files name the files beside them that hold weights: the key "location", then its value.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)
_UNNAMED = "without identity "
_PLAIN = (bool, int, float, str, bytes, type(None), torch.dtype)


def new_token() -> str:
    """What stands for the identity of a function that nothing names: no other has the same."""
    return f"{_UNNAMED}{uuid.uuid4()}"


def is_identified(identity: str) -> bool:
    """Whether an identity means the same in another process."""
    return not identity.startswith(_UNNAMED)


def fingerprint(module: nn.Module) -> str | None:
    """Name a module by its classes, its plain settings, and all of its tensors.

    Code is not part of it: functions and classes count by their names. Traced and scripted modules
    are named by their graph too.

    Args:
        module: Any module; where its tensors are does not matter, their dtype does.

    Returns:
        16 hex digits; None for a module without a parameter or a saved buffer, which may hold
        anything that computes, such as the session of another library.
    """
    if not _saved(module) and next(module.parameters(), None) is None:
        return None
    digest = hashlib.sha256(repr(module).encode())
    for name, part in module.named_modules():
        kind = f"{type(part).__module__}.{type(part).__qualname__}"
        digest.update(f"{name} {kind} {_settings(part)}".encode())
        if isinstance(part, torch.jit.ScriptModule):
            digest.update(str(getattr(part, "inlined_graph", "")).encode())
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers()), **_saved(module)}
    for name, value in tensors.items():
        value = value.dequantize() if value.is_quantized else value
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()[:16]


def _saved(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state dict; quantized modules pack theirs into tuples."""
    found: dict[str, Tensor] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        for index, part in enumerate(value if isinstance(value, tuple) else (value,)):
            if isinstance(part, Tensor):
                found[f"{name}.{index}" if index else name] = part
    return found


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    """What a module keeps beside its tensors; what begins with "_" is torch's."""
    settings = []
    for name, value in vars(module).items():
        if name.startswith("_") or name == "training":
            continue
        if isinstance(value, _PLAIN) or (
            isinstance(value, tuple | list) and all(isinstance(part, _PLAIN) for part in value)
        ):
            settings.append((name, value))
        elif callable(value) and hasattr(value, "__qualname__"):
            settings.append((name, f"{value.__module__}.{value.__qualname__}"))
    return sorted(settings, key=lambda setting: setting[0])


def file_fingerprint(path: Path) -> str:
    """Name an ONNX file by its content and that of the weight files beside it that it names.

    Args:
        path: The ONNX file.

    Returns:
        16 hex digits.
    """
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    names = set()
    for match in _LOCATION.finditer(content):
        end = match.end() + match.group(1)[0]
        names.add(content[match.end() : end].decode(errors="replace"))
    for name in sorted(names):
        beside = path.parent / name
        if beside.is_file():
            with beside.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
