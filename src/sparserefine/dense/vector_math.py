"""First calls of torch's vectorized functions on a CPU, made by one thread."""

from __future__ import annotations

import torch

_FUNCTIONS = (torch.cos, torch.erf, torch.exp, torch.log, torch.sin, torch.sqrt, torch.tanh)


def settle() -> None:
    """Call each function that torch hands to MKL once, with one number: a millisecond.

    MKL before 2025.0 chooses a function's code at its first call. When several threads make that
    call together, one of them may compute its share with the code of lowest accuracy, this once:
    errors of 1e-6 to 1e-4 that no run repeats. Source: pytorch/pytorch#188792.
    """
    for dtype in (torch.float32, torch.float64):
        for function in _FUNCTIONS:
            function(torch.ones(1, dtype=dtype))
