"""Progress reports of long work, stage by stage."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], object]
"""Called with the name of a stage, how many of its steps are done, and how many there are."""


def count_steps(progress: Progress | None, stage: str, total: int) -> Callable[[], None]:
    """Report one stage of some work.

    Args:
        progress: Where to report; None reports nowhere.
        stage: Name of the stage; a run may have several.
        total: Number of its steps.

    Returns:
        A function to call once per step. The start is reported at once.
    """
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(stage, done, total)

    if progress is not None:
        progress(stage, 0, total)
    return advance
