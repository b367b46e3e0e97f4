"""The way a video's frames are turned when they are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8


@dataclass(frozen=True)
class Orientation:
    """What is done to a stored frame to turn it upright.

    Attributes:
        transposed: Rows and columns change places, before anything is flipped.
        rows: The rows are then put upside down.
        columns: The columns are then put from right to left.
    """

    transposed: bool = False
    rows: bool = False
    columns: bool = False

    @classmethod
    def of_matrix(cls, matrix: bytes) -> Orientation:
        """Read a display matrix, rounded to quarter turns.

        Args:
            matrix: Nine 32-bit integers in the machine's byte order, row by row: a point (x, y) of
                the frame is shown at (a x + c y, b x + d y) and then moved into view.
        """
        a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
        if abs(b) > abs(a):
            return cls(True, rows=b < 0, columns=c < 0)
        return cls(False, rows=d < 0, columns=a < 0)

    def turned(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A frame as it is shown."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        steps = (-1 if self.rows else 1, -1 if self.columns else 1)
        return np.ascontiguousarray(image[:: steps[0], :: steps[1]])
