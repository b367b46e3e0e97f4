"""A decorator that keeps calls into the library outside the graphs that torch.compile makes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def eagerly(function: Callable[P, R]) -> Callable[P, R]:
    """Let torch.compile interrupt its graph for `function` instead of looking into it.

    Traced, `function` would hand the library addresses of tensors that do not exist. torch's own
    decorator imports torch._dynamo, which takes seconds; here that happens only where it is loaded
    anyway.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is None:
            return function(*args, **kwargs)
        return dynamo.disable(function, wrapping=False)(*args, **kwargs)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call
