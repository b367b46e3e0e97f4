"""Peak memory of each way, measured in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from sparserefine.data.source import SampleSource
from sparserefine.images import ImageError
from sparserefine.refine.refiner import SparseRefiner
from sparserefine.workflows.contenders import Contender, contenders
from sparserefine.workflows.latency_worker import peak_mib


def measure_peaks(
    refiners: Mapping[str, SparseRefiner],
    points: SparseRefiner | None,
    dataset: SampleSource,
    ways: Sequence[Contender],
    advance: Callable[[], None] = lambda: None,
) -> dict[tuple[str, str], float]:
    """Most memory that a fresh process holds while it runs a way once, in MiB.

    Args:
        refiners: As for `contenders`; the first has the dense model.
        points: Likewise.
        dataset: Its largest image among the first few is predicted.
        ways: Which to measure.
        advance: Called after each.

    Returns:
        By family and setting. A way whose process ends early, for lack of memory, is left out.
    """
    image = _large_image(dataset)
    spawning = multiprocessing.get_context("spawn")
    peaks: dict[tuple[str, str], float] = {}
    for position, way in enumerate(ways):
        receiver, sender = spawning.Pipe(duplex=False)
        arguments = (sender, dict(refiners), points, image, position, torch.get_num_threads())
        process = spawning.Process(target=_measure, args=arguments, daemon=True)
        process.start()
        sender.close()
        with suppress(EOFError):
            peaks[way.family, way.setting] = receiver.recv()
        process.join()
        advance()
    return peaks


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
    with torch.no_grad():
        contenders(model, refiners, points)[position].predict(image[None])
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
