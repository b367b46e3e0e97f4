"""Reading and writing in threads: order, bounds, failures and interrupts."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from sparserefine.images.quiet import quiet_decoders
from sparserefine.photos import overlap as module
from sparserefine.photos.overlap import Settled, Stages, overlap


class Work:
    """Jobs are numbers; what is told of each is its square as text."""

    def __init__(self, **broken: int) -> None:
        self.broken = broken
        self.told: list[tuple[int, Any]] = []
        self.batches: list[int] = []
        self.read_ahead = self.unwritten = 0
        self._read = self._worked = self._written = 0
        self._lock = threading.Lock()

    def read(self, job: int) -> int | Settled[str]:
        with self._lock:
            self._read += 1
            self.read_ahead = max(self.read_ahead, self._read - self._worked)
        if self.broken.get("read") == job:
            raise ValueError(f"read {job}")
        if self.broken.get("settled") == job:
            return Settled("known", self.pixels)
        return job * job

    def work(self, batch: Sequence[tuple[int, int]]) -> list[int]:
        self.batches.append(len(batch))
        if any(job == self.broken.get("work") for job, _ in batch):
            raise ValueError("work")
        if any(job == self.broken.get("stop") for job, _ in batch):
            raise KeyboardInterrupt
        with self._lock:
            self._worked += len(batch)
            self.unwritten = max(self.unwritten, self._worked - self._written)
        return [square for _, square in batch]

    def write(self, job: int, square: int) -> str:
        time.sleep(0.002)
        with self._lock:
            self._written += 1
        if self.broken.get("write") == job:
            raise ValueError(f"write {job}")
        return str(square)

    def stages(self, batch: int, pixels: int) -> Stages[int, int, int, str]:
        return Stages(
            read=self.read,
            work=self.work,
            write=self.write,
            done=lambda job, result: self.told.append((job, result)),
            pixels=lambda read: pixels,
            batch=batch,
        )

    def run(self, count: int, workers: int, batch: int = 1, pixels: int = 1) -> None:
        self.pixels = pixels
        overlap(range(count), self.stages(batch, pixels), workers)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_results_come_in_order_and_few_wait(workers: int, batch: int) -> None:
    work = Work()
    work.run(30, workers, batch)
    assert work.told == [(job, str(job * job)) for job in range(30)]
    assert work.read_ahead <= max(batch, workers + 1)
    assert work.unwritten <= 2 * workers + 2 + batch
    assert max(work.batches) == batch


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
def test_what_writes_gives_way_to_what_works() -> None:
    niceness: dict[str, set[int]] = {"read": set(), "work": set(), "write": set()}

    def at(stage: str) -> None:
        niceness[stage].add(os.getpriority(os.PRIO_PROCESS, 0))

    stages = Stages[int, int, int, None](
        read=lambda job: at("read") or job,
        work=lambda batch: at("work") or [read for _, read in batch],
        write=lambda job, worked: at("write"),
        done=lambda job, result: None,
    )
    own = os.getpriority(os.PRIO_PROCESS, 0)
    overlap(range(5), stages, 2)
    assert niceness == {"read": {own}, "work": {own}, "write": {min(own + module._NICER, 19)}}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_of_large_photos_fewer_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_PIXELS", 100)
    small, large = Work(), Work()
    small.run(20, 8, pixels=1)
    large.run(20, 8, pixels=1000)
    assert [job for job, _ in large.told] == list(range(20))
    assert large.unwritten == 1 < small.unwritten


@pytest.mark.parametrize("settled", [None, 0])
def test_of_large_photos_few_are_read_ahead_from_the_first_on(
    settled: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that needs no work, as with `resume`, tells its size too."""
    monkeypatch.setattr(module, "WAITING_PIXELS", 100)
    for pixels, waiting in ((1000, 1), (51, 1), (50, 2), (30, 3)):
        work = Work() if settled is None else Work(settled=settled)
        work.run(12, 8, pixels=pixels)
        assert work.read_ahead <= waiting + 1 + (settled is not None)


def test_of_large_photos_the_next_is_read_while_one_is_worked_on() -> None:
    begun = [threading.Event() for _ in range(5)]
    work = Work()

    def segment(batch: Sequence[tuple[int, int]]) -> list[int]:
        assert all(begun[min(job + 1, 4)].wait(10) for job, _ in batch)
        return [square for _, square in batch]

    def read(job: int) -> int:
        begun[job].set()
        return job * job

    large = work.stages(1, module.WAITING_PIXELS + 1)
    overlap(range(5), replace(large, read=read, work=segment), 1)
    assert work.told == [(job, str(job * job)) for job in range(5)]


def test_small_photos_are_read_by_all_threads_at_once() -> None:
    """Once the first has told its size."""
    together = threading.Barrier(4)
    work = Work()

    def read(job: int) -> int:
        if job:
            together.wait(10)
        return job

    overlap(range(13), replace(work.stages(1, 1), read=read), 4)
    assert [result for _, result in work.told] == [str(job) for job in range(13)]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("stage", ["read", "work", "write", "settled"])
def test_a_job_that_fails_or_is_settled_leaves_the_others(stage: str, batch: int) -> None:
    work = Work(**{stage: 4})
    work.run(8, 2, batch)
    assert [job for job, _ in work.told] == list(range(8))
    odd = dict(work.told).pop(4)
    assert odd == "known" if stage == "settled" else isinstance(odd, ValueError)
    assert all(result == str(job * job) for job, result in work.told if job != 4)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupt_finishes_what_is_written(workers: int) -> None:
    work = Work(stop=5)
    with pytest.raises(KeyboardInterrupt):
        work.run(9, workers)
    assert work.told == [(job, str(job * job)) for job in range(5)]


def test_numbers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="workers is -1 and batch 1, expected 0 or more"):
        Work().run(1, -1)
    with pytest.raises(ValueError, match="batch 0"):
        Work().run(1, 0, 0)


def test_threads_that_decode_leave_the_filters_of_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    second, first_is_done = threading.Event(), threading.Event()

    def decode() -> None:
        with quiet_decoders():
            second.set()
            first_is_done.wait(5)

    with quiet_decoders():
        thread = threading.Thread(target=decode)
        thread.start()
        assert second.wait(5)
    assert list(warnings.filters) != before  # the second still decodes
    first_is_done.set()
    thread.join()
    assert list(warnings.filters) == before
