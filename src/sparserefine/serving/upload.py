"""Reading of a request's body, within bounds of bytes, of time and of memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sparserefine.serving.limits import MEGA, Limits
from sparserefine.serving.refusal import RefusalError

# A client that is refused may be sending still, and would not see why if it were cut off: so long
# its bytes are thrown away.
_DRAIN = 2.0


Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientLeftError(Exception):
    """Nobody waits for the answer."""


class Memory:
    """Counts the bytes of all bodies and answers.

    Args:
        limit: Above so many no more bodies are read.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.bytes = limit, 0

    @contextmanager
    def held(self, count: int) -> Iterator[Holder]:
        """Count bytes for as long as the block lasts; more can be added inside."""
        holder = Holder(self, 0)
        holder.add(count, always=True)
        try:
            yield holder
        finally:
            self.bytes -= holder.bytes


@dataclass
class Holder:
    """What one request holds of the memory.

    Attributes:
        memory: All of it.
        bytes: Its own.
    """

    memory: Memory
    bytes: int

    def add(self, count: int, *, always: bool = False) -> None:
        """Count more bytes.

        Args:
            count: How many.
            always: Count them also where they are too many.

        Raises:
            RefusalError: All requests together hold too many.
        """
        if not always and self.memory.bytes + count > self.memory.limit:
            raise RefusalError(
                503,
                f"requests of {self.memory.bytes / MEGA:.0f} MB are in work already. Come again in "
                "1 s.",
                (("Retry-After", "1"),),
            )
        self.memory.bytes += count
        self.bytes += count


async def read_body(
    scope: Mapping[str, Any],
    receive: Receive,
    limits: Limits,
    holder: Holder,
    *,
    admit: Callable[[], None],
) -> bytes:
    """All bytes of a request.

    Args:
        scope: What ASGI says of it.
        receive: Gives the next part.
        limits: Bounds of bytes and time.
        holder: Counts the bytes.
        admit: Refuses the request where it need not be read at all.

    Raises:
        RefusalError: They are too many, or too slow.
        ClientLeftError: The client has hung up.
    """
    headers = dict(scope["headers"])
    body = _Body(receive)
    try:
        admit()
        announced = int(headers.get(b"content-length", b"0"))
        if announced > limits.max_bytes:
            raise _too_large(limits)
        return await _read(body, limits, holder)
    except RefusalError:
        # Who asks before sending is told instead.
        if b"expect" not in headers:
            await _drain(body)
        raise


class _Body:
    """A body as it comes.

    Attributes:
        is_whole: Whether all of it has come.
    """

    def __init__(self, receive: Receive) -> None:
        self.is_whole = False
        self._receive = receive

    async def more(self) -> bytes:
        """The next bytes.

        Raises:
            ClientLeftError: The client has hung up.
        """
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientLeftError("it hung up.")
        self.is_whole = not message.get("more_body", False)
        return message.get("body", b"")


async def _read(body: _Body, limits: Limits, holder: Holder) -> bytes:
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.timeout):
            while not body.is_whole:
                chunks.append(await body.more())
                size += len(chunks[-1])
                if size > limits.max_bytes:
                    raise _too_large(limits)
                holder.add(len(chunks[-1]))
    except TimeoutError:
        raise RefusalError(
            408,
            f"the upload was not done in {limits.timeout:g} s. Send a smaller file.",
            (("Connection", "close"),),
        ) from None
    return b"".join(chunks)


async def _drain(body: _Body) -> None:
    try:
        async with asyncio.timeout(_DRAIN):
            while not body.is_whole:
                await body.more()
    except TimeoutError:
        return


def _too_large(limits: Limits) -> RefusalError:
    return RefusalError(
        413,
        f"the request has more than {limits.max_megabytes:g} MB. Send a smaller file, such as a "
        "JPEG.",
    )
