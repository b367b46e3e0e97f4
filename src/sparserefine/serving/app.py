"""What the server answers, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from urllib.parse import parse_qsl

from sparserefine.serving import description
from sparserefine.serving.form import parse_form, text_of
from sparserefine.serving.job import Job, JobAnswer
from sparserefine.serving.limits import MEGA, Limits
from sparserefine.serving.metrics import Metrics
from sparserefine.serving.pool import Pool
from sparserefine.serving.refusal import RefusalError
from sparserefine.serving.upload import ClientLeftError, Memory, Receive, read_body
from sparserefine.serving.wanted import Served, Wanted, of_predict, of_remove

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]

CHUNK = 1 << 18
CLIENT_LEFT = 499
# Names of a photo's field: ours and rembg's, and what people guess.
_FILE = ("file", "image")


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        status: Status of HTTP.
        content: Its body.
        media_type: What that is.
        headers: More headers.
    """

    status: int
    content: bytes
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of_json(cls, status: int, values: Mapping[str, Any], **more: Any) -> Reply:
        """Plain values."""
        return cls(status, json.dumps(values, ensure_ascii=False).encode(), **more)


Handler = Callable[[Mapping[str, Any], Receive], Awaitable[Reply]]


class App:
    """The server's pages.

    Args:
        pool: Computes.
        served: What the model takes and gives.
        limits: Bounds of requests.
        metrics: Counts them.
    """

    def __init__(self, pool: Pool, served: Served, limits: Limits, metrics: Metrics) -> None:
        self.pool, self.served = pool, served
        self.limits, self.metrics = limits, metrics
        # As much as the queue and the workers may need, and what is being read besides.
        self.memory = Memory((limits.queue + 2 * pool.workers) * limits.max_bytes)
        self._document = description.openapi(served, limits)
        self._page = description.page(self._document, served).encode()
        self._handlers: dict[str, dict[str, Handler]] = {
            "/": {"GET": self._show_page},
            "/docs": {"GET": self._show_page},
            "/openapi.json": {"GET": self._show_document},
            "/health": {"GET": self._show_health},
            "/metrics": {"GET": self._show_metrics},
            "/predict": {"POST": self._predict},
            "/api/remove": {"POST": self._remove, "GET": self._refuse_url},
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request; see the ASGI specification."""
        if scope["type"] != "http":
            return
        start = perf_counter()
        path, method = scope["path"], scope["method"]
        known = path if path in self._handlers else "other"
        try:
            try:
                reply = await self._handler(path, method)(scope, receive)
            except RefusalError as refusal:
                reply = Reply.of_json(
                    refusal.status, {"detail": refusal.detail}, headers=refusal.headers
                )
            with self.memory.held(len(reply.content)):
                await self._send(reply, send, without_body=method == "HEAD")
        except ClientLeftError:
            self.metrics.count_request(known, CLIENT_LEFT)
            return
        self.metrics.count_request(known, reply.status)
        if method == "POST" and reply.status == 200:
            self.metrics.observe_seconds(perf_counter() - start)

    def _handler(self, path: str, method: str) -> Handler:
        handlers = self._handlers.get(path)
        if handlers is None:
            raise RefusalError(404, f"there is no {path[:100]}. See /docs.")
        handler = handlers.get("GET" if method == "HEAD" else method)
        if handler is None:
            allowed = ", ".join(handlers)
            raise RefusalError(
                405, f"{path} takes {allowed}, not {method[:20]}.", (("Allow", allowed),)
            )
        return handler

    async def _send(self, reply: Reply, send: Send, *, without_body: bool) -> None:
        headers = [
            (b"content-type", reply.media_type.encode()),
            (b"content-length", str(len(reply.content)).encode()),
            (b"x-content-type-options", b"nosniff"),
            *((name.lower().encode(), value.encode()) for name, value in reply.headers),
        ]
        content = b"" if without_body else reply.content
        try:
            # A client that reads too slowly is left alone: the server closes the connection.
            async with asyncio.timeout(self.limits.timeout):
                await send(
                    {"type": "http.response.start", "status": reply.status, "headers": headers}
                )
                for start in range(0, len(content), CHUNK):
                    chunk = content[start : start + CHUNK]
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            raise ClientLeftError("it reads too slowly.") from None

    async def _predict(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        return await self._compute(scope, receive, of_predict)

    async def _remove(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        return await self._compute(scope, receive, of_remove)

    async def _compute(
        self,
        scope: Mapping[str, Any],
        receive: Receive,
        read: Callable[[Mapping[str, str], Served], Wanted],
    ) -> Reply:
        with self.memory.held(0) as held:
            body = await read_body(
                scope, receive, self.limits, held, admit=self.pool.refuse_if_full
            )
            fields = parse_form(body, _header(scope, b"content-type"))
            del body
            job = self._job(fields, read(_settings(scope, fields), self.served))
            await self.pool.submit(job)
            try:
                answer = await self._wait(job, receive)
            finally:
                self.pool.withdraw(job)
        if answer.status != 200:
            raise RefusalError(answer.status, answer.detail)
        timing = ", ".join(f"{name};dur={ms:.1f}" for name, ms in answer.stages_ms.items())
        return Reply(200, answer.content, answer.media_type, (("Server-Timing", timing),))

    def _job(self, fields: Mapping[str, bytes], wanted: Wanted) -> Job:
        images = [fields[name] for name in _FILE if name in fields]
        mask = fields.get("mask")
        if len(images) != 1:
            raise RefusalError(
                422, f"the form has {len(images)} photos, expected one, in the field file."
            )
        if self.served.needs_mask and mask is None:
            raise RefusalError(
                422,
                f"the form has no field mask; {self.served.name} refines the mask of a photo. Add "
                "-F mask=@mask.png.",
            )
        if mask is not None and not self.served.needs_mask:
            raise RefusalError(
                422, f"the form has a mask; {self.served.name} needs none. Leave it out."
            )
        future = asyncio.get_running_loop().create_future()
        return Job(wanted=wanted, image=images[0], mask=mask, answer=future)

    async def _wait(self, job: Job, receive: Receive) -> JobAnswer:
        """The worker's answer, unless its client leaves or it takes too long."""
        left = asyncio.ensure_future(receive())  # whatever comes after the body is a good-bye
        try:
            await asyncio.wait(
                {job.answer, left},
                timeout=self.limits.timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            left.cancel()
        if job.answer.done():
            return job.answer.result()
        if left.done() and not left.cancelled():
            raise ClientLeftError("it hung up.")
        raise RefusalError(
            504,
            f"the image was not done in {self.limits.timeout:g} s. Send it again when less is to "
            "do, or scale it down.",
        )

    async def _refuse_url(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        raise RefusalError(
            405,
            "this server fetches no URL. POST the photo itself: curl -F file=@photo.jpg.",
            (("Allow", "POST"),),
        )

    async def _show_page(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        return Reply(200, self._page, "text/html; charset=utf-8", description.PAGE_HEADERS)

    async def _show_document(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        return Reply.of_json(200, self._document)

    async def _show_health(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        ready = len(self.pool.ready)
        facts = {
            "status": "ok" if ready else "no worker is ready",
            "model": self.served.name,
            "outputs": list(self.served.outputs),
            "needs_mask": self.served.needs_mask,
            "device": self.served.device,
            "license": self.served.license,
            "workers": ready,
            "queue": self.pool.queue_length,
            "running": self.pool.running,
        }
        return Reply.of_json(200 if ready else 503, facts)

    async def _show_metrics(self, scope: Mapping[str, Any], receive: Receive) -> Reply:
        text = self.metrics.text(
            {
                "queue_length": ("requests that wait", self.pool.queue_length),
                "in_flight": ("requests that workers compute", self.pool.running),
                "workers": ("workers that are ready", len(self.pool.ready)),
                "held_bytes": ("bytes of bodies and answers in memory", self.memory.bytes),
                "queue_limit": ("requests that may wait", self.limits.queue),
                "body_limit_bytes": ("bytes of a request, at most", self.limits.max_bytes),
                "pixel_limit": ("pixels of an image, at most", self.limits.max_megapixels * MEGA),
            }
        )
        return Reply(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")


def _header(scope: Mapping[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _settings(scope: Mapping[str, Any], fields: Mapping[str, bytes]) -> dict[str, str]:
    """Settings of the query, and those of the form, which count where both have one."""
    query = scope["query_string"].decode("latin-1")
    try:
        settings = dict(parse_qsl(query, max_num_fields=50))
    except ValueError:
        raise RefusalError(422, "the query has more than 50 settings.") from None
    for name in fields.keys() - {*_FILE, "mask"}:
        if (text := text_of(fields, name)) is not None:
            settings[name] = text
    return settings
