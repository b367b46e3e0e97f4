"""The server under load, beside the same pipeline without HTTP.

    python benchmarks/serving.py [--seconds 120] [--model u2netp] [--warm 40]
    python benchmarks/serving.py --page            # only write the table into the docs

Two processes of one thread each take turns: as the workers of a server that 16 clients ask, each
again as soon as it is answered; and as processes that decode, compute and encode the same photos in
a loop. Turns are short, so that what else the machine does falls on both. Then the server is asked
once more, and one of its workers killed in the middle. Writes results/serving.json and the table in
docs/deploy.md.

What does not depend on what else runs: processor time of a photo; how many others were done while
one waited; and how long one took in times of a photo, as the workers took for them meanwhile.
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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from section import with_section
from sparserefine.environment import Environment
from sparserefine.photos.shipped import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "serving.json"
PAGE = ROOT / "docs" / "deploy.md"
CLIENTS, WORKERS, QUEUE = 16, 2, 16
TURNS, SHORTEST = 6, 10.0
SIDE = 1200
# In times of one photo: what waits before the last in the queue, what is computed, and itself.
BOUND = QUEUE / WORKERS + 2
# Longer than any request waits: how long that is is what is measured.
TIMEOUT = 600
BOUNDARY = "between-two-fields"
FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@dataclass(frozen=True)
class Asked:
    """A request that was answered.

    Attributes:
        status: Status of HTTP.
        start: When it was sent, in seconds.
        end: When its answer had come.
        computed: Seconds that a worker took for it, as the answer says.
    """

    status: int
    start: float
    end: float
    computed: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of the server under load")
    parser.add_argument("--model", default="u2netp", help="u2netp or demo")
    # Until each worker's heap has seen what comes.
    parser.add_argument("--warm", type=int, default=40, help="photos of each worker before")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--loop", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.loop:
        loop(options.model)
        return
    if not options.page:
        document = measure(options.model, options.seconds, options.warm)
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


def measure(model: str, seconds: float, warmth: int) -> dict[str, Any]:
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
        load_average = os.getloadavg()[0]
        warm(port, data, warmth)
        turns = max(1, min(TURNS, int(seconds // SHORTEST)))
        http: list[list[Asked]] = []
        rates: dict[str, list[float]] = {"http": [], "without": []}
        cpu = dict.fromkeys(rates, 0.0)
        done = dict.fromkeys(rates, 0)
        memory = [own_memory(server.pid)]
        for turn in range(turns):
            for name in ("http", "without") if turn % 2 else ("without", "http"):
                pids = family(server.pid) if name == "http" else [one.pid for one in loops]
                before = cpu_seconds(pids)
                if name == "http":
                    asked, rate = load(port, data, seconds / turns)
                    http.append(asked)
                    count = len(asked)
                else:
                    rate, count = without_http(loops, seconds / turns)
                cpu[name] += cpu_seconds(pids) - before
                rates[name].append(rate)
                done[name] += count
            memory.append(own_memory(server.pid))
            print(json.dumps({name: rate[-1] for name, rate in rates.items()}), flush=True)
        killed, _ = load(port, data, seconds / turns, kill=server.pid)
        counts = metrics(port)
    finally:
        for one in loops:
            one.kill()
        server.send_signal(signal.SIGTERM)
        code = server.wait(120)
    everybody = [one for turn in http for one in turn]
    seconds_of_all = sorted(one.seconds for one in everybody)
    in_times_of_one = sorted(ratio for turn in http for ratio in times_of_one(turn))
    one_ms = 1000 * statistics.mean(one.computed for one in everybody)
    cpu_ms = {name: 1000 * cpu[name] / done[name] for name in done}
    return {
        "model": model,
        "clients": CLIENTS,
        "workers": WORKERS,
        "queue": QUEUE,
        "seconds": seconds,
        "warm": warmth,
        "photo": {"bytes": len(data), "longer_side": SIDE},
        "per_second": rates,
        "share": statistics.median(
            a / b for a, b in zip(rates["http"], rates["without"], strict=True)
        ),
        "cpu_ms": cpu_ms,
        "cpu_share": cpu_ms["without"] / cpu_ms["http"],
        "ms": {
            "one": one_ms,
            "p50": 1000 * percentile(seconds_of_all, 50),
            "p99": 1000 * percentile(seconds_of_all, 99),
            "bound": one_ms * BOUND,
        },
        "times_of_one": {
            "p50": percentile(in_times_of_one, 50),
            "p99": percentile(in_times_of_one, 99),
            "bound": BOUND,
        },
        "done_while_one_waited": max(count for turn in http for count in done_meanwhile(turn)),
        "statuses": statuses(everybody),
        "memory_mb": memory,
        "killed": {"statuses": statuses(killed), "restarts": counts["worker_restarts_total"]},
        "stages_ms": counts["stages_ms"],
        "exit": code,
        "load_average": load_average,
        "environment": Environment.current().to_json(),
    }


def warm(port: int, data: bytes, photos: int) -> None:
    """Let each worker compute so many photos."""
    done = 0
    while done < WORKERS * photos:
        done += len(load(port, data, 1.0)[0])


def done_meanwhile(asked: Sequence[Asked]) -> list[int]:
    """For each request, how many others were answered before a worker began with it."""
    return [sum(one.start < other.end < one.end - one.computed for other in asked) for one in asked]


def times_of_one(asked: Sequence[Asked]) -> list[float]:
    """How long each request took, in the mean time of those that were computed meanwhile."""
    return [
        one.seconds
        / statistics.mean(
            other.computed
            for other in asked
            if other.end > one.start and other.end - other.computed < one.end
        )
        for one in asked
    ]


def statuses(asked: Iterable[Asked]) -> dict[str, int]:
    return dict(Counter(str(one.status) for one in asked))


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


def load(
    port: int, data: bytes, seconds: float, kill: int | None = None
) -> tuple[list[Asked], float]:
    """Ask from many clients at once, each again when it is answered; also answers a second."""
    asked: list[Asked] = []
    start = time.perf_counter()
    end = start + seconds

    def client() -> None:
        while time.perf_counter() < end:
            asked.append(ask(port, data))

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for one in clients:
        one.start()
    if kill is not None:
        time.sleep(seconds / 3)
        os.kill(family(kill)[1], signal.SIGKILL)
    for one in clients:
        one.join()
    # The last requests finish after the end, on fewer and fewer workers: up to the last answer.
    return asked, len(asked) / (time.perf_counter() - start)


def ask(port: int, data: bytes) -> Asked:
    start = time.perf_counter()
    connection = HTTPConnection("127.0.0.1", port, timeout=2 * TIMEOUT)
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    body = head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()
    connection.request("POST", "/predict", body, FORM)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    stages = re.findall(r"dur=([\d.]+)", answer.getheader("Server-Timing") or "")
    return Asked(answer.status, start, time.perf_counter(), sum(map(float, stages)) / 1000)


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


def own_memory(pid: int) -> list[float]:
    """Megabytes that the server and each worker hold for themselves.

    Not those of files, which come and go with what else the machine needs.
    """
    texts = (Path(f"/proc/{one}/status").read_text() for one in family(pid))
    found = [re.search(r"RssAnon:\s+(\d+) kB", text) for text in texts]
    return [round(int(one[1]) * 1024 / 1e6, 1) for one in found if one is not None]


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
    return with_section(text, "benchmarks/serving.py", figures())


def figures() -> str:
    run = json.loads(RESULT.read_text())
    ms, times, environment = run["ms"], run["times_of_one"], run["environment"]
    rate = {name: statistics.mean(rates) for name, rates in run["per_second"].items()}
    memory = run["memory_mb"]
    middle = memory[len(memory) // 2]
    rows = [
        (
            "photos a second through HTTP · without, in turns with it",
            f"{rate['http']:.2f} · {rate['without']:.2f}",
        ),
        ("share, median of the turns", f"{run['share']:.0%}"),
        (
            "processor time of a photo through HTTP · without",
            " · ".join(f"{run['cpu_ms'][name]:.0f}" for name in ("http", "without")) + " ms",
        ),
        ("share by that", f"{run['cpu_share']:.0%}"),
        ("p50 · p99", f"{ms['p50'] / 1000:.2f} · {ms['p99'] / 1000:.2f} s"),
        (
            "one photo, in a worker, under this load · times (queue ÷ workers + 2)",
            f"{ms['one'] / 1000:.2f} · {ms['bound'] / 1000:.2f} s",
        ),
        (
            "p50 · p99 in times of one photo, as they took meanwhile; bound",
            f"{times['p50']:.1f} · {times['p99']:.1f}; {times['bound']:.0f}",
        ),
        (
            f"others done while one of {run['clients']} clients waited, at most",
            str(run["done_while_one_waited"]),
        ),
        ("answers", _counted(run["statuses"])),
        (
            "memory of the server and each worker, at first · halfway · at last",
            " · ".join(_megabytes(one) for one in (memory[0], middle, memory[-1])) + " MB",
        ),
        ("answers while a worker was killed", _counted(run["killed"]["statuses"])),
    ]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows)
    note = (
        f"{environment['device']}, commit {environment['commit']}: {run['clients']} clients for "
        f"{run['seconds']:.0f} s, {run['workers']} workers of one thread, `{run['model']}`, a JPEG "
        f"of {run['photo']['longer_side']} pixels, after {run['warm']} each to warm up. Load "
        f"average before: {run['load_average']:.1f}."
    )
    return f"\n| load | |\n| --- | --- |\n{table}\n{note}\n\n"


def _counted(statuses: dict[str, int]) -> str:
    return ", ".join(f"{count} × {status}" for status, count in statuses.items())


def _megabytes(memory: Sequence[float]) -> str:
    return " + ".join(f"{one:.0f}" for one in memory)


if __name__ == "__main__":
    main()
