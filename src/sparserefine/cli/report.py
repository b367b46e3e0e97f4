"""The command `sparserefine report`, which writes a run as one HTML page."""

from __future__ import annotations

from pathlib import Path

from sparserefine.cli.console import console


def report(run: Path, /, *, out: Path | None = None) -> None:
    """Write the results of a command as one HTML page that opens anywhere, offline.

    Parameters
    ----------
    run
        Output folder of evaluate (with --gallery), ablate, train, calibrate, frontier, benchmark or
        predict.
    out
        File for the page. Default: report.html in that folder.
    """
    from sparserefine.photos.report import PAGE
    from sparserefine.photos.report import report as write

    page = out or run / PAGE
    write(run, out=page)
    console.print(str(page), markup=False)
