"""Many photos: `predict` beside the sum of its parts, its memory, and what ten million would take.

    python benchmarks/bulk.py [--photos 60] [--rounds 7]
    python benchmarks/bulk.py --measure memory [--count 5000]
    python benchmarks/bulk.py --page            # only write the figures into the docs

The parts are reading, segmenting and writing, each alone with all cores; the sum of their times is
what `predict` would take if it kept all cores busy and overlapped nothing. They and `predict`, with
threads and without, take turns. Photos are crops of those that ship with the package. Memory is
sampled while many small photos are done; it may be measured on a busy machine, times may not. What
is not measured keeps its figures. Writes results/bulk.json and docs/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from PIL import Image

import sparserefine as sr
from section import made_on, with_section
from sparserefine.environment import Environment
from sparserefine.photos.photo_run import PhotoJob, PhotoRun
from sparserefine.photos.shipped import shipped_photo
from spread import shown, spread

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "bulk.json"
PAGE = ROOT / "docs" / "scale.md"
SIZE, SMALL = (1280, 720), (256, 192)
# Memory first: pages that larger photos left would count as its own.
PARTS = ("memory", "throughput", "batches")
OUTPUTS = {"labels and overlay": ("labels", "overlay"), "labels": ("labels",)}
MANY = 10_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=60, help="of each round")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--count", type=int, default=5000, help="small photos, for the memory")
    parser.add_argument("--measure", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    parts = () if options.page else options.measure
    document = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            document[part] = measured(part, Path(folder) / part, options)
            document[part]["environment"] = Environment.current().to_json()
            RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def measured(part: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One of PARTS, in a folder of its own."""
    folder.mkdir()
    model = sr.load("demo")
    if part == "memory":
        return memory(model, crops(folder / "small", options.count, SMALL), folder / "many")
    if part == "batches":
        return batches(model, crops(folder / "small", 32, SMALL), options.rounds)
    photos = crops(folder / "photos", options.photos, SIZE)
    rows = [
        {"write": name} | throughput(model, photos, folder / "out", write, options.rounds)
        for name, write in OUTPUTS.items()
    ]
    return {
        "size": SIZE,
        "photos": options.photos,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "rows": rows,
    }


