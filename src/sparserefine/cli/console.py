"""Where commands print: results to stdout, progress and messages to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from sparserefine.workflows.progress import progress_bar

# Results go to stdout, so that --json can be piped.
console = Console(highlight=False, soft_wrap=True)
messages = Console(stderr=True, highlight=False, soft_wrap=True)


def stage_table(stages_ms: Mapping[str, float], title: str) -> Table:
    """Milliseconds per stage and their sum."""
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
def counted(description: str, total: int) -> Iterator[Callable[[], None]]:
    """A progress bar; call what this yields once per step."""
    with progress_bar() as progress:
        task = progress.add_task(description, total=total)
        yield lambda: progress.advance(task)
