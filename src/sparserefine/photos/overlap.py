"""Reading and writing in threads beside the work that is done between them."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Job = TypeVar("Job")
Read = TypeVar("Read")
Worked = TypeVar("Worked")
Result = TypeVar("Result")

# So many pixels may wait to be worked on, and as many to be written: 150 MB as RGB.
WAITING_PIXELS = 50_000_000
# Added to the niceness of threads that write. All threads of the model wait for its slowest, so one
# that is held up by a writer holds up all; what is left to write is written while it waits. Not
# more: beside other programs that compute, writers at 19 get next to nothing (dev/LOG.md).
_NICER = 10


@dataclass(frozen=True)
class Settled(Generic[Result]):
    """What `read` returns of a job that needs no work.

    Attributes:
        result: Its result.
        pixels: How much memory it would have taken, which those that follow are taken to need.
    """

    result: Result
    pixels: int = 0


@dataclass(frozen=True)
class Stages(Generic[Job, Read, Worked, Result]):
    """What is done to each job.

    Attributes:
        read: Run in a thread; its result, or a `Settled` one.
        work: Run in the thread of the caller, on a batch.
        write: Run in a thread.
        done: Told of each job in their order, with its result or the exception that it ended with;
            run in the thread of the caller.
        pixels: How much memory what was read takes.
        batch: At most so many jobs are worked on at once.
        alike: Jobs that follow each other may be one batch where this is equal.
    """

    read: Callable[[Job], Read | Settled[Result]]
    work: Callable[[Sequence[tuple[Job, Read]]], Sequence[Worked]]
    write: Callable[[Job, Worked], Result]
    done: Callable[[Job, Result | Exception], None]
    pixels: Callable[[Read], int] = lambda read: 0
    batch: int = 1
    alike: Callable[[Read], Hashable] = lambda read: None


def default_workers() -> int:
    """Threads that read beside the model: half of the cores, at most 8. Twice as many write."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def overlap(jobs: Iterable[Job], stages: Stages[Job, Read, Worked, Result], workers: int) -> None:
    """Read, work on and write jobs in their order, all three at the same time.

    At most `workers` jobs and one more are read ahead, and one more than there are threads to write
    them wait for these; fewer where they are large, where a job that is still being read is taken
    to be as large as the last one that was. So the memory does not depend on the number of jobs.
    When it ends early, by an interrupt or an error of `done`, what is being written is
    finished and told of first.

    Args:
        jobs: What there is to do.
        stages: How it is done.
        workers: Threads that read. Twice as many write, and give way to the work where the system
            lets them. 0 does one after the other.

    Raises:
        ValueError: `workers` or the batch is out of range.
    """
    if workers < 0 or stages.batch < 1:
        raise ValueError(
            f"workers is {workers} and batch {stages.batch}, expected 0 or more and 1 or more."
        )
    with _pool(workers) as readers, _pool(2 * workers, _give_way) as writers:
        reading = _Reading(iter(jobs), stages, workers, readers)
        writing: deque[tuple[Job, Future[Any], int]] = deque()
        try:
            _run(reading, stages, workers, writers, writing)
        finally:
            for _, future in reading.queue:
                future.cancel()
            while writing:
                _tell(writing, stages)


class _Reading(Generic[Job, Read, Worked, Result]):
    """The jobs that are read ahead, and those after them."""

    def __init__(
        self,
        jobs: Iterator[Job],
        stages: Stages[Job, Read, Worked, Result],
        workers: int,
        readers: Executor,
    ) -> None:
        self.queue: deque[tuple[Job, Future[Any]]] = deque()
        self._jobs, self._stages, self._readers = jobs, stages, readers
        self._most = max(stages.batch, workers + 1 if workers else 1)
        self._last: int | None = None  # pixels of the last job that was read

    def fill(self, in_hand: int = 0) -> None:
        """Begin to read as many jobs as there is room for, beside those that are worked on next."""
        while len(self.queue) + in_hand < self._most and self._has_room():
            for job in self._jobs:
                self.queue.append((job, self._readers.submit(self._read, job)))
                break
            else:
                return

    def _read(self, job: Job) -> Read | Settled[Result]:
        read = self._stages.read(job)
        self._last = self._size(read)
        return read

    def _has_room(self) -> bool:
        if not self.queue:
            return True
        if self._last is None:  # nobody knows how large they are, so the first is read alone
            wait([self.queue[-1][1]])
        expected = self._last or 0
        total = expected
        for _, future in self.queue:
            if not future.done():
                total += expected
            elif future.exception() is None and not isinstance(future.result(), Settled):
                total += self._size(future.result())
        return total <= WAITING_PIXELS

    def _size(self, read: Read | Settled[Result]) -> int:
        return read.pixels if isinstance(read, Settled) else self._stages.pixels(read)


