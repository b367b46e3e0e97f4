"""What refinement of a given mask finds, ready to be looked at and saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8
from PIL import Image

from sparserefine import viz
from sparserefine.atomic import atomic_write
from sparserefine.images import write_labels

Output = Literal["alpha", "labels", "cutout"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedInstance:
    """One of several instances, in the part of the photo where it may be.

    Attributes:
        window: (top, left, height, width) of that part.
        alpha: Share of the instance in each of its pixels, 0..1; 0 everywhere else.
        name: What the library that found it calls it; empty where it does not.
    """

    window: tuple[int, int, int, int]
    alpha: Float[np.ndarray, "h w"]
    name: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """A photo with its mask at full resolution.

    Attributes:
        image: The photo, upright RGB.
        labels: Class of each pixel, 0..K−1; of one foreground 0 and 1, of instances their number
            from 1 on, 0 where none is.
        mask: True where a pixel was refined; elsewhere the given mask stays.
        alpha: Share of the foreground in each pixel, 0..1; None of several classes.
        colors: The photo, cleaned of the background where alpha lies between; None of classes.
        instances: Each instance for itself; empty where a whole mask was given.
        names: Names of the labels; empty where unknown.
        stages_ms: Milliseconds of each stage.
        icc_profile: Color profile of the photo; empty where it has none.
    """

    image: UInt8[np.ndarray, "H W 3"]
    labels: Integer[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    alpha: Float[np.ndarray, "H W"] | None = None
    colors: UInt8[np.ndarray, "H W 3"] | None = None
    instances: tuple[RefinedInstance, ...] = ()
    names: tuple[str, ...] = ()
    stages_ms: dict[str, float] = field(default_factory=dict)
    icc_profile: bytes = b""

    @property
    def density(self) -> float:
        """Share of the pixels that were refined, 0..1."""
        return float(self.mask.mean())

    def rgba(self) -> UInt8[np.ndarray, "H W 4"]:
        """The foreground with its alpha as the fourth channel, not premultiplied.

        Raises:
            ValueError: There are several classes.
        """
        alpha, colors = self._foreground()
        return np.dstack([colors, np.round(255 * alpha).astype(np.uint8)])

    def save(self, path: str | Path, output: Output | None = None) -> Path:
        """Write a PNG as large as the photo.

        Args:
            path: File to write, ending in .png; its folder must exist.
            output: "alpha" as a gray image, "labels" as a palette PNG, or "cutout", the foreground
                with alpha. Default: alpha of a foreground, labels of classes and instances.

        Raises:
            ValueError: The path does not end in .png, the output is unknown, or it is alpha and
                there are several classes.
            OSError: The file cannot be written.
        """
        if output not in (None, *get_args(Output)):
            raise ValueError(f"output={output!r}: expected one of {', '.join(get_args(Output))}.")
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise ValueError(f"{path} ends in {path.suffix!r}, expected .png, which keeps alpha.")
        if output is None:
            output = "labels" if self.alpha is None or self.instances else "alpha"
        if output == "labels":
            write_labels(self.labels, viz.default_palette(int(self.labels.max()) + 1), path)
            return path
        if output == "alpha":
            alpha, _ = self._foreground()
            picture, profile = Image.fromarray(np.round(255 * alpha).astype(np.uint8)), None
        else:
            picture, profile = Image.fromarray(self.rgba()), self.icc_profile or None
        atomic_write(
            path, lambda partial: picture.save(partial, compress_level=3, icc_profile=profile)
        )
        return path

    def _foreground(self) -> tuple[np.ndarray, np.ndarray]:
        if self.alpha is None or self.colors is None:
            raise ValueError(
                f"there are {int(self.labels.max()) + 1} classes and no one foreground, so there "
                "is no alpha. Take labels, or give the mask of one class: labels == 1."
            )
        return self.alpha, self.colors
