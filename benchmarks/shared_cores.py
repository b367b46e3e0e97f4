"""How long a photo takes while other processes are on the cores, by how waiting threads wait.

    python benchmarks/shared_cores.py   # some 3 minutes on two quiet cores
    python benchmarks/shared_cores.py --page   # only docs/latency.md

A process of its own for each way of waiting predicts a photo with the shipped pair; all take turns,
alone first, and then beside processes that do nothing but compute. "the commands" is what
`sparserefine` sets when it starts. Writes results/shared_cores.json and docs/latency.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import IO, Any

from section import with_section
from sparserefine.atomic import atomic_write
from sparserefine.environment import Environment
from sparserefine.evaluation.statistics import percentile
from sparserefine.photos.shipped import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "shared_cores.json"
PAGE = ROOT / "docs" / "latency.md"
MOST = 2.5
"""How many times as long as alone a photo may take."""
OURS = "the commands"
# What each process has in its environment before anything of OpenMP is loaded.
WAYS = {
    "OpenMP by default": {},
    "OMP_WAIT_POLICY=passive": {"OMP_WAIT_POLICY": "passive"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    OURS: {"ASLEEP": "1"},
}
WORKER = """
import os, sys, time
if os.environ.get("ASLEEP"):
    from sparserefine.threads import wait_asleep
    wait_asleep()
import torch, sparserefine as sr
from sparserefine.images import read_image
from sparserefine.refinement.fast_dense import with_fast_dense
torch.set_num_threads(int(sys.argv[2]))
image = read_image(sys.argv[1])
model = with_fast_dense(sr.load("demo"))
model.predict(image)
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    model.predict(image)
    print(1000 * (time.perf_counter() - start), flush=True)
"""
BUSY = "while True: pass"


def main() -> None:
    """Measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo", type=Path, default=shipped_photo("lund"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--busy", type=int, default=2, help="processes that compute beside it")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    if not options.page:
        text = json.dumps(measure(options), indent=1) + "\n"
        atomic_write(RESULT, lambda path: path.write_text(text))
        print(RESULT)
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(PAGE)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What each way takes, alone and beside others."""
    with ExitStack() as stack:
        workers = {name: started(options, more, stack) for name, more in WAYS.items()}
        alone = in_turns(workers, options.rounds)
        for _ in range(options.busy):
            busy = subprocess.Popen([sys.executable, "-c", BUSY])
            stack.callback(busy.wait)
            stack.callback(busy.kill)
        time.sleep(1)
        beside = in_turns(workers, options.rounds)
    return {
        "photo": options.photo.stem,
        "rounds": options.rounds,
        "busy": options.busy,
        "threads": options.threads,
        "ways": {
            name: {
                side: {"p50_ms": median(ms), "p95_ms": percentile(ms, 95)}
                for side, ms in (("alone", alone[name]), ("beside", beside[name]))
            }
            for name in workers
        },
        "environment": Environment.current().to_json(),
    }


def started(
    options: argparse.Namespace, more: dict[str, str], stack: ExitStack
) -> subprocess.Popen[str]:
    """A process that is ready; it ends with the stack."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(options.photo), str(options.threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=variables | more,
    )
    stack.callback(worker.communicate)
    answer = _pipe(worker.stdout).readline()
    if answer != "ready\n":
        raise SystemExit("a process ended before it was ready; its error stands above")
    return worker


def in_turns(workers: dict[str, subprocess.Popen[str]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each worker, after one run to warm up."""
    taken: dict[str, list[float]] = {name: [] for name in workers}
    for turn in range(rounds + 1):
        for name, worker in workers.items():
            requests = _pipe(worker.stdin)
            requests.write("\n")
            requests.flush()
            ms = float(_pipe(worker.stdout).readline())
            if turn:
                taken[name].append(ms)
    return taken


def with_figures(text: str) -> str:
    """The page with its table made anew from the result file, if there is one."""
    if not RESULT.is_file():
        return text
    result = json.loads(RESULT.read_text())
    return with_section(text, "benchmarks/shared_cores.py", _table(result))


def _table(result: dict[str, Any]) -> str:
    lines = [
        "| how threads wait | alone, p50, ms | p95 | beside, p50, ms | p95 | times as long |",
        "|---|---|---|---|---|---|",
    ]
    times = {}
    for name, sides in result["ways"].items():
        alone, beside = sides["alone"], sides["beside"]
        times[name] = beside["p50_ms"] / alone["p50_ms"]
        lines.append(
            f"| {name} | {alone['p50_ms']:.0f} | {alone['p95_ms']:.0f} | {beside['p50_ms']:.0f} | "
            f"{beside['p95_ms']:.0f} | {times[name]:.1f} |"
        )
    environment = result["environment"]
    kept = "as asked" if times[OURS] <= MOST else "more than asked"
    lines += [
        "",
        f"{environment['device']}, {result['threads']} threads, {result['busy']} processes beside "
        f"it that only compute, {result['rounds']} runs in turns, commit "
        f"{environment['commit']}. Asked were at most {MOST} times as long: {kept}.",
    ]
    return "\n".join(lines) + "\n"


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


if __name__ == "__main__":
    main()
