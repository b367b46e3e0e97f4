"""The photos that ship with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

PHOTOS = ("lund", "highway", "wren")


def shipped_photo(name: str) -> Path:
    """Path of a photo that ships with the package.

    Args:
        name: Name of the photo: "lund" or "highway", streets, or "wren", a bird of 8.3 megapixels.

    Raises:
        ValueError: There is no such photo.
    """
    if name not in PHOTOS:
        raise ValueError(f"photo {name!r} is unknown, expected one of {', '.join(PHOTOS)}.")
    return Path(str(files("sparserefine") / "assets" / "photos" / f"{name}.jpg"))
