"""How long something takes over several runs, as result files keep it and pages show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from sparserefine.evaluation.statistics import percentile

P95 = "p95_"


def spread(values: Sequence[float], name: str) -> dict[str, float]:
    """The median and the 95th percentile of some runs, such as {"ours_ms": …, "p95_ours_ms": …}.

    Args:
        values: What each run took.
        name: Of the median in a result file.
    """
    return {name: median(values), f"{P95}{name}": percentile(values, 95)}


def shown(found: Mapping[str, Any], name: str, form: str = ".0f", times: float = 1) -> str:
    """A cell of a table: the median, and the 95th percentile in brackets.

    Args:
        found: A row of a result file.
        name: Of the median there.
        form: How both are written.
        times: What both are multiplied by, such as 1000 for seconds as milliseconds.
    """
    return f"{times * found[name]:{form}} ({times * found[f'{P95}{name}']:{form}})"
