"""How soon the page answers a dial, as a person sees it in a browser; and a picture of the page.

    python benchmarks/app_latency.py [--turns 30]
    python benchmarks/app_latency.py --page         # only write the figures into the docs

Photos of the package at 2 megapixels, each dial turned in steps. From the turn to the new picture:
selection, refinement, drawing, the way to the browser and back. Writes results/app_latency.json,
docs/deploy.md and docs/app_page.png.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from section import with_section
from sparserefine.environment import Environment
from sparserefine.photos.shipped import shipped_photo

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "app_latency.json"
PAGE = ROOT / "docs" / "deploy.md"
PICTURE = ROOT / "docs" / "app_page.png"
PIXELS = 2_000_000
# Photo, model, thresholds in nats and budgets in percent to turn the dials through.
CASES: list[tuple[str, str, tuple[float, float], tuple[float, float]]] = [
    ("wren", "Cut-out (U²-Net-p, edges)", (0.0, 0.6), (0.2, 5.0)),
    ("lund", "Streets (demo pair)", (0.4, 1.5), (1.0, 30.0)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=30, help="of each dial")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.page:
        document = {"rows": measure(options.turns), "environment": Environment.current().to_json()}
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
    PAGE.write_text(with_figures(PAGE.read_text()))
    print(figures())


def measure(turns: int) -> list[dict[str, Any]]:
    from playwright.sync_api import sync_playwright

    from app_browser import (
        chromium,
        density,
        launched,
        opened,
        served_page,
        turn,
        wait_for_photo,
    )  # fmt: skip
    from sparserefine.app.catalog import Catalog
    from sparserefine.app.visits import Visits

    rows = []
    catalog = Catalog()
    with (
        tempfile.TemporaryDirectory() as folder,
        served_page(catalog, Visits(catalog.names[0]), Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        path = chromium(playwright)
        if path is None:
            raise SystemExit("no Chromium is installed. Install one, such as the package chromium.")
        browser = launched(playwright, path)
        page = opened(browser, address)
        page.click("[data-example='0']")
        with Image.open(shipped_photo("wren")) as wren:
            wait_for_photo(page, (wren.height, wren.width))
        _write_picture(page.screenshot())
        for number, (name, model, thresholds, budgets) in enumerate(CASES):
            photo = _resized(name, Path(folder))
            page = opened(browser, address)
            # An example of the same model first, as it chooses the model.
            page.click(f"[data-example='{number}']")
            page.wait_for_selector("#sr-density")
            with Image.open(photo) as image:
                size = image.height, image.width
            page.set_input_files("#sr-photo input[type=file]", photo)
            wait_for_photo(page, size)
            at_first = density(page)
            for dial, ends in (("threshold", thresholds), ("budget", budgets)):
                seen, served, processor = [], [], []
                load = os.getloadavg()[0]
                for value in np.linspace(*ends, turns):
                    start = time.process_time()
                    seen.append(turn(page, dial, round(float(value), 3)))
                    processor.append(1000 * (time.process_time() - start))
                    served.append(float(page.inner_text("#sr-now").split()[0]))
                row = {
                    "photo": name, "height": size[0], "width": size[1], "model": model,
                    "dial": dial, "from": ends[0], "to": ends[1], "turns": turns,
                    "first_density_percent": at_first, "seen_p50_ms": round(median(seen)),
                    "seen_p95_ms": round(float(np.quantile(seen, 0.95))),
                    "served_p50_ms": round(median(served)),
                    "processor_p50_ms": round(median(processor)), "load_average": round(load, 1),
                }  # fmt: skip
                rows.append(row)
                print(json.dumps(row), flush=True)
                # Where the dial stood: the next one is turned by itself.
                turn(page, dial, ends[0] if dial == "threshold" else ends[1])
        browser.close()
    return rows


def _resized(name: str, folder: Path) -> Path:
    with Image.open(shipped_photo(name)) as photo:
        scale = (PIXELS / (photo.width * photo.height)) ** 0.5
        size = round(photo.width * scale), round(photo.height * scale)
        path = folder / f"{name}_2mp.jpg"
        photo.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(path, quality=95)
    return path


def _write_picture(screenshot: bytes) -> None:
    from io import BytesIO

    with Image.open(BytesIO(screenshot)) as image:
        small = image.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(PICTURE, optimize=True)


def figures() -> str:
    result = json.loads(RESULT.read_text())
    made = result["environment"]
    lines = [
        "| photo, model | dial | seen, median | 95 of 100 | of it here | processor | load |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in result["rows"]:
        unit = "nats" if row["dial"] == "threshold" else "%"
        lines.append(
            f"| {row['photo']}, {row['width']}×{row['height']}, {row['model']} | {row['dial']} "
            f"{row['from']:g} to {row['to']:g} {unit} | {row['seen_p50_ms']} ms | "
            f"{row['seen_p95_ms']} ms | {row['served_p50_ms']} ms | "
            f"{row['processor_p50_ms']} ms | {row['load_average']:g} |"
        )
    lines += [
        "",
        f"Milliseconds from the turn of a dial to the new picture in headless Chromium, "
        f"{result['rows'][0]['turns']} turns each; \"of it here\" is what the page itself says, "
        "\"processor\" the time of all threads of the server, which others beside hardly change. "
        f"{made['device']}, torch {made['torch']}, commit {made['commit']}; \"load\" is the load "
        "average of the machine as it began, 0 where nothing else ran.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def with_figures(page: str) -> str:
    return with_section(page, "benchmarks/app_latency.py", figures())


if __name__ == "__main__":
    main()
