"""Libraries that are only imported when used."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def require(module: str, extra: str = "") -> Any:
    """Import a module.

    Args:
        module: Its name.
        extra: Of this package, that installs it; empty where the user installs it.

    Raises:
        ImportError: It is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        package = f"'sparserefine[{extra}]'" if extra else module.replace("_", "-")
        raise ImportError(
            f"{module} is needed here and cannot be imported ({error}). pip install {package}"
        ) from error
