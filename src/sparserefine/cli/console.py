"""The output of commands: results go to stdout, progress and messages to stderr."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sparserefine.progress import Progress

# Results go to stdout, so that --json can be piped.
console = Console(highlight=False, soft_wrap=True)
messages = Console(stderr=True, highlight=False, soft_wrap=True)


def stage_table(stages_ms: Mapping[str, float], title: str) -> Table:
    """A table of the milliseconds per stage and their sum."""
    table = Table("stage", f"{title}, ms")
    table.columns[1].justify = "right"
    for stage, ms in stages_ms.items():
        table.add_row(stage, f"{ms:.0f}")
    table.add_section()
    table.add_row("total", f"{sum(stages_ms.values()):.0f}")
    return table


def listed(text: str) -> list[str]:
    """The parts of a comma-separated option."""
    return [part.strip() for part in text.split(",") if part.strip()]


def report_failure(name: str, reason: str) -> None:
    """Say on one line what was not done and why."""
    line = reason if name in reason else f"{name}: {reason}"
    messages.print(f"not done: {line}", markup=False)


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """A bar for each stage that the work reports, on standard error; gone when it is done."""
    with Bars(
        TextColumn("{task.description:>14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=messages,
        transient=True,
    ) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage)
            bars.update(tasks[stage], completed=done, total=total)

        yield report
