"""A matte as a local linear function of color, to be carried to another resolution.

Source: guided filter, He, Sun & Tang 2013, arXiv:1505.00996 (its fast form).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# Cells that a fit looks at together: those of a grid of 512 a side.
MOST_CELLS = 1 << 18


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
        # Some rows at a time: at megapixels the products alone take gigabytes.
        height, width = alpha.shape
        rows = max(MOST_CELLS // max(width, 1), 1)
        parts = []
        for top in range(0, height, rows):
            first, last = max(top - radius, 0), min(top + rows + radius, height)
            part = cls._fit(image[:, first:last], alpha[first:last], radius, epsilon)
            parts.append(part[:, top - first : top - first + rows])
        return cls(torch.cat(parts, 1))

    @staticmethod
    def _fit(
        image: Float[Tensor, "3 h w"], alpha: Float[Tensor, "h w"], radius: int, epsilon: float
    ) -> Float[Tensor, "4 h w"]:
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
        return torch.cat([a, b[None]]).float()

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

    Sums of two, four, eight make up the sum over any width: a wide square takes hardly longer than
    a narrow one, and nothing is lost as it is between running sums of all that stands before.
    """
    side = 2 * radius + 1
    # One channel at a time stays in the cache.
    means = [_box_sum(_box_sum(one, side), side, dim=1) for one in _padded(x, radius)]
    return torch.stack(means).div_(side * side)


def _padded(x: Float[Tensor, "C h w"], radius: int) -> Float[Tensor, "C h_wide w_wide"]:
    return F.pad(x[None], (radius,) * 4, mode="replicate")[0]


def _box_sum(x: Float[Tensor, "h w"], side: int, dim: int = 0) -> Float[Tensor, "h_out w_out"]:
    """The sum of each `side` neighbors along a dimension, where there are as many."""
    count = x.shape[dim] - side + 1
    total, done, power, width = None, 0, x, 1
    while True:
        if side & width:
            part = power.narrow(dim, done, count)
            total = part if total is None else total + part
            done += width
        if done == side:
            assert total is not None  # no side is 0
            return total
        length = power.shape[dim] - width
        power, width = power.narrow(dim, 0, length) + power.narrow(dim, width, length), 2 * width


def window_slopes(
    colors: Float[Tensor, "3 N P"], values: Float[Tensor, "N P"], epsilon: float
) -> Float[Tensor, "3 N"]:
    """How values depend on the colors in each of many windows, by least squares.

    Args:
        colors: RGB of the P pixels of N windows, less the mean of each window.
        values: What is to be a function of color, less its mean likewise.
        epsilon: How much a large dependency costs, in squared color.
    """
    pairs = {(i, j): (colors[i] * colors[j]).mean(1) for i in range(3) for j in range(i, 3)}
    return solve_symmetric(pairs, (colors * values).mean(2), epsilon)


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
