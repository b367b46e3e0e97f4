"""Optional libraries: imported when they are first used, asked for before work starts."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
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
        raise ImportError(
            f"{module} is needed here and cannot be imported ({error}). "
            f"{_installation(module, extra)}"
        ) from error


def check_installed(work: str, *modules: str, extra: str) -> None:
    """Find out before work starts whether modules that it ends with are installed.

    Args:
        work: What needs them, as the message begins: "training".
        modules: Names of the modules; they are not imported.
        extra: Name of the extra of this package that installs them.

    Raises:
        ImportError: Some are not installed; the message says how to install them.
    """
    missing = [module for module in modules if not _is_installed(module)]
    if missing:
        raise ImportError(f"{work} needs {' and '.join(missing)}: {_installation('', extra)}")


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # of what finds modules in this process
        return False


def _installation(module: str, extra: str) -> str:
    package = f"'sparserefine[{extra}]'" if extra else module.replace("_", "-")
    return f"pip install {package}"
