"""The commands, one file each; they import torch when they run, so that help is instant."""

from __future__ import annotations

import sys
from io import TextIOWrapper

from cyclopts import App, Parameter

from sparserefine import __version__
from sparserefine.cli.ablate import ablate
from sparserefine.cli.app import open_page
from sparserefine.cli.benchmark import benchmark
from sparserefine.cli.bulk import bulk
from sparserefine.cli.calibrate import calibrate
from sparserefine.cli.check import check
from sparserefine.cli.config_words import with_config
from sparserefine.cli.console import messages, plain_warnings
from sparserefine.cli.cutout import cutout
from sparserefine.cli.demo import demo
from sparserefine.cli.evaluate import evaluate
from sparserefine.cli.export import export
from sparserefine.cli.frontier import frontier
from sparserefine.cli.headroom import headroom
from sparserefine.cli.predict import predict
from sparserefine.cli.refine import refine
from sparserefine.cli.report import report
from sparserefine.cli.serve import serve
from sparserefine.cli.train import train
from sparserefine.cli.words import checked_words, converted
from sparserefine.threads import wait_asleep

app = App(
    name="sparserefine",
    version=__version__,
    help="Full-resolution segmentation from a low-resolution prediction, of the model you have.",
    default_parameter=Parameter(converter=converted),
)
COMMANDS = (
    refine, cutout, demo, predict, check, evaluate, train, calibrate, headroom, ablate, frontier,
    benchmark, report, export, bulk, serve,
)  # fmt: skip
for command in COMMANDS:
    app.command(command)
# It has no twin in Python: a page is for people.
app.command(open_page, name="app")


def main(arguments: list[str] | None = None) -> None:
    """Run a command; what a user can cause ends in one line, not in a traceback.

    Args:
        arguments: Words of the command line. Default: those of the process.
    """
    wait_asleep()
    # A terminal that lacks a character, as of a name that is no UTF-8, must not end finished work.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with plain_warnings():
            words = checked_words(sys.argv[1:] if arguments is None else arguments)
            app(with_config(words))
    except (ValueError, OSError, ImportError) as error:
        messages.print(f"sparserefine: {' '.join(str(error).split())}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