def crops(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Folder of crops of the shipped photos, as JPEG, all different."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    sources = [Image.open(shipped_photo(name)).convert("RGB") for name in ("lund", "highway")]
    for index in range(count):
        source = sources[index % len(sources)]
        scale = max(size[0] / source.width, size[1] / source.height) * generator.uniform(1.05, 1.3)
        width, height = size[0] / scale, size[1] / scale
        left = generator.uniform(0, source.width - width)
        top = generator.uniform(0, source.height - height)
        crop = source.resize(size, box=(left, top, left + width, top + height))
        crop.save(folder / f"{index:05}.jpg", quality=90)
    return folder


def throughput(
    model: sr.SparseRefiner, photos: Path, out: Path, write: tuple[str, ...], rounds: int
) -> dict[str, Any]:
    """Seconds per photo: of each part alone, and of `predict`."""
    count = len(list(photos.iterdir()))
    taken: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first warms up
        for name, seconds in one_round(model, photos, out / f"{write}{number}", write).items():
            taken.setdefault(name, []).append(seconds / count)
    kept = {name: values[1:] for name, values in taken.items()}
    parts = [sum(one) for one in zip(kept["read"], kept["segment"], kept["write"], strict=True)]
    folders = [one for one in (out / f"{write}{rounds}-0").iterdir() if one.is_dir()]
    return {
        **{
            key: value
            for name, values in {**kept, "parts": parts}.items()
            for key, value in spread(values, f"{name}_s").items()
        },
        "share": median([a / b for a, b in zip(parts, kept["threads"], strict=True)]),
        "bytes": mean(sum(file.stat().st_size for file in one.iterdir()) for one in folders),
    }


def one_round(
    model: sr.SparseRefiner, photos: Path, out: Path, write: tuple[str, ...]
) -> dict[str, float]:
    seconds: dict[str, float] = {}
    run = PhotoRun(model=model, write=write)
    jobs = [PhotoJob(path, Path(f"{out}-0") / path.stem) for path in sorted(photos.iterdir())]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # Few at a time, so that memory is not what is measured.
        for start in range(0, len(jobs), 20):
            some = jobs[start : start + 20]
            with clock(seconds, "read"):
                read = list(pool.map(run.read, some))
            with clock(seconds, "segment"):
                done = [run.segment([pair])[0] for pair in zip(some, read, strict=True)]
            with clock(seconds, "write"):
                list(pool.map(run.finish, some, done))
    for name, workers in (("threads", None), ("alone", 0)):
        with clock(seconds, name):
            sr.predict(model, photos, out=f"{out}-{name}", write=write, workers=workers)
    return seconds


@contextmanager
def clock(seconds: dict[str, float], name: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start


def batches(model: sr.SparseRefiner, photos: Path, rounds: int) -> dict[str, Any]:
    """Milliseconds of the model per small photo, by how many are one batch."""
    some = sorted(photos.iterdir())
    run = PhotoRun(model=model, write=())
    pairs = [(PhotoJob(path), run.read(PhotoJob(path))) for path in some]
    found: dict[str, list[float]] = {}
    for _ in range(rounds + 1):
        for size in (1, 4, 16):
            start = time.perf_counter()
            for first in range(0, len(pairs), size):
                run.segment(pairs[first : first + size])
            taken = 1000 * (time.perf_counter() - start) / len(pairs)
            found.setdefault(str(size), []).append(taken)
    ms = [spread(values[1:], size) for size, values in found.items()]
    return {"size": SMALL, "rounds": rounds, "ms": {k: v for one in ms for k, v in one.items()}}


def memory(model: sr.SparseRefiner, photos: Path, out: Path) -> dict[str, Any]:
    """MiB of the process after each twentieth of the photos."""
    count = len(list(photos.iterdir()))
    samples: dict[int, float] = {}
    highest = [0.0]
    over = threading.Event()

    def sample() -> None:
        while not over.wait(0.05):
            highest[0] = max(highest[0], resident_mib())

    def told(stage: str, done: int, total: int) -> None:
        if done and done % max(1, total // 20) == 0:
            samples[done] = highest[0]
            highest[0] = resident_mib()

    watcher = threading.Thread(target=sample)
    watcher.start()
    start = time.perf_counter()
    progress: Callable[[str, int, int], object] = told
    sr.predict(model, photos, out=out, write=("labels",), progress=progress)
    taken = time.perf_counter() - start
    over.set()
    watcher.join()
    values = list(samples.values())
    half = len(values) // 2
    return {
        "photos": count,
        "size": SMALL,
        "seconds": taken,
        "mib": {str(done): round(value, 1) for done, value in samples.items()},
        # The first twentieth warms up.
        "growth_mib": mean(values[half:]) - mean(values[1:half]),
    }


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def with_figures(text: str) -> str:
    """The page with its figures made anew from the result file."""
    return with_section(text, "benchmarks/bulk.py", figures())


def figures() -> str:
    result = json.loads(RESULT.read_text())
    memory, throughput, batch = (result[part] for part in PARTS)
    lines = [
        "| written | read, ms | segment, ms | write, ms | their sum | `predict` | of the sum's "
        "rate | one after the other |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in throughput["rows"]:
        keys = ("read_s", "segment_s", "write_s", "parts_s", "threads_s")
        *cells, alone = (shown(row, key, times=1000) for key in (*keys, "alone_s"))
        lines.append(f"| {row['write']} | {' | '.join(cells)} | {row['share']:.0%} | {alone} |")
    alike = ", ".join(
        f"{shown(batch['ms'], n, '.1f')} ms as batches of {n}" for n in batch["ms"] if n.isdigit()
    )
    values = list(memory["mib"].values())
    lines += [
        "",
        f"Per photo of {by(throughput['size'])}, medians (95th percentiles) of "
        f"{throughput['rounds']} rounds of "
        f"{throughput['photos']} photos in turns. {made_on(throughput['environment'])}",
        "",
        f"Batches of equal sizes, {by(batch['size'])}, the model alone: {alike}. "
        f"{made_on(batch['environment'])}",
        "",
        f"**Memory** over {memory['photos']:,} photos of {by(memory['size'])}: "
        f"{min(values[1:]):,.0f} to {max(values):,.0f} MiB, the mean of the second half "
        f"{memory['growth_mib']:+.1f} MiB beside that of the first. "
        f"{made_on(memory['environment'])}",
        "",
        *ten_million(throughput["rows"], throughput["cores"]),
        "",
    ]
    return "\n".join(lines)


def by(size: Sequence[int]) -> str:
    return f"{size[0]}×{size[1]}"


def ten_million(rows: list[dict[str, Any]], cores: int) -> list[str]:
    """What as many photos of that size take, by the figures above."""
    lines = [
        f"Ten million photos of that size, from these figures ({MANY:,} × seconds × {cores} "
        "cores):",
        "",
        "| written | core-hours | days on 100 machines of 16 cores | results |",
        "|---|---|---|---|",
    ]
    for row in rows:
        hours = MANY * row["threads_s"] * cores / 3600
        lines.append(
            f"| {row['write']} | {hours:,.0f} | {hours / 1600 / 24:.2f} | "
            f"{MANY * row['bytes'] / 1e12:.1f} TB in {MANY:,} folders |"
        )
    return lines


if __name__ == "__main__":
    main()
