"""Files whose compression changes values, as photos allow and class numbers do not."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

_ALWAYS = {"JPEG": "a JPEG", "MPO": "a JPEG", "AVIF": "an AVIF", "HEIF": "a HEIF"}
_IN_TIFF = {"jpeg": "a TIFF with JPEG in it", "webp": "a TIFF with WebP in it"}
# Where JPEG 2000's marker COD has the wavelet: 0 is the one that rounds.
_COD, _WAVELET = b"\xff\x52", 13
_HEADER = 1 << 16


def lossy_kind(path: Path, image: Image.Image) -> str:
    """What a file is, if its compression changes values; empty where it keeps them.

    Args:
        path: The file.
        image: What Pillow opened of it.
    """
    kind = image.format or ""
    if kind == "TIFF":
        return _IN_TIFF.get(str(image.info.get("compression", "")), "")
    if kind == "WEBP" and _has_lossy_webp(path):
        return "a lossy WebP"
    if kind == "JPEG2000":
        header = _head(path)
        at = header.find(_COD)
        if 0 <= at < len(header) - _WAVELET and header[at + _WAVELET] == 0:
            return "a lossy JPEG 2000"
    return _ALWAYS.get(kind, "")


def _has_lossy_webp(path: Path) -> bool:
    """Whether a chunk "VP8 " stands where "VP8L" would keep the values."""
    header, at = _head(path), 12
    while at + 8 <= len(header):
        name, size = header[at : at + 4], int.from_bytes(header[at + 4 : at + 8], "little")
        if name in (b"VP8 ", b"VP8L"):
            return name == b"VP8 "
        # A frame of an animation has 16 bytes before the chunk that is in it.
        at += 24 if name == b"ANMF" else 8 + size + size % 2
    return False


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEADER)
