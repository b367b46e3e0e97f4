"""What the commands measured, as tables for the terminal. Free of torch, as help is instant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sparserefine.workflows.benchmark import Benchmark
    from sparserefine.workflows.evaluate import Evaluation
    from sparserefine.workflows.train import TrainResult


def stage_table(stages_ms: Mapping[str, float], title: str) -> Table:
    """Milliseconds per stage and their sum."""
    table = Table("stage", f"{title}, ms")
    table.columns[1].justify = "right"
    for stage, ms in stages_ms.items():
        table.add_row(stage, f"{ms:.0f}")
    table.add_section()
    table.add_row("total", f"{sum(stages_ms.values()):.0f}")
    return table


def scores_table(scores: Evaluation) -> Table:
    """Agreement, and mIoU where there are labels, of each row."""
    table = Table("", "agreement with full resolution", *(["mIoU"] if scores.miou else []))
    for row, agreement in scores.agreement.items():
        miou = [f"{scores.miou[row]:.1%}"] if scores.miou else []
        table.add_row(row.replace("_", " "), f"{agreement:.2%}", *miou)
    if scores.miou:
        table.add_row("full res", "100.00%", f"{scores.miou['full_res']:.1%}")
    return table


def training_table(result: TrainResult) -> Table:
    """The first against the last steps."""
    begin, end = result.summary()
    table = Table("", f"first {begin['steps']} steps", f"last {end['steps']} steps")
    for key, label in (
        ("loss", "loss"),
        ("right_dense", "right before"),
        ("right_fused", "refined"),
    ):
        form = ".4f" if key == "loss" else ".2%"
        table.add_row(label, format(begin[key], form), format(end[key], form))
    return table


def latency_table(result: Benchmark) -> Table:
    """Milliseconds of each method."""
    table = Table("", "p50, ms", "p95, ms", "density")
    for row in result.rows:
        share = f"{row.density:.1%}" if row.density else ""
        table.add_row(row.method.replace("_", " "), f"{row.p50_ms:.0f}", f"{row.p95_ms:.0f}", share)
    return table


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Hardware, versions, and the sparse backends."""
    table = Table("", "", show_header=False)
    for key, value in environment.items():
        if key != "backends":
            table.add_row(key, str(value))
    table.add_section()
    for name, answer in environment["backends"].items():
        table.add_row(f"backend {name}", answer)
    return table
