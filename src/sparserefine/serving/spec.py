"""Which model is served, and how: what a worker needs to know to begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A model and its settings, as plain values.

    Attributes:
        model: "u2netp" or a file of U²-Net or IS-Net, for cut-outs; "edges", for masks; "demo", a
            folder that `train` or `save_pretrained` wrote, or a hub id, for labels.
        weights: The dense model of a refiner that was saved without: a folder of transformers, an
            ONNX file, or a hub id.
        calibration: File calibration.json, to take a refiner's threshold from.
        threshold: Entropy in nats above which a refiner refines a pixel.
        max_density: Pixel budget of a refiner, 0 to 1.
        device: Device of a refiner: "cpu", "cuda", "cuda:1" …; "auto" takes a GPU where there is
            one.
        threads: Threads of each worker.
        max_pixels: Pixels of an image, at most.
        optimize: Run the dense model as `dense.optimize` does.
    """

    model: str
    weights: str | None = None
    calibration: str | None = None
    threshold: float | None = None
    max_density: float | None = None
    device: str = "auto"
    threads: int = 1
    max_pixels: int = 32_000_000
    optimize: bool = True

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Spec:
        """Read what `to_json` gave."""
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)
