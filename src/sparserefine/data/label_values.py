"""What the values in label maps mean: classes as they are, or by a rule that the user names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from sparserefine.data.color_table import (
    ColorTable,
    camvid_colors,
    deepglobe_colors,
    read_color_table,
    voc_colors,
)
from sparserefine.data.label_map import LabelMap
from sparserefine.data.sample import IGNORE_INDEX, ignore_index

AS_THEY_ARE, BINARY, FROM_1 = "classes", "binary", "from-1"
CITYSCAPES, VOC = "cityscapes-ids", "voc-colors"
CAMVID, DEEPGLOBE = "camvid-colors", "deepglobe-colors"
_COLORS = {VOC: voc_colors, CAMVID: camvid_colors, DEEPGLOBE: deepglobe_colors}
MEANINGS = {
    AS_THEY_ARE: "the values are the classes, 255 is ignored",
    BINARY: "masks of one object: 0 is class 0; 255, or 1 if no value is larger, is class 1",
    FROM_1: "classes count from 1, and 0 is ignored",
    CITYSCAPES: "the 34 ids of Cityscapes, made the 19 classes of training",
    VOC: "the colors of PASCAL VOC",
    CAMVID: "the 32 colors of CamVid, made 11 classes",
    DEEPGLOBE: "the colors of DeepGlobe's land cover",
}
"""Names of rules and what they say; besides them "0=0,255=1,…" and a file of colors."""

Meaning = str | os.PathLike[str] | Mapping[int, int]
"""How a user names a rule."""

# Of the classes of training, in their order; all other ids are ignored.
_CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# Labels are kept in 16 bits, and the last value is often no class.
_MOST = 65535


@dataclass(frozen=True)
class LabelValues:
    """A rule by which labels follow from what is in a label map.

    Attributes:
        name: The rule as the user named it; None where nobody did, so that doubts are raised.
        table: New value of each old one; None for the other rules.
        colors: Classes by color; None for the other rules.
        ignored: The label of pixels that do not count.
    """

    name: str | None = None
    table: tuple[tuple[int, int], ...] = ()
    colors: ColorTable | None = None
    ignored: int = IGNORE_INDEX

    @classmethod
    def of(cls, text: Meaning | None, num_classes: int | None = None) -> LabelValues:
        """The rule that a user names.

        Args:
            text: One of `MEANINGS`, "OLD=NEW,…" or {OLD: NEW, …}, or the path of a file of colors;
                None for none.
            num_classes: Number of classes K: with more than 255 it is 65535 that is ignored.

        Raises:
            ValueError: It is none of these.
        """
        ignored = ignore_index(num_classes)
        if isinstance(text, Mapping):
            text = ",".join(f"{old}={new}" for old, new in text.items())
        if isinstance(text, os.PathLike):
            text = os.fspath(text)
        if not isinstance(text, str | None):
            raise ValueError(
                f"label_values is a {type(text).__name__}, expected one of {', '.join(MEANINGS)}, "
                f"a mapping such as {{0: 0, 128: 1}}, or a file with a color per class."
            )
        if text is None or text in (AS_THEY_ARE, BINARY, FROM_1):
            return cls(text, ignored=ignored)
        if text == CITYSCAPES:
            return cls(text, tuple((old, new) for new, old in enumerate(_CITYSCAPES_IDS)))
        if text in _COLORS:
            return cls(text, colors=_COLORS[text]())
        if re.fullmatch(r"\s*\d+\s*=\s*\d+\s*(,\s*\d+\s*=\s*\d+\s*)*,?\s*", text):
            pairs = [part.split("=") for part in text.split(",") if part.strip()]
            table = tuple((int(old), int(new)) for old, new in pairs)
            if len({old for old, _ in table}) < len(table):
                raise ValueError(f"label_values is {text!r}, with a value twice. Say each once.")
            if any(new >= _MOST and new != ignored for _, new in table):
                raise ValueError(f"label_values is {text!r}, expected classes below {_MOST}.")
            return cls(text, table, ignored=ignored)
        if Path(text).expanduser().is_file():
            return cls(text, colors=read_color_table(Path(text).expanduser()))
        raise ValueError(
            f"label_values is {text!r}, expected one of {', '.join(MEANINGS)}, a mapping such as "
            f"0=0,255=1, or a file with a color per class. See docs/data.md."
        )

    @property
    def described(self) -> str:
        """Everything that labels depend on besides the files; empty where these say all."""
        wide = "" if self.ignored == IGNORE_INDEX else f"ignored {self.ignored}"
        if self.name in (None, AS_THEY_ARE):
            return wide
        colors = self.colors and sorted(self.colors.colors.items())
        return f"{self.name} {self.table} {colors}{wide}"

    def apply(self, read: LabelMap) -> Integer[np.ndarray, "H W"]:
        """The labels of a label map.

        Args:
            read: The label map.

        Raises:
            ValueError: It has values or colors of which the rule says nothing.
        """
        if self.colors is not None:
            return self._by_color(read, self.colors)
        assert read.values is not None
        values = read.values
        if self.name == BINARY:
            return _binary(read)
        if self.name == FROM_1:
            lowered = values.astype(np.int32) - 1
            lowered[(values == 0) | (values == self.ignored)] = self.ignored
            return _narrow(lowered)
        if self.table:
            return self._by_table(read)
        return values

    def _by_color(self, read: LabelMap, table: ColorTable) -> Integer[np.ndarray, "H W"]:
        if read.colors is None:
            assert read.values is not None
            if (top := int(read.values.max())) > 255:
                raise ValueError(
                    f"{read.path} has gray values up to {top}, and no colors, of which {self.name} "
                    f"could say the class. Map its values: label_values=OLD=NEW,…"
                )
            colors = np.repeat(read.values.astype(np.uint8)[..., None], 3, -1)
        else:
            colors = read.colors
        labels, strange = table.labels_of(colors)
        if strange:
            shown = ", ".join(f"{color}: {count}" for color, count in list(strange.items())[:8])
            raise ValueError(
                f"{read.path} has colors that {self.name} lacks; pixels per color: {shown}. Add "
                f'them to the table, with the name "void" where they do not count.'
            )
        labels[labels == IGNORE_INDEX] = self.ignored
        return _narrow(labels)

    def _by_table(self, read: LabelMap) -> Integer[np.ndarray, "H W"]:
        assert read.values is not None
        values = read.values
        table = np.full(int(max(values.max(), self.ignored)) + 1, -1, np.int32)
        if self.name == CITYSCAPES:
            table[:34] = IGNORE_INDEX
        table[self.ignored] = self.ignored
        for old, new in self.table:
            if old < len(table):
                table[old] = new
        labels = table[values]
        if (labels < 0).any():
            strange = np.unique(values[labels < 0]).tolist()
            raise ValueError(
                f"{read.path} has the values {', '.join(map(str, strange[:16]))}, of which "
                f"{self.name} says nothing. Add them, as in {strange[0]}={self.ignored}."
            )
        return _narrow(labels)


def _binary(read: LabelMap) -> Integer[np.ndarray, "H W"]:
    assert read.values is not None
    values, top = read.values, int(read.values.max())
    tops = (0, 1, IGNORE_INDEX, np.iinfo(np.uint16).max)
    if top not in tops and not (read.lossy and not 64 < top < 192):
        raise ValueError(
            f"{read.path} has the value {top}, expected 0 and 255, or 0 and 1, of a mask of one "
            f"object. Map it: label_values=0=0,{top}=1."
        )
    if top == IGNORE_INDEX and np.array_equal(np.unique(values), [0, 1, IGNORE_INDEX]):
        raise ValueError(
            f"{read.path} has the values 0, 1 and 255, expected 0 and 255, or 0 and 1, of a mask "
            f"of one object. Where 255 does not count, say label_values=classes; else map the "
            f"values: label_values=0=0,1=1,255=1."
        )
    if top == 1 and not read.lossy:
        return values.astype(np.uint8)
    half = 128 if top <= IGNORE_INDEX else 32768
    return (values >= half).astype(np.uint8)  # JPEG and soft edges lie between


def _narrow(labels: np.ndarray) -> Integer[np.ndarray, "H W"]:
    return labels.astype(np.uint8 if labels.max() <= IGNORE_INDEX else np.uint16)
