"""`sparserefine report`."""

from __future__ import annotations

from pathlib import Path

from sparserefine.cli.console import console


def report(run: Path, /) -> None:
    """Write the results of a command as one HTML page that opens anywhere, offline.

    Parameters
    ----------
    run
        Output folder of evaluate (with --gallery), train, calibrate, frontier, benchmark or
        predict.
    """
    from sparserefine.workflows.report import write_report

    console.print(str(write_report(run)), markup=False)
