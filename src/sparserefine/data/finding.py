"""What a folder holds: photos, their label maps, splits; found by names, and never opened wrongly.

A file is a label map if a folder above it, or its own name beside that of a photo, says so. What
looks like label maps but is not named so is refused, with the ways to say what is meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sparserefine.data.likeness import looks_like_labels
from sparserefine.data.pairing import (
    Key,
    Pairs,
    folders_above,
    is_jpeg,
    key_of,
    pair_by_name,
    same_names,
)
from sparserefine.data.roles import SPLITS, Role, core_of, role_of_folder, split_of
from sparserefine.data.split_list import NamedPhotos
from sparserefine.images import IMAGE_SUFFIXES, ImageError, list_images

HOW = (
    "Name the folder of label maps: labels=FOLDER (--labels FOLDER); or take every image for a "
    'photo: layout="photos" (--layout photos). `sparserefine check DATA` shows what is found'
)
LAYOUTS = {
    "auto": "whatever the names say",
    "photos": "every image is a photo",
    "beside": "label maps beside photos, in the same folder",
    "cityscapes": "leftImg8bit/ + gtFine/, X_leftImg8bit.png + X_gtFine_labelTrainIds.png",
    "voc": "JPEGImages/ + SegmentationClass/",
    "mmsegmentation": "img_dir/ + ann_dir/",
    "ade20k": "images/ + annotations/, ADE_train_0.jpg + ADE_train_0.png",
    "camvid": "train/ + trainannot/, 0_L.png for 0.png, or images/train/ + labels/train/",
    "folders": "a folder of photos + a folder of label maps: images/ + masks/ …",
}
"""Names of layouts and what they look like."""


@dataclass(frozen=True)
class Finding:
    """The files of a dataset.

    Attributes:
        root: Folder that names are relative to, or the only file.
        layout: Name of the layout, one of `LAYOUTS` but "auto".
        photos: Photos, each with its key.
        labels: Label maps, each with its key.
        pairs: Label map of each photo that has one.
        roots: Folders of photos and of label maps, as a user is told; empty where there is none.
        left_out: Files that are neither photo nor label map.
    """

    root: Path
    layout: str
    photos: dict[Path, Key]
    labels: dict[Path, Key]
    pairs: Pairs = field(default_factory=dict)
    roots: tuple[str, str] = ("", "")
    left_out: tuple[Path, ...] = ()

    @property
    def splits(self) -> list[str]:
        """Splits that folders are named after, in the order of `SPLITS`."""
        found = {self.split_of(path) for path in (*self.photos, *self.labels)}
        return [name for name in SPLITS if name in found]

    def split_of(self, path: Path) -> str | None:
        """The split of a file by the folders above it."""
        key = self.photos.get(path) or self.labels.get(path) or ()
        return next((found for part in key[:-1] for found in _splits_in(part)), None)

    def only(self, split: str) -> Finding:
        """The files of one split."""
        photos = {path: key for path, key in self.photos.items() if self.split_of(path) == split}
        labels = {path: key for path, key in self.labels.items() if self.split_of(path) == split}
        return replace(self, photos=photos, labels=labels)

    def named(self, names: Iterable[str]) -> Finding:
        """The files of which a list gives the names.

        Args:
            names: Names or paths, as `NamedPhotos` knows them.

        Raises:
            ValueError: A name is that of no photo, or of several.
        """
        by_name = NamedPhotos(self.photos, self.root)
        found = {name: by_name.find(name) for name in names}
        missing = [name for name, paths in found.items() if not paths]
        if missing:
            raise ValueError(
                f"{self.roots[0] or self.root} has no file for {len(missing)} of the names: "
                f"{_shown(missing)}. Add these photos, or take them off the list."
            )
        for name, paths in found.items():
            if len(paths) > 1:
                raise ValueError(
                    f"the name {name} is that of {' and '.join(self._told(paths)[:2])}, expected "
                    f"one photo. Put the folder before it."
                )
        wanted = {path for paths in found.values() for path in paths}
        photos = {path: key for path, key in self.photos.items() if path in wanted}
        theirs = set(pair_by_name(photos, self.labels).values())
        labels = {path: key for path, key in self.labels.items() if path in theirs}
        return replace(self, photos=photos, labels=labels)

    def paired(self) -> Finding:
        """The same with label maps found for photos.

        Raises:
            ValueError: A photo or a label map has no partner, or two.
        """
        pairs = pair_by_name(self.photos, self.labels)
        lonely = [path for path in self.labels if path not in set(pairs.values())]
        bare = [path for path in self.photos if path not in pairs]
        ours, others = (name or str(self.root) for name in self.roots)
        if lonely:
            raise ValueError(
                f"{ours} has no file for {len(lonely)} of the names: {_shown(self._told(lonely))}. "
                f"They are of {others}; photos are {_shown(self._told(self.photos))}. Expected "
                f"names that are alike, such as a.jpg and a.png or a_mask.png. {HOW}."
            )
        if bare and self.layout == "voc":  # of most photos nobody drew a label map
            photos = {path: key for path, key in self.photos.items() if path in pairs}
            return replace(self, photos=photos, pairs=pairs)
        if bare:
            raise ValueError(
                f"{others} has no file for {len(bare)} of the names: {_shown(self._told(bare))}. "
                f"They are of {ours}. Expected a label map for each photo, or for none; move these "
                f'away, or list the others in train.txt and say split="train". {HOW}.'
            )
        return replace(self, pairs=pairs)

    def _told(self, paths: Iterable[Path]) -> list[str]:
        keys = {**self.photos, **self.labels}
        return ["/".join(keys[path]) for path in list(paths)[:4]]


def find(root: Path, labels: Path | None = None, layout: str = "auto") -> Finding:
    """Find the photos and label maps of a folder.

    Args:
        root: The folder.
        labels: Folder of the label maps, if the user names it: as it is, or below the root.
        layout: One of `LAYOUTS`; all but "auto" refuse what is laid out differently.

    Raises:
        ImageError: There is nothing at `root`, or no image.
        ValueError: It cannot be told which files are label maps, or it is another layout.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}.")
    files = list_images(root)
    if root.is_dir():
        # Pictures that this package wrote are no photos, but label maps they may be.
        ours = set(list_images(root, results=True)) - set(files)
        files += sorted(path for path in ours if _is_in_labels(path.relative_to(root)))
    if labels is not None:
        if layout == "photos":
            raise ValueError('layout="photos" takes no label maps, but labels are named. Use one.')
        return _with_labels(root, files, labels)
    if layout == "photos" or root.is_file():
        return Finding(root, "photos", {path: key_of(path, root) for path in files}, {})
    _refuse_empty_labels(root, files)
    found = sort_by_names(root, files, asked=layout == "beside")
    if not found.photos:
        _refuse_only_labels(root, [*found.labels, *found.left_out])
    if not found.labels and (seen := hidden_labels(found)):
        remedy = '; a.jpg beside a.png is layout="beside" (--layout beside)'
        raise ValueError(f"{root} {seen}. {HOW}{remedy if 'named alike' in seen else ''}.")
    if layout not in ("auto", found.layout) and not (layout == "folders" and found.labels):
        raise ValueError(
            f"{root} was to be of the layout {layout!r}, {LAYOUTS[layout]}, but looks like "
            f"{found.layout!r}: {describe(found)}. {HOW}."
        )
    return found


