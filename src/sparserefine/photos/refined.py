"""What refinement of a given mask finds, ready to be looked at and saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from sparserefine import viz
from sparserefine.images import write_labels
from sparserefine.images.stamp import png_stamp
from sparserefine.paths import user_path
from sparserefine.photos.foreground import Foreground

Output = Literal["alpha", "labels", "cutout"]

STAYS = "follows the edges of its photo already, and stays as it is"
"""What is said of a mask that is kept."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RefinedInstance:
    """One of several instances, in the part of the photo where it may be.

    Attributes:
        window: (top, left, height, width) of that part.
        alpha: Share of the instance in each of its pixels, 0..1; 0 everywhere else.
        name: What the library that found it calls it; empty where it does not.
        kept: How much of its mask stays as it was; see `Refined`.
    """

    window: tuple[int, int, int, int]
    alpha: Float[np.ndarray, "h w"]
    name: str = ""
    kept: float = 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Refined:
    """A photo with its mask at full resolution.

    Attributes:
        image: The photo, upright RGB.
        labels: Class of each pixel, 0..K−1; of one foreground 0 and 1, of instances their number
            from 1 on, 0 where none is.
        mask: True where a pixel was refined; elsewhere the given mask stays. Of a mask that is kept
            the pixels that are of both sides.
        foreground: Its alpha and colors; None of several classes.
        instances: Each instance for itself; empty where a whole mask was given.
        names: Names of the labels; empty where unknown.
        kept: How much of the given mask stays as it was: 1 where it follows the photo's edges
            already, 0 where it is refined, between these where that is close; of instances the
            mean.
        stages_ms: Milliseconds of each stage.
    """

    image: UInt8[np.ndarray, "H W 3"]
    labels: Integer[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    foreground: Foreground | None = None
    instances: tuple[RefinedInstance, ...] = ()
    names: tuple[str, ...] = ()
    kept: float = 0.0
    stages_ms: dict[str, float] = field(default_factory=dict)

    @property
    def alpha(self) -> Float[np.ndarray, "H W"] | None:
        """Share of the foreground in each pixel, 0..1; None of several classes."""
        return None if self.foreground is None else self.foreground.alpha

    @property
    def density(self) -> float:
        """Share of the pixels that were refined, 0..1."""
        return float(self.mask.mean())

    def save(
        self,
        path: str | Path,
        output: Output | None = None,
        *,
        source: str | Path | None = None,
    ) -> Path:
        """Write a PNG as large as the photo.

        Args:
            path: File to write, ending in .png; its folder must exist.
            output: "alpha" as a gray image, "labels" as a palette PNG (above 255 as a gray one of
                16 bits), or "cutout", the foreground with alpha. Default: alpha of a foreground,
                labels of classes and instances.
            source: The photo's file, to be named in what is written.

        Raises:
            ValueError: The path does not end in .png, the output is unknown, or it is alpha and
                there are several classes.
            OSError: The file cannot be written.
        """
        if output not in (None, *get_args(Output)):
            raise ValueError(f"output={output!r}: expected one of {', '.join(get_args(Output))}.")
        if output is None:
            output = "labels" if self.foreground is None or self.instances else "alpha"
        if output == "labels":
            return self._save_labels(user_path(path), source)
        if self.foreground is None:
            raise ValueError(
                f"there are {int(self.labels.max()) + 1} classes and no one foreground, so there "
                "is no alpha. Take labels, or give the mask of one class: labels == 1."
            )
        return self.foreground.save(path, alpha_only=output == "alpha", source=source)

    def _save_labels(self, path: Path, source: str | Path | None) -> Path:
        palette = viz.default_palette(min(int(self.labels.max()), 255) + 1)
        write_labels(self.labels, palette, path, text=png_stamp(source))
        return path
