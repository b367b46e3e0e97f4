"""Imports of optional libraries, made when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str, extra: str = "") -> Any:
    """Import a module.

    Args:
        module: Name of the module.
        extra: Name of the extra of this package that installs it; empty where there is none.

    Raises:
        ImportError: The module is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = f"'sparserefine[{extra}]'" if extra else module.replace("_", "-")
        raise ImportError(
            f"{module} is needed here and cannot be imported ({error}). pip install {package}"
        ) from error
