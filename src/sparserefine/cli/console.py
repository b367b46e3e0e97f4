"""The output of commands: results go to stdout, progress and messages to stderr."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.table import Table

from sparserefine.progress import Progress

# Results go to stdout, so that --json can be piped.
console = Console(highlight=False, soft_wrap=True)
messages = Console(stderr=True, highlight=False, soft_wrap=True)

# Of notes on single photos so many are shown.
SHOWN_NOTES = 5


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


def report_remarks(left_out: Sequence[str], notes: Sequence[str]) -> None:
    """Say what was left out of folders, and how photos were read that can be read otherwise."""
    for line in left_out:
        messages.print(line, markup=False)
    for line in notes[:SHOWN_NOTES]:
        messages.print(f"note: {line}", markup=False)
    if len(notes) > SHOWN_NOTES:
        messages.print(f"note: and {len(notes) - SHOWN_NOTES} more of other photos", markup=False)


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Warnings as one line for people, without the place in the code."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


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
