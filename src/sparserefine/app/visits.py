"""All open pages, of which only so much is kept."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from sparserefine.app.visit import MAX_PIXELS, Visit

MOST_PIXELS = 2 * MAX_PIXELS
"""Of the photos and masks of all visits together; some 20 bytes are kept for each pixel."""


class Visits:
    """The visits by key; where they hold too much, those longest unused are dropped.

    Args:
        model: Name of the model that a visit begins with.
        most_pixels: Pixels that all of them may hold together.
        most: How many there may be.
    """

    def __init__(self, model: str, most_pixels: int = MOST_PIXELS, most: int = 64) -> None:
        self._model = model
        self._most_pixels, self._most = most_pixels, most
        self._visits: OrderedDict[str, Visit] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._visits)

    def of(self, key: str) -> Visit:
        """The visit of a key, which is now the latest; a new one where there is none."""
        with self._lock:
            visit = self._visits.pop(key, None) or Visit(self._model)
            self._visits[key] = visit
            return visit

    def trim(self) -> None:
        """Drop those longest unused until what is kept is within bounds; the latest stays."""
        with self._lock:
            while len(self._visits) > 1 and (
                len(self._visits) > self._most
                or sum(visit.pixels for visit in self._visits.values()) > self._most_pixels
            ):
                self._visits.popitem(last=False)

    def drop(self, key: str) -> None:
        """Forget a visit with its photo: its page was closed."""
        with self._lock:
            self._visits.pop(key, None)

    def by_token(self, token: str) -> Visit | None:
        """The visit that an address names; None where it is gone."""
        with self._lock:
            found = [visit for visit in self._visits.values() if visit.token == token]
        return found[0] if found else None
