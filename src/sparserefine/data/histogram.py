"""The histogram of the values in label maps, and reasons to doubt that they are classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer

from sparserefine.data.label_values import BINARY, CITYSCAPES, FROM_1
from sparserefine.data.sample import IGNORE_INDEX, ignore_index

_SHOWN = 32
# A scene of so many classes hardly has only the first two of them.
_MANY = 8
# What programs write where there is no class.
_LIKELY_NONE = (254, 65534, 65535)


@dataclass
class Histogram:
    """Pixels per value over some label maps.

    Attributes:
        counts: Number of pixels of each value.
        maps: Number of label maps.
    """

    counts: Counter[int] = field(default_factory=Counter)
    maps: int = 0

    @classmethod
    def of(cls, values: Integer[np.ndarray, "H W"]) -> Histogram:
        """Count the values of a label map."""
        counts = np.bincount(values.ravel())
        found = counts.nonzero()[0]
        return cls(Counter(dict(zip(found.tolist(), counts[found].tolist(), strict=True))), 1)

    @classmethod
    def sum(cls, parts: Iterable[Histogram]) -> Histogram:
        """The histogram of several label maps."""
        whole = cls()
        for part in parts:
            whole.counts.update(part.counts)
            whole.maps += part.maps
        return whole

    @property
    def classes(self) -> list[int]:
        """The values but 255, ascending."""
        return self.classes_of(None)

    def classes_of(self, num_classes: int | None) -> list[int]:
        """The values but the one that does not count among so many classes, ascending."""
        return sorted(self.counts.keys() - {ignore_index(num_classes)})

    @property
    def shows_classes(self) -> bool:
        """Whether 0 and 255 stand for something else than one object: there are other values."""
        return any(value != 0 for value in self.classes)

    @property
    def is_soft_mask(self) -> bool:
        """Whether most pixels are 0 or 255, and few lie between: a mask with soft edges."""
        between = [count for value, count in self.counts.items() if 0 < value < IGNORE_INDEX]
        return len(between) > 1 and self.counts[IGNORE_INDEX] > 2 * max(between)

    def __str__(self) -> str:
        """Pixels per value, the first 32."""
        values = sorted(self.counts.items())
        text = ", ".join(f"{value}: {count}" for value, count in values[:_SHOWN])
        return text + (", …" if len(values) > _SHOWN else "")

    def excess(self, num_classes: int | None, among: Histogram | None = None) -> str | None:
        """Which values are beyond the classes, and what to do; None where there are none.

        Args:
            num_classes: Number of classes K; None where it is unknown.
            among: Histogram of more label maps, from which the remedy follows.
        """
        found = self.classes_of(num_classes)
        if num_classes is None or not any(value >= num_classes for value in found):
            return None
        reason = f"labels beyond 0..{num_classes - 1} and {ignore_index(num_classes)}"
        return self._refusal(reason, (among or self)._remedy(num_classes))

    def doubt(self, num_classes: int | None, *, from_1: bool = False) -> str | None:
        """Why the values may be no classes, and how to say what is meant; None without doubt.

        Args:
            num_classes: Number of classes K; None where it is unknown.
            from_1: The model, or the names of the files, say that labels count from 1.
        """
        if from_1 and self.counts.keys() - {IGNORE_INDEX}:
            return self._refusal(
                "labels may count from 1, as those do that the model was trained on, or those of "
                "ADE20K",
                f"Where 0 means none, {_say(FROM_1)}; where 0 is the first class, "
                f"{_say('classes')}.",
            )
        few = num_classes is None or 1 < num_classes <= IGNORE_INDEX
        if few and IGNORE_INDEX in self.counts and not self.shows_classes:
            return self._refusal(
                "no label but 0 and 255: 255 may mean an object, or that pixels do not count",
                f"Where 255 is the object, {_say(BINARY)}; where it is to be ignored, "
                f"{_say('classes')}.",
            )
        if self.is_soft_mask:
            return self._refusal(
                "most values are 0 or 255, with few of others between, as of a mask of one object "
                "with soft edges",
                f"If so, {_say(BINARY)}; else {_say('classes')}.",
            )
        if self.classes == [0, 1] and num_classes is not None and num_classes >= _MANY:
            return self._refusal(
                f"no label but 0 and 1, as of masks of one object, but the model has {num_classes} "
                f"classes",
                f"Use a model of two classes; if they are its first two, {_say('classes')}.",
            )
        if len(self.classes) == 2 and self.classes[0] == 0 and self.classes[1] >= 64:
            top = self.classes[1]
            return self._refusal(
                f"no label but 0 and {top}, which looks like a mask of one object",
                f"If so, {_say(f'0=0,{top}=1')}; else {_say('classes')}.",
            )
        return None

    def _refusal(self, reason: str, remedy: str) -> str:
        return f"{reason}; pixels per label: {self}. {remedy}"

    def _remedy(self, num_classes: int) -> str:
        """What values beyond the classes usually mean."""
        values, ignored = self.classes_of(num_classes), ignore_index(num_classes)
        if values[-1] == num_classes:
            meant = f"if they count from 1 and 0 means none, {_say(FROM_1)}"
        elif num_classes == 19 and values[-1] <= 33:
            meant = f"if they are the ids of Cityscapes, {_say(CITYSCAPES)}"
        elif num_classes <= 2 and self.is_soft_mask:
            meant = f"if they are masks of one object with soft edges, {_say(BINARY)}"
        elif len(values) <= num_classes:
            none = [value for value in values if value in _LIKELY_NONE]
            kept = [value for value in values if value not in none]
            pairs = [f"{old}={new}" for new, old in enumerate(kept)]
            mapping = ",".join([*pairs, *(f"{value}={ignored}" for value in none)])
            but = f", and {none[-1]} does not count" if none else ""
            meant = (
                f"if each value is one, in this order{but}, {_say(mapping)}; what does not count "
                f"is VALUE={ignored}"
            )
        else:
            meant = (
                "label_values=OLD=NEW,… (--label-values); set num_classes; or use a model of these "
                "classes"
            )
        return f"Map them to classes: {meant}."


def _say(rule: str) -> str:
    return f'say label_values="{rule}" (--label-values {rule})'
