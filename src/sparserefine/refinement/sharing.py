"""Modules that share all of their tensors with another, and differ in a setting."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def shallow_copy(module: AnyModule) -> AnyModule:
    """Another object that holds the same parameters, buffers and modules."""
    other = copy.copy(module)
    for name in ("_parameters", "_buffers", "_modules"):
        other.__dict__[name] = dict(module.__dict__[name])
    return other


def in_evaluation(module: AnyModule) -> AnyModule:
    """A module in evaluation mode: itself, or a copy that shares all tensors with it.

    Toggling the mode would be seen by other threads, and by whoever trains the module.
    """
    if not any(part.training for part in module.modules()):
        return module
    other = shallow_copy(module)
    other.__dict__["training"] = False
    for name, part in module._modules.items():
        other.__dict__["_modules"][name] = None if part is None else in_evaluation(part)
    return other