def _is_in_labels(path: Path) -> bool:
    return any(role_of_folder(name)[0] is Role.LABELS for name in path.parts[:-1])


def describe(found: Finding) -> str:
    """What was found, in a line."""
    ours, others = found.roots
    text = f"{len(found.photos)} photos" + (f" in {ours}" if ours else "")
    if found.labels:
        text += f", {len(found.labels)} label maps" + (f" in {others}" if others else "")
    return text


def sort_by_names(root: Path, files: Sequence[Path], asked: bool = False) -> Finding:
    """Tell photos and label maps apart by the names of folders and files; refuse nothing.

    Args:
        root: Folder that all lie below.
        files: The files.
        asked: Whether a.png beside a.jpg is known to be its label map.
    """
    found = _by_folders(root, files)
    return found if found.labels else _beside(root, files, found, asked)


def role_of(path: Path, root: Path) -> Role | None:
    """What a file is by the names of the folders above it; None where they say nothing."""
    named = {role_of_folder(name)[0] for name in folders_above(path, root)}
    role = next((r for r in (Role.OTHER, Role.LABELS, Role.PHOTO) if r in named), None)
    if role is not Role.PHOTO and core_of(path.stem)[0] is Role.OTHER:
        return Role.OTHER
    return role


def hidden_labels(found: Finding) -> str | None:
    """What looks like label maps among photos, that no name gives away; None where nothing does."""
    photos = list(found.photos)
    if (alike := same_names(found.root, photos)) is not None:
        return (
            f"looks like photos and label maps named alike ({alike[0]} and {alike[1]} …), but "
            f"nothing says which are which"
        )
    if like := looks_like_labels(photos):
        whole = "all" if len(like) == len(photos) else f"{len(like)}"
        names = _shown(path.relative_to(found.root) for path in like)
        return (
            f"has {len(photos)} images, of which {whole} that were looked at look like label maps, "
            f"with few gray values: {names}"
        )
    return None


