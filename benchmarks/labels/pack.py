"""Make a dataset smaller, for a machine that takes little: the same folders, less of JPEG.

    python benchmarks/labels/pack.py camvid --data FOLDER --out out/camvid [--quality 90]

Pictures lose a little, labels nothing. What is made is for that
machine alone: data may not be in this repository.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from PIL import Image

from sparserefine.data.camvid import CamVid, find_splits

sys.path.insert(0, str(Path(__file__).resolve().parent))
from dataset import EXPERIMENTS  # isort: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quality", type=int, default=90)
    options = parser.parse_args()
    size = count = 0
    for split in find_splits(options.data):
        source = CamVid(options.data, split, EXPERIMENTS[options.experiment].num_classes)
        for kind in ("images", "labels"):
            (options.out / kind / split).mkdir(parents=True, exist_ok=True)
        for index in range(len(source)):
            one = source[index]
            image = options.out / "images" / split / f"{Path(one.name).name}.jpg"
            Image.fromarray(one.image.permute(1, 2, 0).numpy()).save(
                image, quality=options.quality, subsampling=0, optimize=True
            )
            assert one.labels is not None
            labels = options.out / "labels" / split / f"{Path(one.name).name}.png"
            Image.fromarray(one.labels.numpy()).save(labels, optimize=True)
            size += image.stat().st_size + labels.stat().st_size
            count += 1
    for name in ("stats.json", "README.md"):
        if (options.data / name).is_file():
            shutil.copy(options.data / name, options.out / name)
    print(f"{count} pictures, {size / 2**20:.1f} MiB: {options.out}")


if __name__ == "__main__":
    main()
