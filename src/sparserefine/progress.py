"""Progress reports of long work, stage by stage."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from typing import Any

Report = Callable[[str, int, int], object]
"""Called with the name of a stage, how many of its steps are done, and how many there are."""

Progress = Report | Callable[[], object]
"""How a user is told of progress: a `Report`; or a function without arguments, such as the update
of a progress bar, which is called once for each step."""


def count_steps(progress: Progress | None, stage: str, total: int) -> Callable[[], None]:
    """Report one stage of some work.

    Args:
        progress: Where to report; None reports nowhere.
        stage: Name of the stage; a run may have several.
        total: Number of its steps.

    Returns:
        A function to call once per step. The start is reported at once.

    Raises:
        ValueError: `progress` is no function, or takes other arguments.
    """
    report = as_report(progress)
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        report(stage, done, total)

    report(stage, 0, total)
    return advance


def as_report(progress: Progress | None) -> Report:
    """A function of stage, done and total, whatever a user gives.

    Raises:
        ValueError: It is no function, or takes other arguments.
    """
    if progress is None:
        return lambda stage, done, total: None
    given: Any = progress
    if not callable(given):
        raise ValueError(
            f"progress is {given!r}, expected a function of stage, done and total, or None."
        )
    try:
        signature = inspect.signature(given)
    except (TypeError, ValueError):  # of some that are built in nobody knows
        return given
    with suppress(TypeError):
        signature.bind("", 0, 0)
        return given
    with suppress(TypeError):
        signature.bind()
        return lambda stage, done, total: given() if done else None
    raise ValueError(
        f"progress takes {signature}, expected a function of stage, done and total, or one without "
        f"arguments, such as the update of a progress bar."
    )
