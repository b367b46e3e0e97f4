"""A moving average of the weights, which often scores better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class MovingAverage:
    """An average of all tensors of a module that forgets.

    Args:
        module: The module.
        decay: Share of the average that a step keeps; less in the first steps. 0 averages nothing.

    Attributes:
        tensors: The averages by name; empty with a decay of 0.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay = module, decay
        kept = module.state_dict().items() if decay else ()
        self.tensors: dict[str, Tensor] = {name: value.detach().clone() for name, value in kept}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take the weights of a step in.

        Args:
            step: Number of steps done.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        state = self.module.state_dict()
        for name, average in self.tensors.items():
            if average.is_floating_point():
                average.lerp_(state[name], 1 - decay)
            else:
                average.copy_(state[name])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take averages that were kept."""
        for name, average in self.tensors.items():
            average.copy_(tensors[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averages in the place of the weights, for a while."""
        if not self.tensors:
            yield
            return
        own = {name: value.detach().clone() for name, value in self.module.state_dict().items()}
        self.module.load_state_dict(self.tensors)
        try:
            yield
        finally:
            self.module.load_state_dict(own)
