"""Run the cases of a folder, each NAME/run.sh VENV, and print one table; exit 1 if one fails."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TIMEOUT_S = 600
_WIDTH = 110


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", type=Path, help="folder of cases")
    parser.add_argument("names", nargs="*", help="names of the cases to run; default: all")
    parser.add_argument("--venv", type=Path, default=Path(sys.prefix))
    options = parser.parse_intermixed_args()
    scripts = sorted(options.cases.glob("*/run.sh"))
    if options.names:
        scripts = [script for script in scripts if script.parent.name in options.names]
    if not scripts:
        sys.exit(f"{options.cases} has no such case. Expected NAME/run.sh in it.")
    width = max(len(script.parent.name) for script in scripts)
    print(f"{'case':{width}}  exit  {'s':>5}  last line")
    failed = 0
    for script in scripts:
        start = time.perf_counter()
        code, line = _run(script, options.venv)
        failed += code != 0
        seconds = time.perf_counter() - start
        shown = line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…"
        print(f"{script.parent.name:{width}}  {code:4}  {seconds:5.1f}  {shown}", flush=True)
    print(f"{len(scripts) - failed} of {len(scripts)} cases are right")
    sys.exit(1 if failed else 0)


def _run(script: Path, venv: Path) -> tuple[int, str]:
    """The exit code of a case and its last line, on standard output if there is one."""
    # A case starts processes of its own, which must end with it.
    process = subprocess.Popen(
        ["bash", str(script.resolve()), str(venv.absolute())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate()
        return 124, f"took longer than {TIMEOUT_S} s"
    lines = [line for line in (out.strip() or err.strip()).splitlines() if line.strip()]
    return process.returncode, lines[-1].strip() if lines else ""


if __name__ == "__main__":
    main()
