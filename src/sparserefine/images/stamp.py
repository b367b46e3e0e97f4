"""The stamp on pictures that this package makes, so that they are not taken for photos."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

NAME = "sparserefine"
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SOFTWARE = b"Software\0" + NAME.encode()
_SOURCE = "Source file"
RECORD = "result.json"
RESULT_PICTURES = ("labels.png", "overlay.png", "alpha.png", "mask.png")
"""What `Prediction.save` writes beside `RECORD`; these pictures have no stamp of their own."""


def png_stamp(source: str | os.PathLike[str] | None = None) -> PngInfo:
    """Text for a PNG: who wrote it, and of which photo.

    Args:
        source: The photo; None where there is no file of it.
    """
    text = PngInfo()
    text.add_text("Software", NAME)
    if source is not None:
        # Names of old disks may be no UTF-8.
        name = os.fsencode(os.path.abspath(source)).decode("utf-8", "replace")
        text.add_itxt(_SOURCE, name)
    return text


def text_chunks(text: PngInfo) -> bytes:
    """A text as chunks of a PNG that is written without Pillow."""
    chunks = b""
    for kind, content, *_ in text.chunks:
        checksum = zlib.crc32(kind + content)
        chunks += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)
    return chunks


def is_result(path: Path) -> bool:
    """Whether a file is a picture that this package made of a photo, or drew.

    Raises:
        OSError: It cannot be read.
    """
    if path.suffix.lower() != ".png":
        return False
    if path.name in RESULT_PICTURES and (
        is_record(path.parent / RECORD)
        or all((path.parent / one).exists() for one in (RECORD, *RESULT_PICTURES[:2]))
    ):
        return True
    with path.open("rb") as file:
        if file.read(8) != _SIGNATURE:
            return False
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind in (b"IDAT", b"IEND"):
                return False
            if kind == b"tEXt" and length == len(_SOFTWARE) and file.read(length) == _SOFTWARE:
                return True
            if kind != b"tEXt" or length != len(_SOFTWARE):
                file.seek(length, os.SEEK_CUR)
            file.seek(4, os.SEEK_CUR)  # the checksum
    return False


def is_record(path: Path) -> bool:
    """Whether a file says of a result what `Prediction.save` says of it."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(facts, dict) and {"model", "density"} <= facts.keys()


def source_of(image: Image.Image) -> str:
    """The photo that a PNG is a result of, as it says itself; empty where it does not."""
    text = getattr(image, "text", {})
    return str(text.get(_SOURCE, "")) if text.get("Software") == NAME else ""