def _by_folders(root: Path, files: Sequence[Path]) -> Finding:
    """Take photos and label maps by the names of the folders above them."""
    by_role: dict[Role | None, dict[Path, Key]] = {role: {} for role in (*Role, None)}
    tops: dict[Role, dict[str, None]] = {Role.PHOTO: {}, Role.LABELS: {}}
    for path in files:
        folders = folders_above(path, root)
        found = [role_of_folder(name) for name in folders]
        role = role_of(path, root)
        by_role[role][path] = key_of(path, root, tuple(rest for _, rest in found if rest))
        if role in (Role.PHOTO, Role.LABELS):
            at = next(i for i, (one, _) in enumerate(found) if one is role)
            tops[role]["/".join(folders[: at + 1])] = None
    photos, labels = by_role[Role.PHOTO], _preferred(by_role[Role.LABELS])
    neutral, left_out = by_role[None], [*by_role[Role.OTHER]]
    left_out += [path for path in by_role[Role.LABELS] if path not in labels]
    if labels and photos:
        left_out += neutral  # previews beside images/ and masks/
    else:
        photos = {**photos, **neutral}
    if not labels:
        photos = {path: key_of(path, root) for path in photos}
    roots = (_joined(root, tops[Role.PHOTO]), _joined(root, tops[Role.LABELS]))
    name = _layout_name(tops, photos, labels) if labels else "photos"
    return Finding(root, name, photos, labels, roots=roots, left_out=tuple(left_out))


def _beside(root: Path, files: Sequence[Path], found: Finding, asked: bool) -> Finding:
    """Take a.png and a_mask.png for a photo and its label map, of one folder or of two."""
    cores = {path: core_of(path.stem) for path in found.photos}
    photos = {core for role, core in cores.values() if role in (None, Role.PHOTO)}
    labels = {
        path for path, (role, core) in cores.items() if role is Role.LABELS and core in photos
    }
    others = {path for path, (role, _) in cores.items() if role is Role.OTHER}
    others = others if labels else set()
    if not labels and asked:  # a.jpg and a.png
        jpegs = {(p.parent, p.stem) for p in found.photos if is_jpeg(p)}
        labels = {p for p in found.photos if not is_jpeg(p) and (p.parent, p.stem) in jpegs}
    if not labels:
        return found
    keys = {path: key_of(path, root) for path in files}
    preferred = _preferred({path: keys[path] for path in files if path in labels})
    taken = {path: keys[path] for path in found.photos if path not in labels | others}
    left_out = (*found.left_out, *others, *(path for path in labels if path not in preferred))
    return replace(found, layout="beside", photos=taken, labels=preferred, left_out=left_out)


