"""How threads of this process wait for one another."""

from __future__ import annotations

import os
import sys

SPINS = "1000"
"""Turns that a thread waits busily before it sleeps: some microseconds, as between two loops."""


def wait_asleep() -> None:
    """Let OpenMP's threads sleep when they wait long, instead of taking a core from who works.

    They spin for milliseconds by default, and on cores that others use too a photo then takes many
    times as long. OpenMP reads this when it is loaded, with torch: afterwards it is too late, and
    nothing is changed. What the user has set stays; processes that this one starts inherit it.
    """
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in os.environ:
        return
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
