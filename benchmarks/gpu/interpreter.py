"""A rehearsal that runs the kernels, in Triton's interpreter. Imported before the package."""

from __future__ import annotations

import os

from dry_run import DEVICE, DRY_RUN

__all__ = ["DEVICE", "DRY_RUN"]

if DRY_RUN:  # Triton decides when imported whether it interprets
    os.environ["TRITON_INTERPRET"] = "1"
