"""Where the labels of a raster go: by the name alone it is told whether something is one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from sparserefine.paths import user_path

_TIFF = (".tif", ".tiff")
UNLISTED = "unlisted"
"""Name in the journal that says of labels of an OME-Zarr image that they are whole, but that the
image may not name them yet."""


@dataclass(frozen=True)
class Destination:
    """A file or group to write labels to.

    Attributes:
        path: The GeoTIFF, or the group of the labels.
        image: The OME-Zarr image that the labels are of; None for a GeoTIFF.
    """

    path: Path
    image: Path | None = None

    @property
    def name(self) -> str:
        """Name of the labels."""
        return self.path.name

    @property
    def journal(self) -> Path:
        """Folder for what is finished of it; beside an image, in which others would look at it."""
        if self.image is not None:
            return self.image.with_name(f".{self.image.name}.{self.name}.unfinished")
        return self.path.with_name(f".{self.name}.unfinished")

    @property
    def is_unlisted(self) -> bool:
        """Whether a run ended after the labels got their name, and before the image named them."""
        return self.path.exists() and (self.journal / UNLISTED).exists()


def destination(out: str | os.PathLike[str]) -> Destination | None:
    """The destination that a name means; None where it is none of a raster.

    Args:
        out: NAME.tif, NAME.tiff, or IMAGE.zarr/labels/NAME.
    """
    path = user_path(out)
    if path.suffix.lower() in _TIFF:
        return Destination(path)
    if path.parent.name == "labels" and is_zarr(path.parent.parent):
        return Destination(path, path.parent.parent)
    return None


def is_zarr(path: str | os.PathLike[str]) -> bool:
    """Whether a name is one of a Zarr hierarchy."""
    return Path(path).suffix.lower() == ".zarr"
