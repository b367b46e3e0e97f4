"""One refined image, ready to be looked at and saved."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Integer, UInt8

from sparserefine import viz
from sparserefine.atomic import atomic_write_all
from sparserefine.environment import Environment
from sparserefine.images import write_image, write_labels
from sparserefine.images.stamp import RECORD

Output = Literal["labels", "overlay", "alpha", "mask"]
"""A picture of a prediction; its file is named after it."""
FILE_STAGES = ("read", "write")
"""Stages of files: whoever runs the dense model at full resolution has them too."""
DEFAULT_OUTPUTS: tuple[Output, ...] = ("labels", "overlay")


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """A segmented image.

    Attributes:
        image: The photo, RGB.
        labels: Class of each pixel, 0..K−1.
        mask: True where a pixel was refined at full resolution.
        entropy: Entropy of the low-resolution prediction on its own grid, in nats.
        stages_ms: Wall time of each stage in milliseconds; empty where it was not asked for.
        model: Description of the model that made it, from `SparseRefiner.describe`.
        class_names: Name of each class; empty where unknown.
        palette: RGB triple of each class; empty where unknown.
        alpha: Share of the foreground in each pixel, 0..1; None where it was not asked for.
    """

    image: UInt8[np.ndarray, "H W 3"]
    labels: Integer[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    entropy: Float[np.ndarray, "h w"]
    stages_ms: Mapping[str, float]
    model: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    palette: tuple[tuple[int, int, int], ...] = ()
    alpha: Float[np.ndarray, "H W"] | None = None

    @property
    def density(self) -> float:
        """Share of the pixels that were refined, 0..1."""
        return float(self.mask.mean())

    @property
    def colors(self) -> UInt8[np.ndarray, "K 3"]:
        """RGB color of each class."""
        if self.palette:
            return np.array(self.palette, dtype=np.uint8)
        return viz.default_palette(int(self.labels.max()) + 1)

    def to_json(self) -> dict[str, Any]:
        """The facts of this prediction as plain values."""
        height, width = self.labels.shape
        computed = {name: ms for name, ms in self.stages_ms.items() if name not in FILE_STAGES}
        return {
            "width": width,
            "height": height,
            "density": round(self.density, 6),
            "model": dict(self.model),
            "stages_ms": {name: round(ms, 3) for name, ms in self.stages_ms.items()},
            "total_ms": round(sum(computed.values()), 3),
            **{
                f"{name}_ms": round(self.stages_ms[name], 3)
                for name in FILE_STAGES
                if name in self.stages_ms
            },
            "classes": self._class_shares(),
            "environment": Environment.current().to_json(),
        }

    def _class_shares(self) -> dict[str, float]:
        values, counts = np.unique(self.labels, return_counts=True)
        names = [self.class_names[v] if v < len(self.class_names) else str(v) for v in values]
        shares = counts / self.labels.size
        return {name: round(float(share), 6) for name, share in zip(names, shares, strict=True)}

    def before_after(
        self,
        low: Integer[np.ndarray, "H W"],
        full: Integer[np.ndarray, "H W"] | None = None,
        reference: Integer[np.ndarray, "H W"] | None = None,
        *,
        detail_only: bool = False,
    ) -> viz.Drawing:
        """Draw what refinement changed, beside what is asked for; see `viz.before_after`.

        Args:
            low: Upsampled labels of the low-resolution prediction.
            full: Labels of the dense model at full resolution; None shows none.
            reference: Labels that decide what is a gain; None takes those of `full`.
            detail_only: Draw the part that changed most, and nothing else.
        """
        return viz.before_after(
            self.image,
            low,
            self.entropy,
            self.mask,
            self.labels,
            full,
            palette=self.colors,
            class_names=self.class_names,
            reference=reference,
            detail_only=detail_only,
        )

    def save(
        self,
        folder: str | Path,
        write: Sequence[str] = DEFAULT_OUTPUTS,
        *,
        others: Mapping[str, str] | None = None,
    ) -> Path:
        """Write pictures and result.json, which names the SHA-256 of each, into `folder`.

        In result.json "total_ms" is without files; "read_ms" and "write_ms", of the pictures, stand
        beside it.

        Args:
            folder: Folder to write into; made where it does not exist.
            write: The pictures: "labels" (palette PNG), "overlay", "alpha" (gray, of predictions
                that have it), "mask" (white where a pixel was refined).
            others: SHA-256 of files in the folder that are part of this result already, by name.

        Returns:
            The folder.

        Raises:
            ValueError: A picture is unknown, or alpha, which this prediction lacks.
            OSError: The folder cannot be written.
        """
        check_outputs(write)
        if "alpha" in write and self.alpha is None:
            raise ValueError("this prediction has no alpha. Ask for it, or take labels.")

        def write_files(partial: Path) -> None:
            files = dict(others or {})
            start = time.perf_counter()
            for output in write:
                path = partial / f"{output}.png"
                self._write(output, path)
                files[path.name] = file_digest(path)
            facts = self.to_json()
            facts |= {"write_ms": round(1000 * (time.perf_counter() - start), 3), "files": files}
            (partial / RECORD).write_text(json.dumps(facts, indent=2) + "\n")

        # The record goes first: if the process is killed after it, it does not fit the files that
        # are still missing or old, and the folder is known as that of a result.
        return atomic_write_all(folder, write_files, first=RECORD)

    def _write(self, output: str, path: Path) -> None:
        if output == "labels":
            write_labels(self.labels, self.colors, path)
        elif output == "overlay":
            write_image(viz.overlay(self.image, self.labels, self.colors), path)
        elif output == "mask":
            write_image(self.mask.astype(np.uint8) * 255, path)
        else:
            assert self.alpha is not None
            write_image((self.alpha * 255).round().astype(np.uint8), path)


def check_outputs(write: Sequence[str]) -> None:
    """Refuse names of pictures that no prediction has.

    Raises:
        ValueError: One is unknown.
    """
    for output in write:
        if output not in get_args(Output):
            raise ValueError(
                f"{output!r} cannot be written, expected some of {', '.join(get_args(Output))}."
            )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, as hex digits.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
