"""How far a result may be from float64."""

from __future__ import annotations

import torch
from torch import Tensor


def assert_within_bound(y: Tensor, y64: Tensor, magnitude: Tensor, terms: int) -> None:
    """|y − y64| ≤ eps(out)·|y64| + n·eps(fp32)·(|x| conv |w|), for every element."""
    eps = torch.finfo(y.dtype).eps
    bound = eps * y64.abs() + terms * torch.finfo(torch.float32).eps * magnitude
    worst = ((y.double() - y64).abs() - bound).max() if y.numel() else torch.tensor(0.0)
    assert worst <= 0, f"an element exceeds its bound by {worst:.2e}"


def assert_within_winograd_bound(y: Tensor, y64: Tensor, share: float = 3e-5) -> None:
    """F(4×4, 3×3) amplifies rounding: within a share of the output's maximum."""
    assert not y.numel() or (y.double() - y64).abs().max() <= share * y64.abs().max()
