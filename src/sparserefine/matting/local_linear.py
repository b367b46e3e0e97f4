"""A matte as a local linear function of color, to be carried to another resolution.

Source: guided filter, He, Sun & Tang 2013, arXiv:1505.00996 (its fast form).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.ndimage import uniform_filter1d
from torch import Tensor


@dataclass(frozen=True, eq=False)
class LocalLinear:
    """Coefficients of alpha ≈ a · RGB + b, one set per cell of a grid.

    Attributes:
        coefficients: The three of a, then b.
    """

    coefficients: Float[Tensor, "4 h w"]

    @classmethod
    def fit(
        cls,
        image: Float[Tensor, "3 h w"],
        alpha: Float[Tensor, "h w"],
        *,
        radius: int,
        epsilon: float,
    ) -> LocalLinear:
        """Fit a linear model of the colors in the square around each cell.

        Args:
            image: RGB in 0..1.
            alpha: What is to be a function of color.
            radius: Reach of the square in cells; 1 makes it 3×3.
            epsilon: How much a large a costs, in squared color; more makes alpha smoother.
        """
        # Variances are small differences of large numbers.
        colors, values = image.double(), alpha.double()
        mean, mean_alpha = box_mean(colors, radius), box_mean(values[None], radius)[0]
        covariance = box_mean(colors * values, radius) - mean * mean_alpha
        pairs = {
            (i, j): box_mean((colors[i] * colors[j])[None], radius)[0] - mean[i] * mean[j]
            for i in range(3)
            for j in range(i, 3)
        }
        a = solve_symmetric(pairs, covariance, epsilon)
        b = mean_alpha - (a * mean).sum(0)
        return cls(torch.cat([a, b[None]]).float())

    @staticmethod
    def alpha(read: Float[Tensor, "N 4"], image: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Alpha at some pixels, of whatever resolution.

        Args:
            read: The coefficients there, enlarged bilinearly.
            image: RGB of the pixels in 0..1.

        Returns:
            Values in 0..1.
        """
        return ((read[:, :3] * image).sum(1) + read[:, 3]).clamp(0, 1)


def box_mean(x: Float[Tensor, "C h w"], radius: int) -> Float[Tensor, "C h w"]:
    """The mean over the square around each cell; border cells count again beyond the border.

    By running sums, so that a wide square takes no longer than a narrow one.
    """
    array = x.detach().cpu().numpy()
    for axis in (1, 2):
        array = uniform_filter1d(array, 2 * radius + 1, axis=axis, mode="nearest")
    return torch.from_numpy(array).to(x.device)


def solve_symmetric(
    pairs: dict[tuple[int, int], Tensor],
    right: Float[Tensor, "3 ..."],
    epsilon: float,
) -> Float[Tensor, "3 ..."]:
    """Solve many symmetric 3×3 systems, by cofactors: batched solvers take far longer.

    Args:
        pairs: The entries (i, j) with i <= j of each matrix.
        right: The right sides.
        epsilon: Added to each diagonal.
    """
    xx, yy, zz = (pairs[i, i] + epsilon for i in range(3))
    xy, xz, yz = pairs[0, 1], pairs[0, 2], pairs[1, 2]
    c00, c01, c02 = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    c11, c12, c22 = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * c00 + xy * c01 + xz * c02
    x, y, z = right
    rows = (c00 * x + c01 * y + c02 * z, c01 * x + c11 * y + c12 * z, c02 * x + c12 * y + c22 * z)
    return torch.stack(rows) / determinant
