"""The server under load, beside the same pipeline without HTTP.

    python benchmarks/serving.py [--seconds 120] [--model u2netp]
    python benchmarks/serving.py --page            # only write the table into the docs

Two processes of one thread each take turns: as the workers of a server that 16 clients ask, each
again as soon as it is answered; and as processes that decode, compute and encode the same photos in
a loop. Turns are short, so that what else the machine does falls on both. Then the server is asked
once more, and one of its workers killed in the middle. Writes results/serving.json and the table in
docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from sparserefine.environment import Environment
from sparserefine.photos.shipped import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serving.json"
PAGE = ROOT / "docs" / "deploy.md"
START, END = "<!-- figures: benchmarks/serving.py -->\n", "<!-- end of figures: serving -->"
CLIENTS, WORKERS, QUEUE = 16, 2, 16
TURNS, SHORTEST = 6, 10.0
SIDE = 1200
# Longer than any request waits: how long that is is what is measured.
TIMEOUT = 600
BOUNDARY = "between-two-fields"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of the server under load")
    parser.add_argument("--model", default="u2netp", help="u2netp or demo")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.model)
        return
    if not options.page:
        document = measure(options.model, options.seconds)
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def photo() -> bytes:
    """A JPEG of about a megapixel."""
    with Image.open(shipped_photo("wren")) as whole:
        whole.thumbnail((SIDE, SIDE))
        file = BytesIO()
        whole.convert("RGB").save(file, "JPEG", quality=90)
    return file.getvalue()


def loop(model: str) -> None:
    """One process without HTTP: computes for as long as it is told on a line of its input."""
    import torch

    from sparserefine.serving.pipeline import open_pipeline
    from sparserefine.serving.spec import Spec
    from sparserefine.serving.wanted import Wanted
    from sparserefine.serving.worker import Task, answer

    torch.set_num_threads(1)
    spec = Spec(model=model)
    pipeline = open_pipeline(spec)
    task = Task(0, Wanted(output=pipeline.served.outputs[0]), photo(), None)
    list(answer(pipeline, [task], spec.max_pixels))
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, start, done = float(line), time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            ((header, _),) = answer(pipeline, [task], spec.max_pixels)
            assert header["status"] == 200
            done += 1
        print(json.dumps({"done": done, "seconds": time.perf_counter() - start}), flush=True)


def measure(model: str, seconds: float) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    here = [sys.executable, __file__, "--loop", "--model", model]
    loops = [
        subprocess.Popen(here, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                         env=environment)
        for _ in range(WORKERS)
    ]  # fmt: skip
    command = [sys.executable, "-m", "sparserefine.cli", "serve", "--model", model, "--port", "0"]
    server = subprocess.Popen(
        [*command, "--workers", str(WORKERS), "--queue", str(QUEUE), "--timeout", str(TIMEOUT)],
        stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        url = urlsplit(server.stdout.readline().strip())
        port = url.port
        assert port is not None
        for one in loops:
            assert one.stdout is not None and one.stdout.readline().strip() == "ready"
        data = photo()
        load(port, data, 1)  # each worker has seen photos of this size
        http, plain, memory = [], [], [resident(server.pid)]
        cpu: Counter[str] = Counter()
        done: Counter[str] = Counter()
        turns = max(1, min(TURNS, int(seconds // SHORTEST)))
        for turn in range(turns):
            for through_http in (True, False) if turn % 2 else (False, True):
                name = "http" if through_http else "without"
                pids = family(server.pid) if through_http else [one.pid for one in loops]
                cpu[name] -= cpu_seconds(pids)  # type: ignore[assignment]
                if through_http:
                    http.append(load(port, data, seconds / turns))
                    done[name] += len(http[-1]["ms"])
                else:
                    rate, count = without_http(loops, seconds / turns)
                    plain.append(rate)
                    done[name] += count
                cpu[name] += cpu_seconds(pids)  # type: ignore[assignment]
            memory.append(resident(server.pid))
            print(json.dumps({"http": http[-1]["rate"], "plain": plain[-1]}), flush=True)
        killed = load(port, data, seconds / turns, kill=server.pid)
        counts = metrics(port)
    finally:
        for one in loops:
            one.kill()
        server.send_signal(signal.SIGTERM)
        code = server.wait(120)
    latencies = sorted(ms for one in http for ms in one["ms"])
    one_ms = 1000 * WORKERS / statistics.mean(plain)
    return {
        "model": model,
        "clients": CLIENTS,
        "workers": WORKERS,
        "queue": QUEUE,
        "seconds": seconds,
        "photo": {"bytes": len(data), "longer_side": SIDE},
        "per_second": {"http": statistics.mean(one["rate"] for one in http),
                       "without": statistics.mean(plain)},
        "cpu_ms": {name: 1000 * cpu[name] / done[name] for name in done},
        "share": statistics.median(a["rate"] / b for a, b in zip(http, plain, strict=True)),
        "ms": {"one": one_ms, "p50": percentile(latencies, 50), "p99": percentile(latencies, 99),
               # What waits before the last in the queue, what is computed, and itself.
               "bound": one_ms * (QUEUE / WORKERS + 2)},
        "statuses": dict(sum((Counter(one["statuses"]) for one in http), Counter())),
        "resident_mb": [round(value / 1e6, 1) for value in memory],
        "killed": {"statuses": killed["statuses"], "restarts": counts["worker_restarts_total"]},
        "stages_ms": counts["stages_ms"],
        "exit": code,
        "environment": Environment.current().to_json(),
    }  # fmt: skip


def without_http(loops: list[subprocess.Popen[str]], seconds: float) -> tuple[float, int]:
    """Photos a second of all processes together, and how many they were."""
    for one in loops:
        assert one.stdin is not None
        one.stdin.write(f"{seconds}\n")
        one.stdin.flush()
    rate, count = 0.0, 0
    for one in loops:
        assert one.stdout is not None
        answer = json.loads(one.stdout.readline())
        rate += answer["done"] / answer["seconds"]
        count += answer["done"]
    return rate, count


def load(port: int, data: bytes, seconds: float, kill: int | None = None) -> dict[str, Any]:
    """Ask from many clients at once, each again when it is answered."""
    statuses: Counter[str] = Counter()
    taken: list[float] = []
    start = time.perf_counter()
    end = start + seconds

    def client() -> None:
        while time.perf_counter() < end:
            begin = time.perf_counter()
            statuses[str(ask(port, data))] += 1
            taken.append(time.perf_counter() - begin)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    if kill is not None:
        time.sleep(seconds / 3)
        os.kill(family(kill)[1], signal.SIGKILL)
    for one in clients:
        one.join()
    # The last requests finish after the end, on fewer and fewer workers: up to the last answer.
    rate = len(taken) / (time.perf_counter() - start)
    return {"rate": rate, "ms": [1000 * s for s in taken], "statuses": dict(statuses)}


def ask(port: int, data: bytes) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=2 * TIMEOUT)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    connection.request("POST", "/predict", body, FORM)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def metrics(port: int) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    pattern = r'stage_milliseconds_(sum|count)\{stage="(\w+)"\} ([\d.]+)'
    parts = {(part, stage): float(value) for part, stage, value in re.findall(pattern, text)}
    restarts = re.search(r"^sparserefine_worker_restarts_total (\d+)", text, re.M)
    assert restarts is not None
    return {
        "worker_restarts_total": int(restarts[1]),
        "stages_ms": {
            stage: round(value / parts["count", stage], 1)
            for (part, stage), value in parts.items()
            if part == "sum"
        },
    }


def resident(pid: int) -> int:
    """Bytes of a process and those that it started."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: list[int]) -> float:
    """Seconds that processes have computed; unlike wall time hardly touched by what else runs."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


def percentile(ordered: list[float], percent: float) -> float:
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def with_figures(text: str) -> str:
    """The page with the section between the markers made anew."""
    before, rest = text.split(START)
    _, after = rest.split(END)
    return before + START + figures() + END + after


def figures() -> str:
    run = json.loads(RESULT.read_text())
    rate, ms, environment = run["per_second"], run["ms"], run["environment"]
    killed = ", ".join(f"{count} × {status}" for status, count in run["killed"]["statuses"].items())
    statuses = ", ".join(f"{count} × {status}" for status, count in run["statuses"].items())
    memory = run["resident_mb"]
    rows = [
        ("photos a second through HTTP", f"{rate['http']:.2f}"),
        ("without HTTP, in turns with it", f"{rate['without']:.2f}"),
        ("share", f"{run['share']:.0%}"),
        (
            "CPU time of a photo, through HTTP · without",
            " · ".join(f"{run['cpu_ms'][name]:.0f}" for name in ("http", "without")) + " ms",
        ),
        ("p50 · p99", f"{ms['p50'] / 1000:.2f} · {ms['p99'] / 1000:.2f} s"),
        ("bound of the queue: one photo × (queue ÷ workers + 2)", f"{ms['bound'] / 1000:.2f} s"),
        ("answers", statuses),
        (
            "memory of all processes, first and last",
            f"{memory[0]:.0f} · {memory[-1]:.0f} MB",
        ),
        ("answers while a worker was killed", killed),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    note = (
        f"{environment['device']}, commit {environment['commit']}: {run['clients']} clients for "
        f"{run['seconds']:.0f} s, {run['workers']} workers of one thread, `{run['model']}`, a JPEG "
        f"of {run['photo']['longer_side']} pixels."
    )
    return f"\n| load | |\n| --- | --- |\n{table}\n{note}\n\n"


if __name__ == "__main__":
    main()
