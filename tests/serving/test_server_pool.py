"""The queue and its workers: processes without a model, that do what they are told."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import stub_worker

from sparserefine.serving import pool as pool_module
from sparserefine.serving.job import Job, JobAnswer
from sparserefine.serving.limits import Limits
from sparserefine.serving.metrics import Metrics
from sparserefine.serving.pool import Pool
from sparserefine.serving.refusal import RefusalError
from sparserefine.serving.spec import Spec
from sparserefine.serving.wanted import Wanted


@pytest.fixture(autouse=True)
def _stubs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_START", stub_worker.START)
    monkeypatch.setattr(pool_module, "_FIRST_PAUSE", 0.05)


def job(words: str) -> Job:
    future: asyncio.Future[JobAnswer] = asyncio.get_running_loop().create_future()
    return Job(Wanted(output="cutout"), words.encode(), None, future)


def run(
    work: Callable[[Pool], Awaitable[None]], workers: int = 1, limits: Limits | None = None
) -> tuple[Pool, list[str]]:
    """Do some work with a pool that is started, and closed at the end."""
    said: list[str] = []

    async def main() -> Pool:
        pool = Pool(Spec(model="stub"), workers, limits or Limits(), Metrics(), said.append)
        await pool.start()
        try:
            await work(pool)
        finally:
            await pool.close()
        assert not pool.processes
        return pool

    return asyncio.run(main()), said


async def done(pool: Pool, *words: str) -> list[JobAnswer]:
    jobs = [job(one) for one in words]
    for one in jobs:
        await pool.submit(one)
    return list(await asyncio.gather(*(one.answer for one in jobs)))


def text(answer: JobAnswer) -> tuple[int, int, str]:
    """Process, size of the batch, and what was asked."""
    process, size, words = answer.content.decode().split(" ", 2)
    return int(process), int(size), words


def test_answers_go_to_those_who_asked_in_batches() -> None:
    async def work(pool: Pool) -> None:
        first = asyncio.ensure_future(done(pool, "sleep 0.05"))
        await asyncio.sleep(0.03)
        answers = await done(pool, *map(str, range(6)))
        assert [text(one)[2] for one in answers] == list(map(str, range(6)))
        assert [text(one)[1] for one in answers] == [4, 4, 4, 4, 2, 2]
        assert text((await first)[0])[1] == 1
        assert pool.queue_length == pool.running == 0

    run(work, limits=Limits(batch=4, batch_wait_ms=20.0))


def test_idle_workers_share_what_waits() -> None:
    async def work(pool: Pool) -> None:
        busy = asyncio.ensure_future(done(pool, "sleep 0.1", "sleep 0.1"))
        await asyncio.sleep(0.05)
        # So long that one that wakes late, as others run, finds something to do.
        answers = await done(pool, *["sleep 0.2"] * 4)
        await busy
        assert len({text(one)[0] for one in answers}) == 2

    run(work, workers=2, limits=Limits(batch=1))


def test_the_queue_is_bounded_and_says_when_to_come_again() -> None:
    async def work(pool: Pool) -> None:
        waiting = [job("sleep 0.05") for _ in range(3)]
        await pool.submit(waiting[0])
        await asyncio.sleep(0.02)
        for one in waiting[1:]:
            await pool.submit(one)
        with pytest.raises(RefusalError, match="2 requests wait already") as caught:
            await pool.submit(job("x"))
        assert caught.value.status == 503
        ((name, seconds),) = caught.value.headers
        assert name == "Retry-After" and int(seconds) >= 1
        pool.withdraw(waiting[2])
        assert pool.queue_length == 1 and not pool.is_full
        await asyncio.gather(waiting[0].answer, waiting[1].answer)

    run(work, limits=Limits(queue=2))


def test_a_killed_worker_costs_no_request(tmp_path: Path) -> None:
    async def work(pool: Pool) -> None:
        answers = await done(pool, "a", f"die-once {tmp_path / 'once'}", "b", "sleep 0.05", "c")
        assert [one.status for one in answers] == [200] * 5
        async with asyncio.timeout(20):
            while len(pool.ready) < 2:
                await asyncio.sleep(0.01)
        assert pool.metrics.restarts == 1

    _, said = run(work, workers=2)
    assert said == [said[0]] and "has ended with 9; it is started anew" in said[0]


def test_an_image_that_ends_two_workers_is_given_up_and_no_other(tmp_path: Path) -> None:
    async def work(pool: Pool) -> None:
        answers = await done(pool, "a", "die", "b", "c")
        assert [one.status for one in answers] == [200, 500, 200, 200]
        assert "2 workers have ended on this image" in answers[1].detail

    run(work, limits=Limits(batch=4))


def test_a_worker_that_is_killed_while_idle_comes_again() -> None:
    async def work(pool: Pool) -> None:
        os.kill(pool.processes[0].pid, signal.SIGKILL)
        (answer,) = await done(pool, "a")
        assert answer.status == 200 and len(pool.ready) == 1

    _, said = run(work)
    assert len(said) == 1 and "-9" in said[0]


def test_a_worker_that_takes_too_long_is_ended() -> None:
    async def work(pool: Pool) -> None:
        answers = await done(pool, "sleep 9", "a")
        assert [one.status for one in answers] == [504, 200]
        assert "more than 0.15 s" in answers[0].detail

    _, said = run(work, limits=Limits(timeout=0.15))
    assert "took more than 0.15 s" in said[0]


@pytest.mark.parametrize(
    ("model", "message"),
    [("missing", "no such model. Name another"), ("crash", "ended with 3 while it loaded")],
)
def test_a_model_that_cannot_be_loaded_is_told(model: str, message: str) -> None:
    async def main() -> None:
        pool = Pool(Spec(model=model), 2, Limits(), Metrics(), print)
        with pytest.raises(ValueError, match=message):
            await pool.start()
        assert not pool.processes

    asyncio.run(main())
