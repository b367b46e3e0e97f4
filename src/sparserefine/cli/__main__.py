"""The entry of `python -m sparserefine.cli`."""

from sparserefine.cli import main

main()
