"""Pack crops into one small file, for a machine that takes little.

    python benchmarks/edges/pack.py CROPS ... --out FILE.zip [--mib 60]

CROPS are folders that crops.py wrote; each gives as large a share of its crops. Pictures are
compressed with loss, some 16 KB a crop of 600 KB.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

QUALITY = 85


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("crops", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mib", type=float, default=60.0)
    options = parser.parse_args()
    files = [file for folder in options.crops for file in sorted(folder.glob("*.npz"))]
    if not files:
        raise SystemExit(f"no crops in {options.crops[0]}. Make some with crops.py.")
    budget, count = options.mib * 2**20 / len(files), 0
    with zipfile.ZipFile(options.out, "w") as pack:
        for file in files:
            with np.load(file) as crops:
                parts = {name: crops[name] for name in ("rgb", "planes", "sides")}
            used = 0
            for index in range(len(parts["rgb"])):
                pictures = {name: _compressed(values[index]) for name, values in parts.items()}
                used += sum(map(len, pictures.values()))
                if used > budget:
                    break
                for name, picture in pictures.items():
                    pack.writestr(f"{count:05d}_{name}.webp", picture)
                count += 1
    print(f"{count} crops, {options.out.stat().st_size / 2**20:.1f} MiB: {options.out}")


def unpacked(file: Path) -> dict[str, UInt8[np.ndarray, "N C h w"]]:
    """The crops of a file, by the names of their parts."""
    found: dict[str, list[np.ndarray]] = {}
    with zipfile.ZipFile(file) as pack:
        for name in sorted(pack.namelist()):
            part = name.removesuffix(".webp").split("_")[1]
            found.setdefault(part, []).append(_restored(pack.read(name), part))
    return {part: np.stack(values) for part, values in found.items()}


def _compressed(values: UInt8[np.ndarray, "C h w"]) -> bytes:
    """Colors as a picture; other channels side by side in gray, as colors lose resolution."""
    if len(values) == 3:
        picture = Image.fromarray(np.ascontiguousarray(values.transpose(1, 2, 0)))
    else:
        picture = Image.fromarray(np.concatenate(list(values), 1)).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _restored(picture: bytes, part: str) -> UInt8[np.ndarray, "C h w"]:
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))
    if part == "rgb":
        return pixels.transpose(2, 0, 1)
    return np.stack(np.split(pixels[..., 1], 6, 1))


if __name__ == "__main__":
    main()
