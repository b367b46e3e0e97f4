"""What the image processors of transformers do to the numbers of a photo, read from their files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparserefine.dense.adapters.wrapped import Channels

FILES = ("preprocessor_config.json", "processor_config.json")
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
# Their processor rescales and flips, whatever its file says of a mean.
_NEVER_NORMALIZE = ("MobileViT",)
Triple = tuple[float, ...]


@dataclass(frozen=True)
class Preprocessing:
    """Normalization of images in 0..1, and the order of their channels.

    Attributes:
        mean: Mean of red, green and blue.
        std: Standard deviation of red, green and blue.
        channels: Order in which the model takes the channels.
    """

    mean: Triple
    std: Triple
    channels: Channels

    def after(self, settings: Mapping[str, Any], source: str) -> Preprocessing:
        """What a processor does to a photo's numbers, of 0..255.

        With f the factor it rescales by, m and s its mean and standard deviation:
        (255 f x - m) / s = (x - m / 255 f) / (s / 255 f) of x in 0..1.

        Args:
            settings: Its settings; what is absent or null is as in this one, the family's.
            source: Where they are from, for messages.

        Raises:
            ValueError: They are no numbers of three channels, or do not tell whether they are of
                images in 0..1 or 0..255.
        """
        given = {name: value for name, value in settings.items() if value is not None}
        channels = self.channels
        if "do_flip_channel_order" in given:
            channels = "bgr" if given["do_flip_channel_order"] else "rgb"
        kind = str(given.get("image_processor_type") or given.get("feature_extractor_type") or "")
        rescales = given.get("do_rescale", True)
        # The family's own: one that does not normalize has a mean of 0.
        normalizes = given.get("do_normalize", (self.mean, self.std) != (ZERO, ONE))
        if kind.startswith(_NEVER_NORMALIZE):
            normalizes = False
        factor = float(given.get("rescale_factor", 1 / 255)) if rescales else 1.0
        scale = 255 * factor
        if not scale > 0:
            raise ValueError(f"{source} rescales by {factor}, expected a factor above 0.")
        if abs(scale - 1) < 1e-3:  # 1/255 as people write it
            scale = 1.0
        if not normalizes:
            return Preprocessing(ZERO, (1 / scale,) * 3, channels)
        mean, std = (
            _triple(given.get(f"image_{name}", default), f"image_{name}", source)
            for name, default in (("mean", self.mean), ("std", self.std))
        )
        found = Preprocessing(
            tuple(value / scale for value in mean), tuple(value / scale for value in std), channels
        )
        of_unit = all(abs(value) <= 1 for value in mean) and all(value <= 1 for value in std)
        if (not rescales and of_unit) or any(abs(value) > 2 for value in found.mean):
            raise ValueError(
                f"{source} has do_rescale={bool(rescales)} and image_mean={list(mean)}: whether "
                "they are of images in 0..1 or in 0..255 is not said. Pass mean and std of images "
                "in 0..1 to from_transformers."
            )
        return found


def read_settings(folder: Path) -> tuple[dict[str, Any], Path | None]:
    """The settings of the image processor in a folder, and the file; empty where there is none.

    Raises:
        ValueError: The file is not JSON.
    """
    for name in FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            content = json.loads(file.read_text())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{file} is not JSON ({error}). Download it again.") from None
        # Processors of text and images keep the settings of both in one file.
        content = content.get("image_processor", {} if name != FILES[0] else content)
        if content:
            return content, file
    return {}, None


def _triple(values: Any, name: str, source: str) -> Triple:
    numbers = list(values) if isinstance(values, list | tuple) else [values]
    if len(numbers) == 1:
        numbers = numbers * 3
    if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(
            f"{source} has {name}={values}, expected three numbers: red, green and blue. Models of "
            "other than three channels are not supported."
        )
    return tuple(map(float, numbers))