def _with_labels(root: Path, files: Sequence[Path], labels: Path) -> Finding:
    """Take for label maps what the user names."""
    folder = labels if labels.is_dir() or not (root / labels).is_dir() else root / labels
    if not folder.is_dir():
        raise ImageError(f"{labels} is not a folder of label maps. Check the path.")
    maps = list_images(folder, results=True)
    inside = {path.resolve() for path in maps}
    photos = _by_folders(root, [path for path in files if path.resolve() not in inside])
    if photos.labels and not photos.photos:
        _refuse_only_labels(root, [*photos.labels])
    if not (photos.photos or photos.labels):
        raise ValueError(
            f"all images in {root} are in {folder}, the folder of label maps that was named, so "
            f"that no photo is left. Name the folder of label maps alone."
        )
    rests = {}
    for path in _preferred({path: key_of(path, folder) for path in maps}):
        rest = tuple(rest for _, rest in map(role_of_folder, folders_above(path, folder)) if rest)
        rests[path] = key_of(path, folder, rest)
    ours = photos.roots[0] or str(root)
    left_out = (*photos.left_out, *photos.labels)
    return Finding(
        root, "folders", photos.photos, rests, roots=(ours, str(folder)), left_out=left_out
    )


def _preferred(labels: dict[Path, Key]) -> dict[Path, Key]:
    """Of Cityscapes' two label maps of a photo that with the classes of training."""
    cores = {
        (path.parent, core_of(path.stem)[1]) for path in labels if _ends(path, "labelTrainIds")
    }
    return {
        path: key
        for path, key in labels.items()
        if not (_ends(path, "labelIds") and (path.parent, core_of(path.stem)[1]) in cores)
    }


def _ends(path: Path, ending: str) -> bool:
    return path.stem.endswith(ending)


def _layout_name(
    tops: dict[Role, dict[str, None]], photos: dict[Path, Key], labels: dict[Path, Key]
) -> str:
    words = {part.lower() for role in tops.values() for top in role for part in top.split("/")}
    if {"leftimg8bit", "gtfine", "gtcoarse"} & words or any(
        "gtFine" in path.stem or "gtCoarse" in path.stem for path in labels
    ):
        return "cityscapes"
    if "jpegimages" in words:
        return "voc"
    if {"img_dir", "ann_dir"} <= words:
        return "mmsegmentation"
    if any(path.stem.startswith(("ADE_train_", "ADE_val_")) for path in photos):
        return "ade20k"
    if any(word.endswith("annot") for word in words) or all(_ends(path, "_L") for path in labels):
        return "camvid"
    return "folders"


def _splits_in(part: str) -> list[str]:
    """Splits that the rest of a folder's name says: "train", "train_2"."""
    return [found for word in part.split("_") if (found := split_of(word))]


def _joined(root: Path, tops: Iterable[str]) -> str:
    return " and ".join(str(root / top) for top in list(tops)[:3])


def _shown(names: Iterable[object]) -> str:
    first = [str(name) for name in list(names)[:4]]
    return ", ".join(first[:3]) + (", …" if len(first) > 3 else "")


def _refuse_only_labels(root: Path, labels: Sequence[Path]) -> None:
    raise ValueError(
        f"all {len(labels)} images in {root} are in folders that are named like those of label "
        f"maps: {_shown(path.relative_to(root) for path in labels)}. Expected photos too, in a "
        f"folder such as images/. {HOW}."
    )


def _refuse_empty_labels(root: Path, files: Iterable[Path]) -> None:
    """Refuse folders of labels in formats that are not images, where there are no label maps."""
    used = {parent for path in files for parent in path.parents}
    for folder in sorted(path for path in root.rglob("*") if path.is_dir()):
        if folder in used or any(p.startswith(".") for p in folder.relative_to(root).parts):
            continue
        if role_of_folder(folder.name)[0] is not Role.LABELS:
            continue
        kinds = Counter(path.suffix.lower() or "no suffix" for path in folder.rglob("*.*"))
        kinds = Counter({kind: n for kind, n in kinds.items() if kind not in IMAGE_SUFFIXES})
        if kinds and not _has_labels(root, files):
            kind, count = kinds.most_common(1)[0]
            raise ValueError(
                f"{folder} is named like a folder of label maps, but holds {count} files {kind} "
                f"and no image. Expected label maps as PNG, one class number per pixel; convert "
                f"them. {HOW}."
            )


def _has_labels(root: Path, files: Iterable[Path]) -> bool:
    return any(
        role_of_folder(part)[0] is Role.LABELS
        for path in files
        for part in folders_above(path, root)
    )
