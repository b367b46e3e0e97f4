"""What a server takes, so that no request and no number of them costs it its memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

MEGA = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The bounds of a server; each has a status and a sentence of its own.

    Attributes:
        queue: Requests that wait, at most; the next is answered with 503 and when to come again.
        batch: Requests that a worker takes at once, at most.
        batch_wait_ms: How long a worker waits for a batch to fill, in milliseconds.
        max_megabytes: Size of a request, at most, in 10⁶ bytes; 413.
        max_megapixels: Size of an image or a mask, at most, in 10⁶ pixels; 422.
        timeout: Seconds that an upload (408), waiting and computing (504), and the reading of the
            answer may each take.
    """

    queue: int = 16
    batch: int = 1
    batch_wait_ms: float = 5.0
    max_megabytes: float = 32.0
    max_megapixels: float = 32.0
    timeout: float = 60.0

    def __post_init__(self) -> None:
        for name, value in (("queue", self.queue), ("batch", self.batch)):
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more.")
        positive = {
            "max_megabytes": self.max_megabytes,
            "max_megapixels": self.max_megapixels,
            "timeout": self.timeout,
        }
        for name, value in positive.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value:g}, expected a number above 0.")
        if not 0 <= self.batch_wait_ms < math.inf:
            raise ValueError(f"batch_wait_ms is {self.batch_wait_ms:g}, expected 0 or more.")

    @property
    def max_bytes(self) -> int:
        """Bytes of a request, at most."""
        return int(self.max_megabytes * MEGA)

    @property
    def max_pixels(self) -> int:
        """Pixels of an image, at most."""
        return int(self.max_megapixels * MEGA)
