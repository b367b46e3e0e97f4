"""Names of a model's content, so that results of another are never taken for its own."""

from __future__ import annotations

import hashlib
import re
import uuid
from itertools import chain
from pathlib import Path

import torch
from torch import nn

# How ONNX files name the files beside them that hold weights: the key "location", then its value.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f])", re.DOTALL)


_UNNAMED = "without identity "


def new_token() -> str:
    """A text in place of an identity, for a function that nothing names: no other has the same."""
    return f"{_UNNAMED}{uuid.uuid4()}"


def is_identified(identity: str) -> bool:
    """Whether an identity means the same in another process."""
    return not identity.startswith(_UNNAMED)


def fingerprint(module: nn.Module) -> str:
    """Name a module by its architecture and all of its parameters and buffers.

    Args:
        module: Any module; where its tensors are does not matter, their dtype does.

    Returns:
        16 hex digits.
    """
    digest = hashlib.sha256(repr(module).encode())
    for name, value in chain(module.named_parameters(), module.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(content.numpy().data)
    return digest.hexdigest()[:16]


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
