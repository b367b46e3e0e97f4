"""Time and memory of refining a mask: ours, other refiners, and ours on every pixel.

    python benchmarks/refine.py [--photo FILE] [--megapixels 1 12] [--rounds 7] [--threads 2]
    python benchmarks/refine.py --page            # only write the table into the docs

The masks are U²-Net-p's at 320 of the photo, by default the wren that ships, and a hard one of 1024
cells, made of what is found with the first; at each size.
All ways take turns, from decoded image and mask to alpha. ViTMatte-S runs as rembg's `-vm` runs it,
with random weights, which take as long as others, and so does CascadePSP, where its package is
installed (cascade_psp.py). "dense refiner" is the network of `edges` as
ordinary convolutions on every pixel, without what comes before it. Memory is the most that each way
adds to a process of its own that has the photo and the mask. Writes results/refine.json and
docs/refine.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch.nn import functional as F

import sparserefine as sr
from sparserefine.environment import Environment
from sparserefine.photos.shipped import shipped_photo
from sparserefine.refinement.alpha import refine_alpha
from sparserefine.refinement.edge_net import WIDTHS

sys.path.insert(0, str(Path(__file__).resolve().parent / "cutout"))
from peak import peak_kib, reset_peak
from ways import make_source, vitmatte

from section import made_on, with_section

from cascade_psp import cascade_psp, is_installed  # isort: skip
from sparse_unets import dense_unet  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "results" / "refine.json"
PAGE = ROOT / "docs" / "refine.md"
OURS = ("edges", "closed-form", "guided", "bilinear")
# Of the photo's sides, to each side: the thing in it is then as large as in most photos.
MARGIN = 0.2
# 4000×3000 and its like.
SHAPE = (4, 3)
# Beyond it a network on every pixel takes tens of gigabytes, and CascadePSP an hour.
MOST_DENSE = 2.0
ViT, CASCADE, DENSE = "ViTMatte-S", "CascadePSP", "dense refiner"
SOFT, HARD = "U²-Net-p 320", "hard 1024"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photo", type=Path, default=shipped_photo("wren"))
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1.0, 12.0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", help="only this way, once, in this process")
    parser.add_argument("--mask", type=Path, help="of --peak: a file with the logits of the mask")
    parser.add_argument("--memory", action="store_true", help="only memory anew, into the result")
    parser.add_argument("--page", action="store_true")
    options = parser.parse_args()
    if options.page:
        write_page(json.loads(RESULT.read_text()))
        return
    torch.set_num_threads(options.threads)
    if options.peak:
        print(json.dumps(peak_of(options)))
        return
    if options.memory:
        document = json.loads(RESULT.read_text())
        for megapixels, masks in document["sizes"].items():
            for mask, found in masks.items():
                measure_memory(found["ways"], options, float(megapixels), mask)
        RESULT.write_text(json.dumps(document, indent=1) + "\n")
        write_page(document)
        return
    sizes: dict[str, dict[str, Any]] = {}
    for megapixels in options.megapixels:
        for mask in (SOFT, HARD):
            found = compared(options, megapixels, mask)
            sizes.setdefault(f"{megapixels:g}", {})[mask] = found
    document = {
        "photo": options.photo.stem,
        "rounds": options.rounds,
        "threads": options.threads,
        "sizes": sizes,
        "command": " ".join(["python benchmarks/refine.py", *sys.argv[1:]]),
        "environment": Environment.current().to_json(),
    }
    RESULT.write_text(json.dumps(document, indent=1) + "\n")
    write_page(document)
    print(RESULT)


def compared(options: argparse.Namespace, megapixels: float, mask: str) -> dict[str, Any]:
    """Time and memory of all ways at one size, of one mask."""
    image, low = given(options.photo, megapixels, mask)
    names = ways_at(megapixels, mask)
    runs = {name: make_way(name, image, low) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds + 1):
        for name, run in runs.items():
            if name == CASCADE and turn != 1:  # minutes
                continue
            start = time.perf_counter()
            run()
            milliseconds = 1000 * (time.perf_counter() - start)
            if turn:  # the first warms up
                taken[name].append(milliseconds)
            print(f"{megapixels:g} MP, {mask}, {name}: {milliseconds:.0f} ms", flush=True)
    matte = refine_alpha(_tensor(image), low, method="edges", clean_colors=False)
    ways: dict[str, dict[str, float]] = {
        name: {
            "p50_ms": median(values),
            "p95_ms": quantiles(values, n=20)[-1] if len(values) > 1 else values[0],
            "runs": len(values),
        }
        for name, values in taken.items()
    }
    measure_memory(ways, options, megapixels, mask)
    height, width = image.shape[:2]
    return {"height": height, "width": width, "density": matte.density, "ways": ways}


def measure_memory(
    ways: dict[str, dict[str, float]], options: argparse.Namespace, megapixels: float, mask: str
) -> None:
    """Add the most MiB that each way adds to a process of its own, which has photo and mask."""
    low = given(options.photo, megapixels, mask)[1]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "low.pt"
        torch.save({"logits": low.logits, "hard": low.hard}, file)
        for name in ways:
            command = [sys.executable, __file__, "--photo", str(options.photo), "--peak", name]
            command += ["--megapixels", str(megapixels), "--threads", str(options.threads)]
            done = subprocess.run(
                [*command, "--mask", str(file)], capture_output=True, text=True, check=True
            )
            ways[name] |= json.loads(done.stdout.splitlines()[-1])


def given(
    photo: Path, megapixels: float, mask: str
) -> tuple[UInt8[np.ndarray, "H W 3"], sr.DensePass]:
    """The photo at a size, and a prediction of it."""
    image = photo_at(photo, megapixels)
    low = make_source("u2netp", 320, None).predict(_tensor(image))[0]
    if mask == SOFT:
        return image, low
    alpha = refine_alpha(_tensor(image), low, method="edges", clean_colors=False).alpha
    hard = F.interpolate(alpha[None, None], (768, 1024), mode="bilinear", antialias=True) > 0.5
    return image, sr.DensePass.of(hard[0, 0], kind="mask")


def photo_at(photo: Path, megapixels: float) -> UInt8[np.ndarray, "H W 3"]:
    """The photo with mirrored margins at a size, 4:3."""
    pixels = np.asarray(Image.open(photo).convert("RGB"))
    margins = [(round(MARGIN * side),) * 2 for side in pixels.shape[:2]]
    picture = Image.fromarray(np.pad(pixels, (*margins, (0, 0)), "reflect"))
    across, down = SHAPE
    unit = (megapixels * 1e6 / (across * down)) ** 0.5
    width, height = round(across * unit), round(down * unit)
    scale = max(width / picture.width, height / picture.height)
    larger = picture.resize((round(picture.width * scale), round(picture.height * scale)))
    left, top = (larger.width - width) // 2, (larger.height - height) // 2
    return np.array(larger.crop((left, top, left + width, top + height)))


def ways_at(megapixels: float, mask: str) -> list[str]:
    """Names of what can run at a size here; CascadePSP, which takes a minute, of one mask."""
    names: list[str] = list(OURS)
    if find_spec("transformers") is not None:
        names.append(ViT)
    if megapixels > MOST_DENSE:
        return names
    return [*names, CASCADE, DENSE] if is_installed() and mask == SOFT else [*names, DENSE]


def make_way(name: str, image: np.ndarray, low: sr.DensePass) -> Callable[[], object]:
    """One way, ready to run."""
    images = _tensor(image)
    if name == ViT:
        network = vitmatte(None)
        return lambda: network(image, low)
    if name == CASCADE:
        found = refine_alpha(images, low, method="bilinear", clean_colors=False)
        return cascade_psp(image, found.alpha > 0.5)
    if name == DENSE:
        unet = dense_unet(WIDTHS, 2, 1).eval().to(memory_format=torch.channels_last)
        height, width = (side // 8 * 8 for side in image.shape[:2])
        seen = images[..., :height, :width].float().to(memory_format=torch.channels_last)

        @torch.inference_mode()
        def run() -> object:
            return unet(seen)

        return run
    return lambda: refine_alpha(images, low, method=name, clean_colors=False)  # type: ignore[arg-type]


def peak_of(options: argparse.Namespace) -> dict[str, float]:
    """Most MiB that one way adds to this process."""
    image = photo_at(options.photo, options.megapixels[0])
    low = sr.DensePass(**torch.load(options.mask, weights_only=True))
    run = make_way(options.peak, image, low)
    before = reset_peak()
    run()
    return {"mib": peak_kib() / 1024 - before}


def write_page(document: dict[str, Any]) -> None:
    """Replace the table in the docs."""
    lines = ["| megapixels | mask | refined | way | p50 | p95 | memory |", "|" + "---|" * 7]
    for megapixels, masks in document["sizes"].items():
        for mask, found in masks.items():
            for name, way in found["ways"].items():
                lines.append(
                    f"| {megapixels} | {mask} | {found['density']:.1%} | {name} | "
                    f"{way['p50_ms']:.0f} ms | {way['p95_ms']:.0f} ms | {way['mib']:.0f} MiB |"
                )
    lines += [
        "",
        f"{document['rounds']} rounds in turns (CascadePSP 1), {document['threads']} threads, "
        f"`{document['command']}`. {made_on(document['environment'])}",
    ]
    figures = "\n".join(lines)
    PAGE.write_text(with_section(PAGE.read_text(), "benchmarks/refine.py", figures))


def _tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


if __name__ == "__main__":
    main()
