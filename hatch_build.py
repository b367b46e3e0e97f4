"""Builds the native library when the package is installed or a wheel is made.

Without a C++ compiler the package installs all the same: plain torch serves.
"""

from __future__ import annotations

import importlib.util
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

NATIVE = Path("src") / "sparserefine" / "sparse" / "native"


class NativeLibraryHook(BuildHookInterface):
    """Compiles the library beside its sources and adds it to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build, or say why not and go on."""
        if self.target_name != "wheel":
            return
        build = _load_build_script(Path(self.root) / NATIVE / "build.py")
        try:
            library = build.build()
        except (build.BuildError, OSError) as error:
            self.app.display_warning(f"the native library was not built: {error}")
            return
        build_data["pure_python"] = False
        # A plain C interface: any Python 3 on this platform can load it.
        platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"
        build_data["artifacts"].append(str(NATIVE / library.name))


def _load_build_script(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("sparserefine_native_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
