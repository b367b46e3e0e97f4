"""The part of a page that a script writes: between two comments, of which the first names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

END = "<!-- end of figures -->"


def with_section(page: str, script: str, figures: str) -> str:
    """A page with the figures of one script made anew.

    Args:
        page: The page as it is.
        script: The script that writes between `<!-- figures: SCRIPT -->` and the next `END`,
            with a word on which figures where it writes several.
        figures: What it writes there.

    Raises:
        ValueError: The page has no such place, or two.
    """
    start = f"<!-- figures: {script} -->\n"
    before, *rest = page.split(start)
    if len(rest) != 1 or END not in rest[0]:
        raise ValueError(f"expected one {start.strip()} with {END} behind it, got {len(rest)}.")
    return f"{before}{start}\n{figures.strip()}\n\n{END}{rest[0].partition(END)[2]}"


def made_on(environment: Mapping[str, Any]) -> str:
    """A sentence on the hardware and software that figures were measured with.

    Args:
        environment: As result files have it.
    """
    return (
        f"{environment['device']}, {environment['threads']} threads, torch {environment['torch']}, "
        f"commit {environment['commit']}."
    )
