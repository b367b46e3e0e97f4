"""The endings of the files that are videos."""

from __future__ import annotations

from pathlib import Path

WRITTEN = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_MORE = (".3gp", ".avi", ".flv", ".m2ts", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".wmv")


def is_video(path: str | Path) -> bool:
    """Whether a path is that of a video, by its suffix; a folder is none."""
    return Path(path).suffix.lower() in WRITTEN + _MORE and not Path(path).is_dir()
