"""How labels change from pixel to pixel: at once, or by way of values that lie between."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer

# In label maps as they are drawn up to 2 % of the changes have a value between, by chance; after
# bilinear or bicubic resizing 18 to 100 % (camvid-360p, cwfid-966p, vnc-em-1024; 0.37 to 4 times).
_SHARE = 0.1
_FEWEST = 20
# One value alone may be a class that always lies between two others, such as the rim of a cell.
_OF_VALUE = 0.02
# Rows and columns that are looked at.
_LINES = 256


@dataclass(frozen=True, eq=False)
class Transitions:
    """Triples of neighbouring pixels, across and down, of which the outer ones differ by 2 or more.

    Attributes:
        sharp: Triples whose middle is as one of its neighbours.
        between: Triples whose middle lies between them, by its value.
        flat: Share of all triples whose three values are equal.
    """

    sharp: int
    between: Counter[int]
    flat: float

    @classmethod
    def of(cls, labels: Integer[np.ndarray, "H W"]) -> Transitions:
        """Look at up to 256 rows and columns of a label map, evenly spread."""
        sharp, equal, triples = 0, 0, 0
        between: Counter[int] = Counter()
        for lines in (labels, labels.T):
            lines = lines[:: -(-len(lines) // _LINES)].astype(np.int64)
            step = np.diff(lines)
            before, after = step[:, :-1], step[:, 1:]
            triples += before.size
            equal += int(np.count_nonzero((before == 0) & (after == 0)))
            sharp += int(np.count_nonzero((before * after == 0) & (abs(before + after) > 1)))
            between.update(lines[:, 1:-1][before * after > 0].tolist())
        return cls(sharp, between, equal / max(triples, 1))

    @property
    def share(self) -> float:
        """Share of the changes that go by way of a value between."""
        count = self.between.total()
        return count / max(count + self.sharp, 1)

    @property
    def are_blended(self) -> bool:
        """Whether they are as of a label map that was resized with interpolation."""
        count = self.between.total()
        several = sum(one >= _OF_VALUE * count for one in self.between.values()) > 1
        # Where most pixels differ from their neighbours nothing can be said of edges.
        return several and count >= _FEWEST and self.flat > 0.5 and self.share > _SHARE

    def __str__(self) -> str:
        """What was found, in words."""
        values = sorted(value for value, _ in self.between.most_common(8))
        return (
            f"at {self.share:.0%} of the edges a value lies between those of both sides (such as "
            f"{', '.join(map(str, values))}), as after resizing with interpolation, which makes "
            f"classes that are not there"
        )
