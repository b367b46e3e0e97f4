"""Peak memory of each method of a frontier, measured in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from pickle import PicklingError
from typing import Any

import torch
from torch import Tensor

from sparserefine.atomic import atomic_write, make_folder
from sparserefine.data import content_hash
from sparserefine.data.source import SampleSource
from sparserefine.environment import Environment, peak_mib
from sparserefine.experiments.baselines import Baseline, baselines
from sparserefine.images import ImageError
from sparserefine.memory_pages import keep_pages
from sparserefine.refinement.refiner import SparseRefiner

FILE = "peaks.json"


def measure_peaks(
    refiners: Mapping[str, SparseRefiner],
    points: SparseRefiner | None,
    dataset: SampleSource,
    ways: Sequence[Baseline],
    out: str | Path,
    *,
    described: Sequence[Mapping[str, Any]] = (),
    advance: Callable[[], None] = lambda: None,
) -> dict[tuple[str, str], float]:
    """Most MiB that a fresh process holds while it runs a method once.

    Args:
        refiners: Trained refiners, by name; the first has the dense model.
        points: Trained refiner with a point perceptron for an extractor; None where there is none.
        dataset: Images; the largest among the first few is predicted.
        ways: The methods to measure, as `baselines` makes them of these refiners.
        out: Folder where each result is kept, so that a stopped run goes on.
        described: Description of each refiner, from `SparseRefiner.describe`.
        advance: Called after each method.

    Returns:
        MiB by family and setting. A method whose process ended early, for lack of memory, is left
        out.
    """
    image = _large_image(dataset)
    model = next(iter(refiners.values()))
    facts = [content_hash(image), str(model.device), torch.get_num_threads(), list(described)]
    # Settings belong to names, and names to descriptions in their order.
    facts += [Environment.current().commit, list(refiners)]
    facts = json.loads(json.dumps(facts))
    path = make_folder(out) / FILE
    document = json.loads(path.read_text()) if path.is_file() else {}
    kept: dict[str, float] = document["peaks"] if document.get("facts") == facts else {}
    peaks: dict[tuple[str, str], float] = {}
    for position, way in enumerate(ways):
        name = f"{way.family} {way.setting}"
        if name not in kept:
            peak = _in_own_process(refiners, points, image, position)
            if peak is not None:
                kept[name] = peak
                text = json.dumps({"facts": facts, "peaks": kept})
                atomic_write(path, lambda partial, text=text: partial.write_text(text))
        if name in kept:
            peaks[way.family, way.setting] = kept[name]
        advance()
    return peaks


def missing_peaks(ways: Sequence[Baseline], peaks: Mapping[tuple[str, str], float]) -> list[str]:
    """A sentence about the methods without a peak, if there are any."""
    missing = [
        f"{way.family} {way.setting}" for way in ways if (way.family, way.setting) not in peaks
    ]
    if not missing:
        return []
    return [
        f"No peak memory of {', '.join(missing)}: the process ended early, most likely for lack of "
        "memory."
    ]


def _in_own_process(
    refiners: Mapping[str, SparseRefiner],
    points: SparseRefiner | None,
    image: Tensor,
    position: int,
) -> float | None:
    spawning = multiprocessing.get_context("spawn")
    receiver, sender = spawning.Pipe(duplex=False)
    arguments = (sender, dict(refiners), points, image, position, torch.get_num_threads())
    process = spawning.Process(target=_measure, args=arguments, daemon=True)
    try:
        process.start()
    except (AttributeError, TypeError, PicklingError) as error:
        raise ValueError(
            f"peak memory is measured in a process of its own, but the dense model cannot be sent "
            f"there ({error}). Leave it out: memory=False (--no-memory)."
        ) from None
    sender.close()
    peak = None
    with suppress(EOFError):
        peak = receiver.recv()
    process.join()
    return peak


def _measure(
    sender: Connection,
    refiners: dict[str, SparseRefiner],
    points: SparseRefiner | None,
    image: Tensor,
    position: int,
    threads: int,
) -> None:
    torch.set_num_threads(threads)
    model = next(iter(refiners.values()))
    if model.dense is not None and model.dense.optimization is not None:
        keep_pages()  # as where the milliseconds are measured
    with torch.no_grad():
        baselines(model, refiners, points)[position].predict(image[None])
    sender.send(peak_mib(str(model.device)))


def _large_image(dataset: SampleSource, tried: int = 8) -> Tensor:
    images = []
    for index in range(min(len(dataset), tried)):
        try:
            images.append(dataset[index].image)
        except ImageError:
            continue
    if not images:
        raise ValueError("none of the first images can be read. Leave those out.")
    return max(images, key=lambda image: image.numel())
