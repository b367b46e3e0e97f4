"""What the server and a worker say to each other: JSON, and the bytes of files. No pickles."""

from __future__ import annotations

import json
import struct
from asyncio import IncompleteReadError, StreamReader
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import IO, Any

# Length of the JSON, then its bytes, then the parts that it has the lengths of.
_LENGTH = struct.Struct(">I")
_PARTS = "parts"


@dataclass(frozen=True)
class Frame:
    """One message.

    Attributes:
        header: Plain values.
        parts: Contents of files.
    """

    header: dict[str, Any]
    parts: tuple[bytes, ...] = ()


class BrokenFrameError(EOFError):
    """The other side ended within a message."""


def encode(header: dict[str, Any], parts: Sequence[bytes] = ()) -> list[bytes]:
    """A message as chunks to be written one after the other."""
    text = json.dumps({**header, _PARTS: [len(part) for part in parts]}).encode()
    return [_LENGTH.pack(len(text)), text, *parts]


def read(stream: IO[bytes] | BytesIO) -> Frame | None:
    """Read a message; None where the other side has ended between two.

    Raises:
        BrokenFrameError: It has ended within one.
    """
    length = stream.read(_LENGTH.size)
    if not length:
        return None
    (size,) = _LENGTH.unpack(_whole(length, _LENGTH.size))
    header = json.loads(_whole(stream.read(size), size))
    sizes = header.pop(_PARTS)
    return Frame(header, tuple(_whole(stream.read(size), size) for size in sizes))


async def read_async(stream: StreamReader) -> Frame:
    """Read a message.

    Raises:
        BrokenFrameError: The other side has ended.
    """
    try:
        (size,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
        header = json.loads(await stream.readexactly(size))
        parts = [await stream.readexactly(size) for size in header.pop(_PARTS)]
    except (IncompleteReadError, ConnectionError) as error:
        raise BrokenFrameError("the other side has ended.") from error
    return Frame(header, tuple(parts))


def _whole(data: bytes, size: int) -> bytes:
    if len(data) < size:
        raise BrokenFrameError(f"{len(data)} bytes came, expected {size}.")
    return data
