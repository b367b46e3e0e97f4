"""Where a prediction of the foreground is sure, and where it is not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from scipy.ndimage import distance_transform_cdt
from torch import Tensor
from torch.nn import functional as F

# Below and above them a prediction is taken for sure background and sure foreground.
LOW, HIGH = 0.03, 0.97
# Cells within which a peak must be the largest.
REACH = 3


@dataclass(frozen=True, eq=False)
class Trimap:
    """The cells of a grid that are sure foreground, sure background, or neither.

    Attributes:
        foreground: True where a cell and all cells around it are predicted to be foreground.
        background: True where a cell and all cells around it are predicted to be background.
    """

    foreground: Bool[Tensor, "h w"]
    background: Bool[Tensor, "h w"]

    @classmethod
    def of(
        cls, probability: Float[Tensor, "h w"], *, low: float = LOW, high: float = HIGH
    ) -> Trimap:
        """Take a prediction apart.

        Args:
            probability: Probability of the foreground in 0..1.
            low: A cell is sure background where its probability is below.
            high: A cell is sure foreground where its probability is above.

        Raises:
            ValueError: The limits are not ascending within 0..1.
        """
        if not 0 <= low < high <= 1:
            raise ValueError(f"low={low}, high={high}: expected 0 <= low < high <= 1.")
        return cls(_eroded(probability > high), _eroded(probability < low))

    @classmethod
    def of_prediction(
        cls, probability: Float[Tensor, "h w"], said: Bool[Tensor, "h w"] | None = None
    ) -> Trimap:
        """Take a prediction apart so that no side of it is lost, if that can be helped.

        Args:
            probability: Probability of the foreground in 0..1.
            said: The hard mask that the probability was made of, which means its small parts as
                much as its large ones; None where it was made of none.
        """
        trimap = cls.of(probability)
        if said is None and trimap.is_solvable:
            return trimap
        return trimap.with_peaks(probability, probability > 0.5 if said is None else said)

    def with_peaks(
        self, probability: Float[Tensor, "h w"], said: Bool[Tensor, "h w"], *, reach: int = REACH
    ) -> Trimap:
        """Take the middle of what is too small to have a sure cell for sure as well.

        Without it the small thing would have nothing to spread from, and vanish.

        Args:
            probability: The prediction that was taken apart.
            said: Which cells are foreground, as far as anybody says.
            reach: Cells within which there must be no other sure cell of that side.
        """
        sides = (
            (self.foreground, probability, said),
            (self.background, 1 - probability, ~said),
        )
        return Trimap(
            *(
                sure | (_is_peak(value, reach) & own & ~_dilated(sure, reach))
                for sure, value, own in sides
            )
        )

    def filled(self, probability: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """A prediction with 1 where the foreground is sure, and 0 where the background is."""
        return torch.where(self.foreground, 1.0, torch.where(self.background, 0.0, probability))

    @property
    def unknown(self) -> Bool[Tensor, "h w"]:
        """True where a cell is neither."""
        return ~(self.foreground | self.background)

    def depth(self) -> Float[Tensor, "h w"]:
        """How many cells it is from each unknown one to the nearest sure one; 0 where sure."""
        cells = distance_transform_cdt(self.unknown.cpu().numpy(), metric="chessboard")
        return torch.from_numpy(cells).to(self.unknown.device, torch.float32)

    @property
    def is_solvable(self) -> bool:
        """Whether there is something to find out, and both sides to tell it by."""
        found = torch.stack([self.unknown.any(), self.foreground.any(), self.background.any()])
        return bool(found.all())


def _is_peak(value: Tensor, reach: int) -> Tensor:
    largest = F.max_pool2d(value[None, None], 2 * reach + 1, stride=1, padding=reach)[0, 0]
    return value == largest


def _dilated(mask: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(mask.float()[None, None], 2 * reach + 1, 1, reach)[0, 0] > 0


def _eroded(mask: Tensor) -> Tensor:
    """Shrunk by one cell in all eight directions; beyond the border it goes on."""
    outside = (~mask).float()[None, None]
    return F.max_pool2d(outside, 3, stride=1, padding=1)[0, 0] == 0
