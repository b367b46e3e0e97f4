"""The public face: pinned, documented, quick to import."""

from __future__ import annotations

import subprocess
import sys

import sparserefine as sr


def test_public_names_are_pinned() -> None:
    assert sorted(sr.__all__) == [
        "DensePass",
        "EdgeSelector",
        "EntropySelector",
        "Extractor",
        "GatedEnsembler",
        "Prediction",
        "Selector",
        "SparseRefiner",
        "SparseUNet",
        "StageExtractor",
        "TrainConfig",
        "ablate",
        "benchmark",
        "bulk",
        "calibrate",
        "check",
        "cutout",
        "data",
        "demo",
        "dense",
        "evaluate",
        "export",
        "frontier",
        "headroom",
        "load",
        "measure_latency",
        "predict",
        "predict_raster",
        "predict_video",
        "refine",
        "rembg",
        "report",
        "serve",
        "sparse",
        "train",
    ]


def test_every_public_name_exists_and_is_documented() -> None:
    for name in sr.__all__:
        assert getattr(sr, name).__doc__, name
    for name in sr.sparse.__all__:
        if name not in ("Backend", "DownsamplingMode"):  # a type alias has no docstring of its own
            assert getattr(sr.sparse, name).__doc__, name


def test_public_names_survive_imports_of_their_modules() -> None:
    """A module of the package's own name for a function would take its place."""
    code = (
        "import importlib, sparserefine as sr; "
        "[importlib.import_module(home) for home in sr._HOME.values()]; "
        "print([n for n in sr.__all__ if n in sr._HOME and not callable(getattr(sr, n))])"
    )
    assert _run(code).strip() == "[]"


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout


def test_the_command_line_does_not_wait_for_torch() -> None:
    code = "import sys, sparserefine.cli; print('torch' in sys.modules, 'numpy' in sys.modules)"
    assert _run(code).split() == ["False", "False"]


def test_importing_is_silent_and_needs_no_extra() -> None:
    code = (
        "import sys, sparserefine as sr; [getattr(sr, name) for name in sr.__all__]; "
        "sr.dense.create; "
        "extras = ('accelerate', 'onnxruntime', 'rembg', 'timm', 'torchvision', 'transformers', "
        "'triton'); print([name for name in extras if name in sys.modules])"
    )
    assert _run(code).strip() == "[]"
