"""Latency of many models, with and without refinement: the twin of `benchmark --models`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from sparserefine import dense
from sparserefine.dense.adapters import published
from sparserefine.experiments import latency_report
from sparserefine.experiments.latency_matrix import LatencyMatrix, cases_of, measure_matrix
from sparserefine.extras import check_installed
from sparserefine.progress import Progress, count_steps
from sparserefine.refinement.calibration_file import calibrated_threshold, read_calibration
from sparserefine.refinement.refiner import SparseRefiner

# Densities at which refinement is timed too, to fit a line.
FIT_DENSITIES = (0.02, 0.35)


def measure_latency(
    models: Sequence[str],
    *,
    precision: Sequence[str] = ("fp32",),
    batch: Sequence[int] = (1,),
    size: tuple[int, int] = (1024, 2048),
    pyramids: Sequence[str] = ("floor",),
    widths: str = "paper",
    density: float | None = None,
    memory_limit: float = 0.0,
    threads: int = 0,
    fit: bool = False,
    rounds: int = 7,
    optimize: bool = True,
    device: str = "auto",
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> LatencyMatrix:
    """Time models at full resolution, at low resolution, and refined, each in its own process.

    Args:
        models: Dense models by name, with random weights, or refiners; not both in one run.
        precision: Precisions to time: some of "fp32", "fp16", "bf16".
        batch: Batch sizes to time.
        size: (height, width) of the images.
        pyramids: How an untrained extractor chooses coarser pixels: some of "floor", "dilate".
        widths: Preset of an untrained extractor.
        density: Share of the pixels that is refined. Default: that of the paper, or what a trained
            refiner selects of a photo.
        memory_limit: GiB that a case may allocate; 0 for no limit.
        threads: Number of threads that torch has on a CPU; 0 for its own choice.
        fit: Time refinement at three densities, to fit milliseconds = a + b · density.
        rounds: Number of timed runs of each case, after one to warm up.
        optimize: Run the dense model, at both resolutions, as `dense.optimize` does.
        device: Device to time on: "cpu", "cuda" …; "auto" takes a GPU where there is one.
        out: Folder for latency.json, .md, .csv and .png; None writes nothing.
        progress: Told of each round.

    Raises:
        ValueError: Something asked for is unknown, or models and refiners are mixed.
        ImportError: matplotlib, which draws the picture, or transformers for its models is not
            installed.
        OSError: The folder cannot be written.
    """
    if out is not None:
        check_installed("a latency matrix's picture", "matplotlib", extra="train")
    if any(name in published.MODELS for name in models):
        check_installed("a model of transformers", "transformers", extra="hf")
    _check_case(models, density, memory_limit, threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    refiners = trained_of(models)
    groups = cases_of(
        models,
        precision,
        batch,
        [""] if refiners else pyramids,
        FIT_DENSITIES if fit else (),
        trained=bool(refiners),
        size=size,
        widths=widths,
        density=density,
        memory_gib=memory_limit,
        threads=threads or torch.get_num_threads(),
        optimize=optimize,
        device=device,
    )
    advance = count_steps(progress, "latency", len(groups) * (rounds + 1))
    matrix = measure_matrix(groups, rounds, trained=bool(refiners), advance=advance)
    if out is not None:
        latency_report.save(matrix, out)
    return matrix


def _check_case(
    models: Sequence[str], density: float | None, memory_limit: float, threads: int
) -> None:
    """Refuse what every case would fail for."""
    if not models:
        raise ValueError(f"there is no model to time. Name some of {', '.join(dense.names())}.")
    if density is not None and not 0 < density <= 1:
        raise ValueError(f"density is {density}, expected a share above 0 and up to 1.")
    if not 0 <= memory_limit < math.inf:
        raise ValueError(f"memory_limit is {memory_limit}, expected GiB, or 0 for no limit.")
    if threads < 0:
        raise ValueError(f"threads is {threads}, expected 1 or more, or 0 for torch's own choice.")


def trained_of(models: Sequence[str]) -> list[str]:
    """The models that are refiners.

    Raises:
        ValueError: Some models are refiners and some are not.
    """
    trained = [name for name in models if name not in dense.names()]
    if trained and len(trained) < len(models):
        other = next(name for name in models if name not in trained)
        raise ValueError(
            f"{trained[0]!r} is a refiner and {other!r} a dense model without one. Time them in "
            "two runs."
        )
    return trained


def read_calibration_of(models: Sequence[str], path: str | Path) -> dict[str, Any]:
    """Read a calibration and check that it is for the refiners that are timed.

    Args:
        models: The models; those that are refiners are loaded.
        path: Path of calibration.json.

    Raises:
        ValueError: The file is no calibration, or one of another model.
    """
    for name in trained_of(models):
        calibrated_threshold(path, SparseRefiner.from_pretrained(name).describe())
    return read_calibration(path)
