"""Photo stamps and plant sprites with alpha, out of Debian packages.

    python benchmarks/cutout/foregrounds/packages.py FOLDER [--deb FILE ...]

A package that is not given as a file is fetched by `apt-get download`. Licences are those of the
packages' `usr/share/doc/PACKAGE/copyright`, as far as they are clear.
"""

from __future__ import annotations

import argparse
import io
import re
import subprocess
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from foreground import Foreground, excluded, from_premultiplied, write_manifest
from PIL import Image

SMALLEST = 300  # pixels on the long side
TUXPAINT = "usr/share/tuxpaint/stamps"
VEGETATION = "textures/veg/"
# Drawn, not photographed, all of it.
DRAWN = {"cartoon", "symbols", "flags", "dinosaur"}
# The stamp collection's folder, and the kind of what is in it.
KINDS = {
    "animals": "animal",
    "plants": "plant",
    "food": "food",
    "vehicles": "vehicle",
    "town": "street thing",
    "military": "vehicle",
    "people": "person",
}
# Of the rally game's plants, the copyright file gives these to one author, the others to CC0.
BLEED = "brown-tree green-tree green-tree2 fine-tree needle palm3 palm4 spruce-little thick-tree"
CC_BY = set(f"{BLEED} wide-tree2 willow".split())


@dataclass(frozen=True)
class Sprite:
    """A picture of a package, before it is judged."""

    name: str
    product: str
    kind: str
    source: str
    license: str
    data: bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--deb", type=Path, nargs="*", default=[], help="packages at hand")
    options = parser.parse_args()
    rows, left_out = [], Counter()
    names = excluded()
    for package, sprites in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            subprocess.run(["dpkg-deb", "-x", find(package, options.deb, root), root], check=True)
            for sprite in sprites(root):
                why = "looked at" if sprite.name in names else None
                made = why or judge(sprite)
                if isinstance(made, str):
                    left_out[made] += 1
                    continue
                made.save(options.folder)
                rows.append(made.row)
    write_manifest(options.folder, rows)
    print("kept:", dict(Counter(row["kind"] for row in rows)))
    print("left out:", dict(left_out))


def find(package: str, debs: list[Path], folder: Path) -> Path:
    """The package's file: one of `debs`, or downloaded into `folder`."""
    for deb in debs:
        if deb.name.startswith(f"{package}_"):
            return deb
    subprocess.run(["apt-get", "download", package], cwd=folder, check=True)
    return next(folder.glob(f"{package}_*.deb"))


def tuxpaint(root: Path) -> Iterator[Sprite]:
    """Stamps of the paint program, drawn ones left out by folder."""
    stamps = root / TUXPAINT
    for path in sorted(stamps.rglob("*.png")):
        place = path.relative_to(stamps)
        if DRAWN & set(place.parts):
            continue
        yield Sprite(
            name="tuxpaint-" + "-".join(place.with_suffix("").parts).replace(" ", "_"),
            product="-".join(("tuxpaint", *place.parent.parts, first_word(place.stem))),
            kind=KINDS.get(place.parts[0], "object"),
            source=f"Debian tuxpaint-stamps-default: {place}",
            license="GPL-2 (the package's copyright file, for all stamps)",
            data=path.read_bytes(),
        )


def trigger_rally(root: Path) -> Iterator[Sprite]:
    """Trees and bushes of the rally game; those without a licence of their own are left out."""
    with zipfile.ZipFile(next(root.rglob("data.zip"))) as archive:
        free = cc0_files((root / "usr/share/doc/trigger-rally-data/copyright").read_text())
        for name in sorted(archive.namelist()):
            stem = PurePosixPath(name).stem
            if VEGETATION not in name or not name.endswith(".png"):
                continue
            if stem not in CC_BY and stem not in free:
                continue
            by = "CC BY 3.0, Bleed (remusprites.carbonmade.com)"
            yield Sprite(
                name=f"rally-{stem}",
                product=f"rally-{first_word(stem)}",
                kind="tree",
                source=f"Debian trigger-rally-data: data.zip/{name}",
                license=by if stem in CC_BY else "CC0 1.0 (the package's copyright file)",
                data=archive.read(name),
            )


def cc0_files(copyright_text: str) -> set[str]:
    """Stems of the plants in the paragraphs that end in `License: CC0`."""
    found = set()
    for paragraph in copyright_text.split("\n\n"):
        if paragraph.rstrip().endswith("\nLicense: CC0") and paragraph.startswith("Files:"):
            for word in paragraph.split():
                if VEGETATION in word:
                    found.add(PurePosixPath(word).stem)
    return found


PACKAGES = {"tuxpaint-stamps-default": tuxpaint, "trigger-rally-data": trigger_rally}


def judge(sprite: Sprite) -> Foreground | str:
    """The foreground, or why it cannot be one."""
    image = Image.open(io.BytesIO(sprite.data))
    if max(image.size) < SMALLEST:
        return "small"
    if image.mode not in ("RGBA", "LA") and "transparency" not in image.info:
        return "without alpha"
    pixels = np.asarray(image.convert("RGBA"), np.float32) / 255
    alpha = pixels[..., 3]
    if (alpha > 0.5).mean() < 0.01 or (alpha > 0.5).all():
        return "empty or full"
    inside = alpha > 0.5
    edges = sum(int(np.diff(inside, axis=axis).sum()) for axis in (0, 1))
    soft = ((alpha > 0.03) & (alpha < 0.97)).sum()
    if soft < 0.3 * edges:
        return "jagged"
    sure = (pixels[alpha > 0.97, :3] * 63).astype(np.int64)
    if len(np.unique(sure @ [1, 64, 4096])) < 500:
        return "few colors, so drawn"
    rgb, alpha = from_premultiplied(pixels[..., :3] * alpha[..., None], alpha, trusted=0.95)
    return Foreground(
        name=sprite.name,
        product=sprite.product,
        kind=sprite.kind,
        source=sprite.source,
        license=sprite.license,
        rgb=rgb,
        alpha=alpha,
    )


def first_word(stem: str) -> str:
    """What siblings have in common: "guitar" of guitar_electric and of guitar2."""
    return re.split(r"[^A-Za-z]", stem)[0].lower()


if __name__ == "__main__":
    main()
