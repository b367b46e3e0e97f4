"""The size that the dense model runs at."""

from __future__ import annotations

from dataclasses import dataclass

from sparserefine.dense import Fit


@dataclass(frozen=True)
class DenseSize:
    """Brings an image to a size that the dense model takes: resized, then padded.

    Attributes:
        value: A scale of each side, 0 to 1; or a fixed (height, width).
        divisor: Number that the sides of the model's inputs must be multiples of.
        fit: How an image is brought to a fixed size: "keep" fits it in with its proportions, and
            never enlarges it; "stretch" resizes it to just that size, so that the cells of the
            prediction need not be square.
    """

    value: float | tuple[int, int]
    divisor: int
    fit: Fit = "keep"

    def __post_init__(self) -> None:
        if isinstance(self.value, tuple):
            if len(self.value) != 2:
                raise ValueError(f"dense_size={self.value}: expected (height, width), or a scale.")
            if any(side < self.divisor or side % self.divisor for side in self.value):
                raise ValueError(
                    f"dense_size={self.value} is not a multiple of {self.divisor}, which the "
                    f"dense model needs. Use {self.padded(self.value)}."
                )
        elif not 0 < self.value <= 1:
            raise ValueError(
                f"dense_size={self.value}: expected a scale above 0 and at most 1, or "
                f"(height, width)."
            )

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size that an image of (H, W) `size` is resized to."""
        scale = self.value
        if isinstance(scale, tuple):
            if self.fit == "stretch":
                return scale
            # Enlarging beyond full resolution would cost time and add nothing.
            scale = min(scale[0] / size[0], scale[1] / size[1], 1.0)
        return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Size that an image resized to `size` is padded to."""
        height, width = (max(-(-side // self.divisor), 1) * self.divisor for side in size)
        return height, width