def _run(
    reading: _Reading[Job, Read, Worked, Result],
    stages: Stages[Job, Read, Worked, Result],
    workers: int,
    writers: Executor,
    writing: deque[tuple[Job, Future[Any], int]],
) -> None:
    while True:
        reading.fill()
        if not reading.queue:
            return
        batch = _next_batch(reading.queue, stages, writing)
        reading.fill(len(batch))  # or of large ones none would be read meanwhile
        for job, worked in _worked(batch, stages):
            size = sum(stages.pixels(read) for one, read in batch if one is job)
            future: Future[Any] = (
                _failed(worked)
                if isinstance(worked, Exception)
                else writers.submit(stages.write, job, worked)
            )
            writing.append((job, future, size))
        while writing and (
            writing[0][1].done()
            or len(writing) > 2 * workers + 1
            or sum(size for *_, size in writing) > WAITING_PIXELS
        ):
            _tell(writing, stages)


def _next_batch(
    reading: deque[tuple[Job, Future[Any]]],
    stages: Stages[Job, Read, Worked, Result],
    writing: deque[tuple[Job, Future[Any], int]],
) -> list[tuple[Job, Read]]:
    """The next jobs that are alike; those that are settled or failed on the way need no work."""
    batch: list[tuple[Job, Read]] = []
    while reading and len(batch) < stages.batch:
        job, future = reading[0]
        error = future.exception()
        if isinstance(error, Exception) or (error is None and isinstance(future.result(), Settled)):
            if batch:  # these were named before it
                break
            reading.popleft()
            writing.append((job, _failed(error) if error else _settled(future.result()), 0))
            break
        read = future.result()
        if batch and stages.alike(read) != stages.alike(batch[0][1]):
            break
        reading.popleft()
        batch.append((job, read))
    return batch


def _worked(
    batch: Sequence[tuple[Job, Read]], stages: Stages[Job, Read, Worked, Result]
) -> Iterator[tuple[Job, Worked | Exception]]:
    """Each job of a batch with its result; where a batch fails, each is tried alone."""
    if not batch:
        return
    try:
        results: Sequence[Worked | Exception] = stages.work(batch)
    # Whatever it is that one job meets with, the others are done.
    except Exception as error:
        if len(batch) > 1:
            for one in batch:
                yield from _worked([one], stages)
            return
        results = [error]
    yield from zip((job for job, _ in batch), results, strict=True)


def _tell(
    writing: deque[tuple[Job, Future[Any], int]], stages: Stages[Job, Read, Worked, Result]
) -> None:
    job, future, _ = writing[0]
    error = future.exception()
    writing.popleft()
    if error is None:
        stages.done(job, future.result())
    elif isinstance(error, Exception):
        stages.done(job, error)
    else:
        raise error


def _failed(error: Exception) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def _settled(settled: Settled[Any]) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(settled.result)
    return future


def _pool(workers: int, begin: Callable[[], None] | None = None) -> Executor:
    return ThreadPoolExecutor(workers, initializer=begin) if workers else _AtOnce()


def _give_way() -> None:
    """Let the other threads of this process go first. Only Linux has priorities of threads."""
    if sys.platform == "linux":
        with suppress(OSError):
            nice = os.getpriority(os.PRIO_PROCESS, 0) + _NICER
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)


class _AtOnce(Executor):
    """Runs what is submitted before it returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future
