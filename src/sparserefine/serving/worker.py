"""A process that computes: it reads requests from the server's pipe, and writes answers to it."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from sparserefine.photos.failure import describe_failure
from sparserefine.refinement.timing import StageTimer
from sparserefine.serving import frame
from sparserefine.serving.answer import encode
from sparserefine.serving.pipeline import Opened, Pipeline, open_pipeline
from sparserefine.serving.spec import Spec
from sparserefine.serving.uploaded import check_mask, read_upload
from sparserefine.serving.wanted import Wanted

BAD_IMAGE, OWN_FAULT = 422, 500
# The first image also loads what is loaded when it is first used.
_WARM = (64, 96)


@dataclass(frozen=True)
class Task:
    """A request as it came.

    Attributes:
        number: The server's number of it.
        wanted: What is made of it.
        image: Bytes of the image's file.
        mask: Bytes of the mask's file; None where none is needed.
    """

    number: int
    wanted: Wanted
    image: bytes
    mask: bytes | None


Reply = tuple[dict[str, Any], bytes]
"""What is said of a request (number, status, detail or media type, stages), and the content."""


def main() -> None:
    """Serve the process that started this one, until it closes the pipe."""
    # Whoever ends the server ends it alone: it lets the workers finish, then closes their pipes.
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    requests = sys.stdin.buffer
    first = frame.read(requests)
    if first is None:
        return
    spec = Spec.from_json(first.header)
    torch.set_num_threads(spec.threads)
    try:
        pipeline = open_pipeline(spec)
        _warm_up(pipeline)
    except (ValueError, OSError, ImportError) as error:
        _write(answers, {"error": " ".join(str(error).split())})
        return
    _write(answers, {"served": asdict(pipeline.served)})
    try:
        while (message := frame.read(requests)) is not None:
            for header, content in answer(pipeline, _tasks(message), spec.max_pixels):
                _write(answers, header, content)
    except (frame.BrokenFrameError, BrokenPipeError):
        return  # the server has been killed


def answer(pipeline: Pipeline, tasks: Sequence[Task], max_pixels: int) -> Iterator[Reply]:
    """Answer requests, images of equal size together, each as soon as it is done.

    Args:
        pipeline: The model.
        tasks: The requests.
        max_pixels: Pixels of an image, at most.
    """
    groups: dict[tuple[int, int], list[tuple[Task, Opened, StageTimer]]] = {}
    for task in tasks:
        timer = StageTimer()
        try:
            with timer.stage("read"):
                opened = Opened(
                    read_upload(task.image, max_pixels),
                    None if task.mask is None else check_mask(task.mask, max_pixels),
                    task.wanted,
                )
        except Exception as error:
            yield _failed(task, error)
        else:
            groups.setdefault(opened.size, []).append((task, opened, timer))
    for group in groups.values():
        yield from _answer_group(pipeline, group)


def _answer_group(
    pipeline: Pipeline, group: list[tuple[Task, Opened, StageTimer]]
) -> Iterator[Reply]:
    try:
        results = pipeline.find([opened for _, opened, _ in group])
    except Exception as error:
        if len(group) == 1:
            yield _failed(group[0][0], error)
        else:  # the fault of one is not that of the others
            for one in group:
                yield from _answer_group(pipeline, [one])
        return
    for (task, opened, timer), found in zip(group, results, strict=True):
        stages = dict(timer.stages_ms)
        for stage, ms in found.stages_ms.items():
            stages[stage] = stages.get(stage, 0.0) + ms
        found.stages_ms.update(stages)
        found.notes.extend(opened.photo.notes)
        try:
            with timer.stage("write"):
                media_type, content = encode(found, task.wanted)
        except Exception as error:
            yield _failed(task, error)
            continue
        stages["write"] = timer.stages_ms["write"]
        header = {"number": task.number, "status": 200, "type": media_type, "stages_ms": stages}
        yield header, content


def _failed(task: Task, error: Exception) -> Reply:
    """What is said where an image cannot be done: a sentence for what its sender can mend."""
    known = isinstance(error, ValueError)
    detail = describe_failure(error)
    if not known:
        traceback.print_exception(error)
    status = BAD_IMAGE if known else OWN_FAULT
    return {"number": task.number, "status": status, "detail": detail, "stages_ms": {}}, b""


def _tasks(message: frame.Frame) -> list[Task]:
    parts = iter(message.parts)
    return [
        Task(
            number=one["number"],
            wanted=Wanted.from_json(one["wanted"]),
            image=next(parts),
            mask=next(parts) if one["has_mask"] else None,
        )
        for one in message.header["tasks"]
    ]


def _write(stream: BinaryIO, header: dict[str, Any], content: bytes = b"") -> None:
    for chunk in frame.encode(header, [content]):
        stream.write(chunk)
    stream.flush()


def _warm_up(pipeline: Pipeline) -> None:
    y, x = np.mgrid[: _WARM[0], : _WARM[1]]
    inside = (np.hypot(y - _WARM[0] / 2, x - _WARM[1] / 2) < _WARM[0] / 3).astype(np.uint8)
    image = np.dstack([200 * inside + 30, 90 + 40 * inside, 160 - 100 * inside]).astype(np.uint8)
    labels = io.BytesIO()
    np.save(labels, (pipeline.served.num_classes - 1) * inside[::4, ::4])
    mask = labels.getvalue() if pipeline.served.needs_mask else None
    kind = "mask" if pipeline.served.num_classes == 2 else "labels"
    wanted = Wanted(output=pipeline.served.outputs[0], kind=kind)
    for header, _ in answer(pipeline, [Task(0, wanted, _png(image), mask)], image.size):
        if header["status"] != 200:
            raise ValueError(f"the model cannot be run: {header['detail']}")


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
