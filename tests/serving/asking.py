"""Requests to the application without a network, and a pool without processes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from sparserefine.serving.app import App
from sparserefine.serving.job import Job, JobAnswer
from sparserefine.serving.limits import Limits
from sparserefine.serving.metrics import Metrics
from sparserefine.serving.pipeline import Pipeline
from sparserefine.serving.pool import Pool
from sparserefine.serving.spec import Spec
from sparserefine.serving.worker import Task, answer

BOUNDARY = "a-line-between"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
# A client that leaves, in a body or after it.
GONE, LEFT = None, -1.0


class PoolHere(Pool):
    """Answers at once, in this process.

    Args:
        pipeline: The model.
        limits: Bounds of the queue and of pixels.
        seconds: How long each answer takes besides.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits, seconds: float = 0.0) -> None:
        super().__init__(Spec(model="here"), 1, limits, Metrics(), print)
        self.pipeline, self.seconds = pipeline, seconds
        self.ready.add(0)
        self.jobs: list[Job] = []

    async def submit(self, job: Job) -> None:
        self.refuse_if_full()
        self.jobs.append(job)
        asyncio.get_running_loop().call_later(self.seconds, self._answer, job)

    def _answer(self, job: Job) -> None:
        task = Task(0, job.wanted, job.image, job.mask)
        ((header, content),) = answer(self.pipeline, [task], self.limits.max_pixels)
        job.finish(
            JobAnswer(
                header["status"], header.get("type", ""), content, header.get("detail", ""),
                header["stages_ms"],
            )
        )  # fmt: skip


@dataclass
class Answered:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def picture(self) -> Image.Image:
        return Image.open(BytesIO(self.body))

    @property
    def pixels(self) -> np.ndarray:
        return np.array(self.picture)


def form(**fields: bytes | str) -> bytes:
    """A form as browsers send it."""
    body = b""
    for name, value in fields.items():
        file = f'; filename="{name}.png"' if isinstance(value, bytes) else ""
        content = value if isinstance(value, bytes) else value.encode()
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        body += head.encode() + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def app_of(pool: Pool, pipeline: Pipeline) -> App:
    return App(pool, pipeline.served, pool.limits, pool.metrics)


def ask(
    app: App,
    method: str,
    target: str,
    body: Iterable[bytes | float | None] = (),
    content_type: str = FORM,
    **headers: str,
) -> Answered:
    """Send a request whose body comes in parts; numbers are seconds between them."""
    return asyncio.run(send(app, method, target, body, content_type, **headers))


async def send(
    app: App,
    method: str,
    target: str,
    body: Iterable[bytes | float | None] = (),
    content_type: str = FORM,
    **headers: str,
) -> Answered:
    path, _, query = target.partition("?")
    fields = {"content-type": content_type, **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in fields.items()],
    }
    parts = list(body)
    answered = Answered()
    whole = False

    async def receive() -> dict[str, Any]:
        nonlocal whole
        while parts and isinstance(parts[0], float) and parts[0] != LEFT:
            await asyncio.sleep(parts.pop(0))  # type: ignore[arg-type]
        if not parts and whole:
            await asyncio.Event().wait()
        part = parts.pop(0) if parts else b""
        if part in (GONE, LEFT):
            return {"type": "http.disconnect"}
        whole = not parts or parts[0] == LEFT
        return {"type": "http.request", "body": part, "more_body": not whole}

    async def sent(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.status = message["status"]
            answered.headers = {k.decode(): v.decode() for k, v in message["headers"]}
        else:
            answered.body += message["body"]

    await app(scope, receive, sent)
    return answered
