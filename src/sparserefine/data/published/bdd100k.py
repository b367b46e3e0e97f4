"""BDD100K, semantic segmentation: images/10k/ and labels/sem_seg/masks/, or seg/ of 2018."""

from __future__ import annotations

from pathlib import Path

from sparserefine.data.label_values import AS_THEY_ARE
from sparserefine.data.published.cityscapes import CLASS_NAMES, PALETTE
from sparserefine.data.published.published import Found, Published, existing, paired, required


def _find(root: Path, split: str) -> Found:
    if old := existing(root, f"seg/images/{split}", f"bdd100k/seg/images/{split}"):
        labels = old.parents[1] / "labels" / split
        pairs = paired(sorted(old.glob("*.jpg")), lambda one: labels / f"{one.stem}_train_id.png")
        return Found(pairs, AS_THEY_ARE)
    photos = required(root, f"images/10k/{split}", f"bdd100k/images/10k/{split}")
    masks = photos.parents[2] / "labels" / "sem_seg" / "masks" / split
    pairs = paired(sorted(photos.glob("*.jpg")), lambda photo: masks / f"{photo.stem}.png")
    return Found(pairs, AS_THEY_ARE)


DATASET = Published({"train": "train", "val": "val"}, _find, 19, CLASS_NAMES, PALETTE)
