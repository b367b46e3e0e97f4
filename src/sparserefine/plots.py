"""Curves and charts, as [H, W, 3] uint8 RGB pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DENSE, _REFINED = "#7a7a7a", "#d2500f"


def training_curves(rows: Sequence[Mapping[str, int | float]]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the loss over the steps, and how many of the selected pixels are right.

    Args:
        rows: Per step: "step", "loss", and the shares "right_dense" and "right_fused".
    """
    from matplotlib.figure import Figure

    steps = np.array([row["step"] for row in rows])
    figure = Figure(figsize=(12, 4.5), dpi=125, layout="constrained")
    left, right = figure.subplots(1, 2)
    curves = [
        (left, "loss", "loss", _REFINED),
        (right, "right_dense", "before", _DENSE),
        (right, "right_fused", "refined", _REFINED),
    ]
    for axes, key, label, color in curves:
        values = np.array([row[key] for row in rows])
        axes.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=color, linewidth=1.8, label=label)
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    left.set_title("Loss", loc="left")
    right.set_title("Share of the selected pixels with the target's label", loc="left")
    right.legend(frameon=False)
    return _pixels(figure)


def _smooth(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Mean of the neighbors up to 2.5 % of the run away."""
    reach = len(values) // 40
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    first = np.maximum(index - reach, 0)
    last = np.minimum(index + reach + 1, len(values))
    return (total[last] - total[first]) / (last - first)


def _pixels(figure: Figure) -> UInt8[np.ndarray, "H W 3"]:
    # Without pyplot: no window system, no global state.
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3].copy()
