"""Kinds of files by their suffixes, in lower case."""

from __future__ import annotations

import os
from pathlib import Path

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})

IMAGE_SUFFIXES = HEIF_SUFFIXES | {
    ".apng", ".avif", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg",
    ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
}  # fmt: skip
"""Suffixes of the files in a folder that are taken for images."""

VIDEO_SUFFIXES = frozenset(
    {
        ".3gp", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts",
        ".ogv", ".webm", ".wmv",
    }
)  # fmt: skip

RAW_SUFFIXES = frozenset(
    {
        ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".iiq", ".kdc", ".mrw", ".nef",
        ".nrw", ".orf", ".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    }
)  # fmt: skip

# Pictures that Pillow does not read, or only with a program beside it.
_FOREIGN = frozenset(
    {".ai", ".eps", ".exr", ".hdr", ".jxl", ".nd2", ".pdf", ".psb", ".psd", ".svg", ".xcf"}
)


def foreign_kind(path: str | os.PathLike[str]) -> str | None:
    """What a picture or video is that is not read, and what to do; None of all other files."""
    suffix = Path(path).suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return (
            "a video, expected photos. Segment it alone, with --out that ends in .mp4 too; or "
            "extract its frames, upright as ffmpeg writes them, and name their folder"
        )
    if suffix in RAW_SUFFIXES:
        return (
            "a camera's raw file, of which only the preview could be read. Develop it to TIFF or "
            "PNG"
        )
    if suffix in _FOREIGN:
        return f"a picture that is not read ({suffix}). Export it as PNG or TIFF"
    return None
