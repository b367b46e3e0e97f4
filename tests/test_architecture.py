"""The layers of the package import in one direction only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "sparserefine"

# Each layer may import itself and what stands before it.
LAYERS = (
    "paths",
    "arguments",
    "atomic",
    "extras",
    "progress",
    "threads",
    "memory_pages",
    "environment",
    "sparse",
    "images",
    "deep_images",
    "viz",
    "plots",
    "dense",
    "data",
    "matting",
    "refinement",
    "evaluation",
    "training",
    "calibration",
    "photos",
    "workflows",
    "cluster",
    "rasters",
    "video",
    "rembg",
    "serving",
    "experiments",
    "app",
    "exporting",
    "cli",
)
STRANGERS = {("data", "dense"), ("dense", "data")}
MODULES = sorted(PACKAGE.rglob("*.py"))


def _layer(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def _imports(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "sparserefine":
                yield from (f"sparserefine.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return
    for module in _imports(path):
        if module.split(".")[0] != "sparserefine":
            continue
        other = _layer(module)
        if other not in LAYERS:  # `import sparserefine` and its version, for the commands
            assert own in ("exporting", "cli"), f"{path} imports {module}"
            continue
        assert LAYERS.index(other) <= LAYERS.index(own), f"{own} imports {module}"
        assert (own, other) not in STRANGERS, f"{own} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_small_and_named_after_what_they_hold(path: Path) -> None:
    assert path.stem not in {"utils", "common", "helpers", "misc"}
    lines = len(path.read_text().splitlines())
    assert lines <= 400, f"{path} has {lines} lines. Split it by noun."


def test_every_layer_is_listed() -> None:
    found = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert found - {"__init__"} == set(LAYERS)


def test_the_method_knows_no_device_by_name() -> None:
    refinement = PACKAGE / "refinement"
    files = [path for path in refinement.rglob("*.py") if path.parent.name != "cuda"]
    mentions = [
        line.strip()
        for path in files
        for line in path.read_text().splitlines()
        if "cuda" in line.lower() or "gpu" in line.lower()
    ]
    assert mentions == []


def test_nobody_assigns_a_selector_but_the_user() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Attribute) and target.attr == "selector":
                    where = (path.name, ast.unparse(target.value))
                    # The model itself: made, calibrated by its user, copied.
                    assert where in (("refiner.py", "self"), ("refiner.py", "other")), path
