"""The queue, and the processes that take from it."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable

from sparserefine.serving import frame
from sparserefine.serving.job import TRIES, Job, JobAnswer
from sparserefine.serving.limits import Limits
from sparserefine.serving.metrics import Metrics
from sparserefine.serving.refusal import RefusalError
from sparserefine.serving.spec import Spec
from sparserefine.serving.wanted import Served

# The same modules as here, wherever they were found; not whatever lies in the working folder.
_START = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from sparserefine.serving.worker import main; main()"
)
# Seconds until a worker that could not be started is tried again, doubled each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
# Of the mean time of a request so much is that of the last one.
_MEMORY = 0.1


class Pool:
    """Workers, and the requests that wait for one.

    Args:
        spec: The model.
        workers: Number of processes.
        limits: Bounds of the queue, of batches and of time.
        metrics: Told of batches, stages and restarts.
        log: Told of workers that ended, a line each.
    """

    def __init__(
        self,
        spec: Spec,
        workers: int,
        limits: Limits,
        metrics: Metrics,
        log: Callable[[str], object],
    ) -> None:
        self.spec, self.workers, self.limits = spec, workers, limits
        self.metrics, self.log = metrics, log
        self.running = 0
        self.served: Served | None = None
        self.ready: set[int] = set()
        self.processes: dict[int, Process] = {}
        self._waiting: deque[Job] = deque()
        self._changed = asyncio.Condition()
        self._idle = 0
        self._seconds = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def queue_length(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether no more requests are taken."""
        return len(self._waiting) >= self.limits.queue

    @property
    def retry_after(self) -> int:
        """Seconds, at least 1, until half of those that wait may be done."""
        ahead = (len(self._waiting) + 1) / 2 / max(self.workers, 1)
        return max(1, math.ceil(ahead * self._seconds))

    async def start(self) -> Served:
        """Start all workers.

        Raises:
            ValueError: The model cannot be loaded; the message says why.
        """
        started = await asyncio.gather(
            *(self._start(slot) for slot in range(self.workers)), return_exceptions=True
        )
        for one in started:
            if isinstance(one, BaseException):
                await self.close()
                raise one
        for slot in range(self.workers):
            self._tasks.append(asyncio.create_task(self._serve(slot)))
        assert self.served is not None
        return self.served

    async def submit(self, job: Job) -> None:
        """Put a request into the queue.

        Raises:
            RefusalError: The queue is full.
        """
        self.refuse_if_full()
        async with self._changed:
            self._waiting.append(job)
            self._changed.notify_all()

    def refuse_if_full(self) -> None:
        """Say so if no more requests are taken.

        Raises:
            RefusalError: The queue is full; it says when to come again.
        """
        if self.is_full:
            seconds = self.retry_after
            raise RefusalError(
                503,
                f"{self.limits.queue} requests wait already. Come again in {seconds} s.",
                (("Retry-After", str(seconds)),),
            )

    def withdraw(self, job: Job) -> None:
        """Take a request back that nobody waits for any more; one that is computed goes on."""
        job.answer.cancel()
        if job in self._waiting:
            self._waiting.remove(job)

    async def close(self) -> None:
        """End the workers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for process in list(self.processes.values()):
            await _end(process)
        self.processes.clear()

    async def _start(self, slot: int) -> Process:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.spec.threads)}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _START, json.dumps(sys.path),
            stdin=PIPE, stdout=PIPE, env=environment, limit=1 << 20,
            # What the terminal sends to the server is not for its workers; a session of their own
            # would also take them out of the server's niceness.
            process_group=0,
        )  # fmt: skip
        self.processes[slot] = process
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.writelines(frame.encode(self.spec.to_json()))
            await process.stdin.drain()
            first = await frame.read_async(process.stdout)
        except (frame.BrokenFrameError, OSError):
            code = await process.wait()
            raise ValueError(f"a worker ended with {code} while it loaded the model.") from None
        if "error" in first.header:
            raise ValueError(first.header["error"])
        self.served = Served.from_json(first.header["served"])
        self.ready.add(slot)
        return process

    async def _restart(self, slot: int) -> Process:
        await _end(self.processes.pop(slot), patience=0.0)
        pause = _FIRST_PAUSE
        while True:
            self.metrics.restarts += 1
            try:
                return await self._start(slot)
            except (ValueError, OSError) as error:
                self.log(f"worker {slot + 1} cannot be started: {error} Again in {pause:g} s.")
                if slot in self.processes:
                    await _end(self.processes.pop(slot))
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _serve(self, slot: int) -> None:
        """Give requests to one worker, and to its successors."""
        while True:
            process = self.processes[slot]
            batch = await self._take_with(process)
            if batch is None:
                left = f"has ended with {process.returncode}"
            else:
                self.running += len(batch)
                try:
                    left = await self._compute(process, batch)
                finally:
                    self.running -= len(batch)
            if left is not None:
                self.ready.discard(slot)
                self.log(f"worker {slot + 1} {left}; it is started anew.")
                await self._give_back(batch or [])
                await self._restart(slot)

    async def _take_with(self, process: Process) -> list[Job] | None:
        """The next requests; None if the worker ends while there are none."""
        take = asyncio.ensure_future(self._take())
        gone = asyncio.ensure_future(process.wait())
        try:
            await asyncio.wait({take, gone}, return_when=asyncio.FIRST_COMPLETED)
            return take.result() if take.done() else None
        finally:
            take.cancel()
            gone.cancel()

    async def _take(self) -> list[Job]:
        """The next requests, as soon as there are any.

        A batch is filled for as long as was said, and leaves their share to workers that have
        nothing to do.
        """
        async with self._changed:
            self._idle += 1
            try:
                await self._changed.wait_for(lambda: self._waiting)
                if len(self._waiting) < self.limits.batch and self.limits.batch_wait_ms > 0:
                    await self._fill()
                share = -(-len(self._waiting) // self._idle)
                batch = [self._waiting.popleft()]
                while len(batch) < min(self.limits.batch, share) and not (
                    batch[0].is_suspect or self._waiting[0].is_suspect
                ):
                    batch.append(self._waiting.popleft())
                return batch
            finally:
                self._idle -= 1

    async def _fill(self) -> None:
        try:
            async with asyncio.timeout(self.limits.batch_wait_ms / 1000):
                await self._changed.wait_for(lambda: len(self._waiting) >= self.limits.batch)
        except TimeoutError:
            pass
        # Another worker may have taken them, or their clients have left.
        await self._changed.wait_for(lambda: self._waiting)

    async def _compute(self, process: Process, batch: list[Job]) -> str | None:
        """Let a worker answer a batch; where it does not, the reason."""
        assert process.stdin is not None and process.stdout is not None
        self.metrics.observe_batch(len(batch))
        start = asyncio.get_running_loop().time()
        limit = self.limits.timeout * len(batch)
        for job in batch:
            job.tries += 1
        try:
            async with asyncio.timeout(limit):
                tasks = [job.header(number) for number, job in enumerate(batch)]
                parts = [part for job in batch for part in job.parts]
                process.stdin.writelines(frame.encode({"tasks": tasks}, parts))
                await process.stdin.drain()
                for _ in batch:
                    _finish(batch, await frame.read_async(process.stdout), self.metrics)
        except TimeoutError:
            for job in batch:
                job.finish(_late(limit))
            return f"took more than {limit:g} s"
        except (frame.BrokenFrameError, OSError):
            return f"has ended with {await _end(process)}"
        seconds = (asyncio.get_running_loop().time() - start) / len(batch)
        self._seconds += (seconds - self._seconds) * (_MEMORY if self._seconds else 1.0)
        return None

    async def _give_back(self, batch: list[Job]) -> None:
        """Put what a lost worker left undone to the front of the queue, or give it up."""
        async with self._changed:
            for job in reversed(batch):
                if job.answer.done():
                    continue
                if job.tries < TRIES:
                    self._waiting.appendleft(job)
                else:
                    job.finish(JobAnswer(500, detail=f"{TRIES} workers have ended on this image."))
            self._changed.notify_all()


def _finish(batch: list[Job], answered: frame.Frame, metrics: Metrics) -> None:
    header = answered.header
    metrics.observe_stages(header["stages_ms"])
    batch[header["number"]].finish(
        JobAnswer(
            status=header["status"],
            media_type=header.get("type", ""),
            content=answered.parts[0],
            detail=header.get("detail", ""),
            stages_ms=header["stages_ms"],
        )
    )


def _late(seconds: float) -> JobAnswer:
    return JobAnswer(504, detail=f"the image took more than {seconds:g} s. Scale it down.")


async def _end(process: Process, patience: float = 1.0) -> int:
    """End a worker: by a word, and after some seconds by force."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(patience):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()
