"""Sessions with the face of rembg's, where rembg itself is not installed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

MEAN, STD, SIZE = (0.4, 0.3, 0.2), (0.5, 0.25, 0.2), (40, 24)


class Network:
    """A session of onnxruntime: finds what is red. Its second output is for training only.

    Args:
        channels: Channels that it says it returns.
        sigmoid: Return probabilities, else logits.
        contrast: How fast it becomes sure.
    """

    def __init__(self, channels: int = 1, sigmoid: bool = True, contrast: float = 30) -> None:
        self.channels, self.sigmoid, self.contrast = channels, sigmoid, contrast

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="input", shape=[1, 3, SIZE[1], SIZE[0]], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        shape = [1, self.channels, SIZE[1], SIZE[0]]
        return [SimpleNamespace(name=name, shape=shape) for name in ("first", "side")]

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        images = feed["input"]
        assert images.shape[2:] == (SIZE[1], SIZE[0]) and images.dtype == np.float32
        mean, std = (np.array(values)[:, None, None] for values in (MEAN, STD))
        red, _, blue = np.moveaxis(images * std + mean, 1, 0)
        logits = (self.contrast * (red - blue - 0.2))[:, None].astype(np.float32)
        first = 1 / (1 + np.exp(-logits)) if self.sigmoid else logits
        return [first, np.zeros_like(first)]


class ProbabilitySession:
    """A session as those of U²-Net: the network ends in a sigmoid."""

    model_name = "redness"

    def __init__(self, channels: int = 1, sigmoid: bool = True) -> None:
        self.inner_session = Network(channels, sigmoid)

    def normalize(self, img: Image.Image, mean: Any, std: Any, size: Any) -> dict[str, np.ndarray]:
        pixels = np.asarray(img.convert("RGB").resize(size, Image.Resampling.LANCZOS))
        images = (pixels / max(pixels.max(), 1e-6) - mean) / std
        return {"input": images.transpose(2, 0, 1)[None].astype(np.float32)}

    def raw(self, img: Image.Image) -> np.ndarray:
        """What the network says of a photo, [h, w]."""
        return self.inner_session.run(None, self.normalize(img, MEAN, STD, SIZE))[0][0, 0]

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        raw = self.raw(img)
        stretched = (raw - raw.min()) / (raw.max() - raw.min())
        mask = Image.fromarray((255 * stretched).astype(np.uint8))
        return [mask.resize(img.size, Image.Resampling.LANCZOS)]


class LogitSession(ProbabilitySession):
    """A session as those of BiRefNet: it applies the sigmoid itself."""

    def __init__(self) -> None:
        super().__init__(sigmoid=False)

    def sigmoid(self, values: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-values))

    def raw(self, img: Image.Image) -> np.ndarray:
        return self.sigmoid(super().raw(img))
