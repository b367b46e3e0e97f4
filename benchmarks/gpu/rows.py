"""Raw rows of a measurement, written as they are made, and what they were made with."""

from __future__ import annotations

import json
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from sparserefine.environment import Environment


class Rows:
    """Appends rows to `name`.jsonl in a folder, flushed one by one: a machine may go away."""

    def __init__(self, folder: Path, name: str, **settings: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}.jsonl"
        self.rows: list[dict[str, Any]] = []
        self._started = time.perf_counter()
        self._file = self.path.open("w")
        self._write({"environment": gpu_environment(), "settings": settings})

    def add(self, **row: Any) -> dict[str, Any]:
        """Write a row and show it."""
        row["after_s"] = round(time.perf_counter() - self._started, 1)
        self.rows.append(row)
        self._write(row)
        print("  ".join(f"{key}={_short(value)}" for key, value in row.items()), flush=True)
        return row

    def close(self, **summary: Any) -> None:
        """Write the summary, and print it as the last line."""
        self._write({"summary": summary})
        self._file.close()
        print(json.dumps({"rows": len(self.rows), **summary}), flush=True)

    def table(self, columns: list[str]) -> None:
        """Print the rows that have all columns."""
        rows = [row for row in self.rows if all(column in row for column in columns)]
        print("\n| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for row in rows:
            print("| " + " | ".join(_short(row[column]) for column in columns) + " |")
        print(flush=True)

    def _write(self, document: dict[str, Any]) -> None:
        self._file.write(json.dumps(document) + "\n")
        self._file.flush()


def gpu_environment() -> dict[str, Any]:
    """Hardware and software, the driver and Triton included."""
    found: dict[str, Any] = dict(Environment.current().to_json())
    try:
        found["triton"] = version("triton")
    except PackageNotFoundError:
        found["triton"] = None
    found["cuda"] = torch.version.cuda
    if torch.cuda.is_available():
        query = ["nvidia-smi", "--query-gpu=driver_version,memory.total", "--format=csv,noheader"]
        try:
            told = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
            found["driver_and_memory"] = told.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            found["driver_and_memory"] = None
        found["capability"] = list(torch.cuda.get_device_capability())
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
