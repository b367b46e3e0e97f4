"""Closed-form matting at the unknown cells alone.

Source: Levin, Lischinski & Weiss 2008, "A closed-form solution to natural image matting". There
the system has a row for each pixel of the image; here only unknown cells have one, the sure ones
being constants on its right side.
"""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Bool, Float, Int
from scipy.sparse import csc_matrix, diags
from scipy.sparse.linalg import splu
from torch import Tensor
from torch.nn import functional as F

from sparserefine.matting.local_linear import solve_symmetric

# What a color variance counts for less than: as in the implementations that people use.
EPSILON = 1e-7
REGULARIZATION = 1e-12

_WINDOW = tuple(product((-1, 0, 1), repeat=2))
"""Offsets of the cells of a 3×3 window from its center."""
_STENCIL = tuple(product(range(-2, 3), repeat=2))
"""Offsets of the cells that share a window with a cell."""


def closed_form_alpha(
    image: Float[Tensor, "3 h w"],
    alpha: Float[Tensor, "h w"],
    unknown: Bool[Tensor, "h w"],
    *,
    weight: Float[Tensor, "h w"] | None = None,
    epsilon: float = EPSILON,
) -> Float[Tensor, "h w"]:
    """Find the alpha that is closest to a linear function of color in every 3×3 window.

    Args:
        image: RGB in 0..1.
        alpha: Alpha of the sure cells, and what is expected of the unknown ones.
        unknown: The cells whose alpha is to be found.
        weight: How much it costs, of each unknown cell, to be far from what is expected; the
            squared distance counts that much. None: it costs nothing.
        epsilon: Regularization of the windows' color variances.

    Returns:
        `alpha` with the unknown cells replaced, in 0..1, float32.
    """
    height, width = alpha.shape
    cells = unknown.flatten().nonzero().squeeze(1)
    if len(cells) == 0 or min(height, width) < 3:
        return alpha.float()
    rows = _laplacian_rows(image.double(), unknown, cells, epsilon)  # [U, 25]
    columns = _columns(cells, unknown)
    is_unknown = columns >= 0
    neighbors = F.pad(alpha.double().masked_fill(unknown, 0), (2, 2, 2, 2)).flatten()
    known = neighbors[_neighbors(cells, height, width)]
    right = -(rows * known).sum(1)
    # Cells in windows of one color are tied to nothing else: the smallest weight keeps them.
    own = torch.full_like(right, REGULARIZATION)
    if weight is not None:
        expected = weight.double().flatten()[cells]
        own, right = own + expected, right + expected * alpha.double().flatten()[cells]
    places = is_unknown.nonzero()[:, 0], columns[is_unknown]
    found = _solve(rows[is_unknown], *places, own, right)
    result = alpha.float().clone()
    result.view(-1)[cells] = found.clamp(0, 1).float().to(result.device)
    return result


def _laplacian_rows(
    image: Float[Tensor, "3 h w"],
    unknown: Bool[Tensor, "h w"],
    cells: Int[Tensor, " U"],
    epsilon: float,
) -> Float[Tensor, "U 25"]:
    """The rows of the matting Laplacian of the unknown cells, over the cells around each."""
    height, width = unknown.shape
    touched = F.max_pool2d(unknown.float()[None, None], 3, stride=1, padding=1)[0, 0] > 0
    touched[[0, -1]] = False  # windows lie inside the image
    touched[:, [0, -1]] = False
    centers = touched.flatten().nonzero().squeeze(1)
    steps = [dy * width + dx for dy, dx in _WINDOW]
    inside = centers[:, None] + centers.new_tensor(steps)
    colors = image.flatten(1)[:, inside.t()]  # [3, 9, W]: batched products of 3×3 take far longer
    colors = colors - colors.mean(1, keepdim=True)
    pairs = {(i, j): (colors[i] * colors[j]).mean(0) for i in range(3) for j in range(i, 3)}
    weighted = solve_symmetric(pairs, colors, epsilon / 9)
    number = centers.new_full((height * width,), len(centers))
    number[centers] = torch.arange(len(centers), device=centers.device)
    padded = F.pad(number.view(height, width), (1, 1, 1, 1), value=len(centers)).flatten()
    y, x = cells // width + 1, cells % width + 1
    rows = colors.new_zeros(len(_STENCIL), len(cells))
    for place, (dy, dx) in enumerate(_WINDOW):
        window = -(1 + (colors[:, place, None] * weighted).sum(0)) / 9  # [9, W]
        window[place] += 1
        window = F.pad(window, (0, 1))  # nothing of windows that do not exist
        # The window in which the cell has this place.
        own = padded[(y - dy) * (width + 2) + x - dx]
        reached = [_STENCIL.index((ty - dy, tx - dx)) for ty, tx in _WINDOW]
        rows[reached] += window[:, own]
    return rows.t().contiguous()


def _neighbors(cells: Int[Tensor, " U"], height: int, width: int) -> Int[Tensor, "U 25"]:
    y, x = cells // width + 2, cells % width + 2
    steps = cells.new_tensor([dy * (width + 4) + dx for dy, dx in _STENCIL])
    return (y * (width + 4) + x)[:, None] + steps


def _columns(cells: Int[Tensor, " U"], unknown: Bool[Tensor, "h w"]) -> Int[Tensor, "U 25"]:
    """The number of each neighbor among the unknown cells; -1 where it is none."""
    height, width = unknown.shape
    number = cells.new_full((height, width), -1)
    number.view(-1)[cells] = torch.arange(len(cells), device=cells.device)
    padded = F.pad(number, (2, 2, 2, 2), value=-1).flatten()
    return padded[_neighbors(cells, height, width)]


def _solve(
    values: Float[Tensor, " E"],
    rows: Int[Tensor, " E"],
    columns: Int[Tensor, " E"],
    diagonal: Float[Tensor, " U"],
    right: Float[Tensor, " U"],
) -> Float[Tensor, " U"]:
    """Solve the sparse system, with something added to its diagonal, exactly.

    The unknown cells lie in a thin band, so a factorization stays sparse: 30 to 60 numbers a row.
    Conjugate gradients need hundreds of steps, as the system is ill-conditioned by nature.
    """
    unknowns = len(right)
    places = (rows.cpu().numpy(), columns.cpu().numpy())
    matrix = csc_matrix((values.cpu().numpy(), places), shape=(unknowns, unknowns))
    matrix = matrix + diags(diagonal.cpu().numpy(), format="csc")
    # Symmetric and positive, so no row needs to be exchanged.
    factors = splu(
        matrix,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    return torch.from_numpy(factors.solve(right.cpu().numpy()))
