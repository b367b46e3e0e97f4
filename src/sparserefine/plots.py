"""Curves and charts, as [H, W, 3] uint8 RGB pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DENSE, _REFINED = "#7a7a7a", "#d2500f"
_SCORE_STYLES = {
    "entropy": (_REFINED, "-"),
    "margin": ("#2f6db5", "--"),
    "max_probability": ("#3d8f5f", "-."),
    "edges": ("#8a5fb0", "-"),
    "learned": ("#b5892f", "-"),
    "random": (_DENSE, ":"),
    "oracle": ("#222222", "--"),
}


def training_curves(rows: Sequence[Mapping[str, int | float]]) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the loss over the steps, how many of the selected pixels are right, and mIoU if known.

    Args:
        rows: One mapping per step, with "step", "loss", and the shares "right_dense" and
            "right_refined"; of some steps "validation" and "validation_before", mIoU of images that
            are not trained on.
    """
    from matplotlib.figure import Figure

    steps = np.array([row["step"] for row in rows])
    scored = [row for row in rows if "validation" in row]
    figure = Figure(figsize=(18 if scored else 12, 4.5), dpi=125, layout="constrained")
    left, right, *more = figure.subplots(1, 3 if scored else 2)
    curves = [
        (left, "loss", "loss", _REFINED),
        (right, "right_dense", "before", _DENSE),
        (right, "right_refined", "refined", _REFINED),
    ]
    for axes, key, label, color in curves:
        values = np.array([row[key] for row in rows])
        axes.plot(steps, values, color=color, alpha=0.2, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=color, linewidth=1.8, label=label)
    left.set_title("Loss", loc="left")
    right.set_title("Share of the selected pixels with the target's label", loc="left")
    right.legend(frameon=False)
    for axes in more:
        at = [row["step"] for row in scored]
        for key, label, color in (
            ("validation_before", "before", _DENSE),
            ("validation", "refined", _REFINED),
        ):
            axes.plot(at, [row[key] for row in scored], "o-", color=color, label=label)
        axes.set_title("mIoU of images set aside", loc="left")
        axes.legend(frameon=False)
    for axes in (left, right, *more):
        axes.set_xlabel("step")
        axes.grid(alpha=0.3)
    return _pixels(figure)


def error_curves(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    thresholds: Float[np.ndarray, " T"],
    precision: Float[np.ndarray, " T"],
    chosen: tuple[float, float, float],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw recall over density for some scores, and all three over the threshold of the entropy.

    Args:
        curves: (density, recall) of each score by its name, ascending; "entropy" is one of them.
        thresholds: Thresholds of the entropy, in nats, ascending.
        precision: Precision at each threshold.
        chosen: Threshold, density and recall of the choice.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), dpi=125, layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (density, recall) in curves.items():
        color, style = _SCORE_STYLES.get(name, ("#222222", "-"))
        width = 2.4 if name == "entropy" else 1.4
        label = name.replace("_", " ")
        left.plot(density, recall, style, color=color, linewidth=width, label=label)
    threshold, density, recall = chosen
    left.plot([density], [recall], "o", color=_REFINED, markersize=8)
    left.annotate(
        f"{threshold:.3g} nats\ndensity {density:.1%}, recall {recall:.1%}",
        (density, recall),
        xytext=(12, -32),
        textcoords="offset points",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 2},
    )
    left.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="density: share of the pixels selected")
    left.set_title("Share of the low-resolution errors found", loc="left")
    left.legend(frameon=False, loc="lower right")
    densities, recalls = curves["entropy"]
    # Without the two ends, which are of no threshold.
    densities, recalls = densities[-2:0:-1], recalls[-2:0:-1]
    lines = (
        (recalls, _REFINED, "recall"),
        (densities, "#2f6db5", "density"),
        (np.where(densities > 0, precision, np.nan), _DENSE, "precision"),
    )
    for values, color, label in lines:
        # The first threshold is 0, which a logarithmic axis lacks.
        right.plot(thresholds[1:], values[1:], color=color, linewidth=1.8, label=label)
    right.axvline(threshold, color="#222222", linewidth=1, linestyle=":")
    right.set(xscale="log", ylim=(0, 1.01), xlabel="entropy threshold, nats")
    right.set_title("What a threshold gives", loc="left")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    return _pixels(figure)


def frontier_curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, float, float]]]],
    score: str,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw accuracy over what it costs: each setting, and stairs for the best within a budget.

    Args:
        panels: One panel per cost, by the label of its axis: for each method, by name, a point
            (cost, score, lower and upper end of its interval) per setting; scores are shares.
        score: Label of the other axis, which shows the score in percent.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8 * len(panels), 5.6), dpi=110, layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, (cost, curves) in zip(all_axes, panels.items(), strict=True):
        for family, points in curves.items():
            price, value, low, high = np.array(sorted(points)).T
            ours = family.startswith("ours")
            color = _REFINED if family == "ours" else _DENSE if family == "dense" else None
            # Stairs: the best that so much pays for.
            (line,) = axes.step(
                price, 100 * np.maximum.accumulate(value), "-" if ours else "--", where="post",
                color=color, linewidth=2 if ours else 1.2, zorder=3 if ours else 2,
            )  # fmt: skip
            color = line.get_color()
            axes.plot(
                price, 100 * value, "o" if ours else "s", color=color, markersize=5, label=family,
                zorder=4,
            )  # fmt: skip
            axes.vlines(price, 100 * low, 100 * high, color=color, alpha=0.25, linewidth=1)
        axes.set_xlabel(cost)
        axes.grid(alpha=0.3)
    all_axes[0].set_ylabel(score)
    all_axes[0].legend(frameon=False, loc="lower right")
    return _pixels(figure)


def latency_bars(
    groups: Mapping[str, Mapping[str, float]], unit: str = "ms an image"
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw horizontal bars, grouped.

    Args:
        groups: Time of each bar (a method), by group (a model) and then by bar.
        unit: Unit of the times, the label of the axis.
    """
    from matplotlib.figure import Figure

    count = sum(len(bars) for bars in groups.values()) + len(groups)
    figure = Figure(figsize=(9, max(0.3 * count + 1.2, 2.5)), dpi=125, layout="constrained")
    axes = figure.subplots()
    position, ticks, names = 0.0, [], []
    for group, bars in groups.items():
        for name, value in bars.items():
            color = _REFINED if name.startswith("sparserefine") else _DENSE
            axes.barh(position, value, height=0.8, color=color)
            axes.annotate(
                f" {value:,.0f}", (value, position), va="center", fontsize=9,
            )  # fmt: skip
            ticks.append(position)
            names.append(f"{group}  {name.replace('_', ' ')}")
            position += 1
        position += 0.6
    axes.set_yticks(ticks, names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    axes.grid(alpha=0.3, axis="x")
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
