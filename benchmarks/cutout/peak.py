"""Most MiB that one way to an alpha adds to a process that has the image and the model already.

python benchmarks/cutout/peak.py IMAGE.npy MODEL SIDE WAY [--isnet FILE]
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ways import WAYS, Source, make_source, rembg, vitmatte

import sparserefine as sr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path)
    parser.add_argument("model")
    parser.add_argument("side", type=int)
    parser.add_argument("way")
    parser.add_argument("--isnet", type=Path)
    options = parser.parse_args()
    image = np.load(options.image)
    if options.way == "vitmatte":
        network = vitmatte(None)
        unsure = sr.DensePass.of(torch.full((1, 2, 8, 8), 0.5), kind="probabilities")
        run = lambda: network(image, unsure)  # noqa: E731
    else:
        source = make_source(options.model, options.side, options.isnet)
        run = lambda: answer(source, image, options.way)  # noqa: E731
    before = reset_peak()
    start = time.perf_counter()
    run()
    milliseconds = 1000 * (time.perf_counter() - start)
    print(json.dumps({"mib": peak_kib() / 1024 - before, "ms": milliseconds}))


def answer(source: Source, image: np.ndarray, way: str) -> None:
    """The dense model's prediction and what is made of it."""
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    low, _ = source.predict(images)
    if way in WAYS:
        WAYS[way](images, low)
    else:
        rembg(image, low, way.removeprefix("rembg").strip())  # type: ignore[arg-type]


def reset_peak() -> float:
    """MiB that the process holds now; the peak counts from here on where Linux lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        print("the peak of the start is included", file=sys.stderr)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def peak_kib() -> int:
    """Most KiB since the last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
