"""rembg's own command line with our sessions in it: `python -m sparserefine.rembg i -m …`."""

from __future__ import annotations

import sys
from importlib import import_module

from sparserefine.rembg.registration import register


def main() -> None:
    """Hand over to rembg; a library that is missing ends in one line."""
    try:
        register()
        import_module("click")  # without it rembg's command line ends the process
        commands = import_module("rembg.cli")
    except ImportError as error:
        missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        hint = f"{missing} is missing. pip install 'rembg[cli]'" if missing else str(error)
        sys.exit(f"sparserefine: {hint}")
    commands.main(prog_name="python -m sparserefine.rembg")


if __name__ == "__main__":
    main()
