"""The log of a training run: one JSON object per step, one line each."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType

from sparserefine.atomic import WriteError, atomic_write

Row = dict[str, int | float]
"""Figures of one step, among them its number as "step"."""


class StepLog:
    """Appends the figures of each step to a file.

    Each line is handed to the system at once, so a killed process loses none.

    Args:
        path: File of the log; made where it does not exist.
        steps: Number of steps whose lines are kept; later ones are dropped, as they ran after the
            last checkpoint and will run again, and what is no line of ours.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self.path = path
        if path.is_file():
            lines = path.read_bytes().splitlines(keepends=True)
            kept = b"".join(line for line in lines if 0 < _step_of(line) <= steps)
            atomic_write(path, lambda partial: partial.write_bytes(kept))
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)

    def __enter__(self) -> StepLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def append(self, row: Row) -> None:
        """Write one line.

        Raises:
            WriteError: The line cannot be written; the disk may be full.
        """
        line = (json.dumps(row, allow_nan=False) + "\n").encode()
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise WriteError(self.path, error.strerror or str(error)) from error
        if written < len(line):  # a disk that fills up takes a part first
            raise WriteError(self.path, "no space left")

    @staticmethod
    def read(path: Path) -> list[Row]:
        """The rows of a log, first step first."""
        return [json.loads(line) for line in path.read_text().splitlines()]


def _step_of(line: bytes) -> int:
    """The number in a line; 0 where it is no whole line."""
    try:
        return int(json.loads(line)["step"]) if line.endswith(b"\n") else 0
    except (ValueError, KeyError, TypeError):
        return 0
