"""Whether this is only a rehearsal on the CPU."""

from __future__ import annotations

import sys

DRY_RUN = "--dry-run" in sys.argv
DEVICE = "cpu" if DRY_RUN else "cuda"
