"""Time and memory of rasters that are segmented by window, by size; the table of docs/scale.md.

    python benchmarks/rasters.py [--megapixels 8,30,120] [--rounds 7] [--page]

Each size is a raster of its own, the same photo laid side by side with noise, and a process of its
own, so that its peak of memory is its own too. Time is processor time, as other programs may run
beside. Writes results/rasters.json; --page writes the page.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from section import made_on, with_section
from spread import shown, spread

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "rasters.json"
PAGE = ROOT / "docs" / "scale.md"
PHOTO = ROOT / "src" / "sparserefine" / "assets" / "photos" / "lund.jpg"
BAND = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", default="8,30,120")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each size, in turns")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--page", action="store_true", help="write the page, measure nothing")
    parser.add_argument("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.page:
        PAGE.write_text(with_figures(PAGE.read_text()))
        return
    if options.only:
        print(json.dumps(run(*map(Path, options.only))))
        return
    from sparserefine.environment import Environment

    found: dict[int, list[dict[str, Any]]] = {int(n): [] for n in options.megapixels.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        for megapixels in found:
            make_raster(Path(folder) / f"{megapixels}.tif", megapixels)
        for _ in range(options.rounds):
            for megapixels, runs in found.items():
                # What is written already, another run would leave as it is.
                with tempfile.TemporaryDirectory(dir=folder) as out:
                    files = Path(folder) / f"{megapixels}.tif", Path(out) / "labels.tif"
                    command = [sys.executable, __file__, "--only", *map(str, files)]
                    runs.append(json.loads(subprocess.check_output(command).splitlines()[-1]))
                print(json.dumps(runs[-1]), flush=True)
    result = {
        "rows": [of_runs(runs) for runs in found.values()],
        "rounds": options.rounds,
        "environment": Environment.current().to_json(),
    }
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(options.out)


def run(source: Path, out: Path) -> dict[str, Any]:
    """Segment a raster with the shipped pair."""
    import sparserefine as sr

    model = sr.load("demo")
    start, cpu_start = time.perf_counter(), time.process_time()
    result = sr.predict_raster(model, source, out)
    seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    megapixels = math.prod(result.size) / 1e6
    return {
        "megapixels": round(megapixels, 1),
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu_s, 1),
        "cpu_s_per_megapixel": round(cpu_s / megapixels, 3),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "density": round(result.density, 4),
        "dense_parts": result.dense_parts,
        "windows": result.windows,
        "stages_s": {name: round(ms / 1000, 1) for name, ms in result.stages_ms.items()},
    }


def of_runs(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """One row of all runs of a size, which are the same but in time and memory."""
    row = dict(runs[0])
    for name in ("seconds", "cpu_s", "cpu_s_per_megapixel", "peak_mib"):
        row |= spread([run[name] for run in runs], name)
    row["stages_s"] = {
        stage: median(run["stages_s"][stage] for run in runs) for stage in row["stages_s"]
    }
    return row


def make_raster(path: Path, megapixels: int) -> None:
    """Write a raster of about so many megapixels, 4:3, row by row."""
    import rasterio

    from sparserefine.images import read_image

    photo = read_image(PHOTO)
    height = round(math.sqrt(megapixels * 1e6 * 3 / 4))
    width = round(height * 4 / 3)
    generator = np.random.default_rng(0)
    settings: dict[str, Any] = {
        "driver": "GTiff", "height": height, "width": width, "count": 3, "dtype": "uint8",
        "photometric": "RGB", "tiled": True, "blockxsize": BAND, "blockysize": BAND,
        "compress": "deflate", "zlevel": 1, "BIGTIFF": "IF_SAFER", "crs": "EPSG:32633",
        "transform": rasterio.Affine(1, 0, 500_000, 0, -1, 5_600_000),
    }  # fmt: skip
    columns = np.arange(width) % photo.shape[1]
    with rasterio.open(path, "w", **settings) as file:
        for top in range(0, height, BAND):
            rows = np.arange(top, min(top + BAND, height))
            noise = generator.integers(-12, 13, (len(rows), width, 1), np.int16)
            band = photo[rows % photo.shape[0]][:, columns] + noise
            window = ((top, top + len(rows)), (0, width))
            file.write(band.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), window=window)


def with_figures(text: str) -> str:
    """The page with its table made anew."""
    return with_section(text, "benchmarks/rasters.py", table(json.loads(RESULT.read_text())))


def table(result: dict[str, Any]) -> str:
    """Sizes with their peak of memory and time."""
    lines = [
        "| megapixels | peak of memory | processor time | s per megapixel | refined | "
        "dense model |",
        "|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        parts = "as a whole" if row["dense_parts"] == 1 else f"in {row['dense_parts']} parts"
        lines.append(
            f"| {row['megapixels']:,.0f} | {shown(row, 'peak_mib', ',.0f')} MiB | "
            f"{shown(row, 'cpu_s', ',.0f')} s | {shown(row, 'cpu_s_per_megapixel', '.2f')} | "
            f"{row['density']:.0%} | {parts} |"
        )
    lines.append(
        "\nThe shipped pair, `demo`, by `python benchmarks/rasters.py`, medians "
        f"(95th percentiles) of {result['rounds']} runs; processor time of all threads. "
        f"{made_on(result['environment'])}\n"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
