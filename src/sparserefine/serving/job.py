"""A request on its way through the queue and a worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sparserefine.serving.wanted import Wanted

# So many workers may end with a request before it is taken for the cause.
TRIES = 2


@dataclass(frozen=True)
class JobAnswer:
    """What a worker made of a request.

    Attributes:
        status: Status of HTTP.
        media_type: What the content is.
        content: A PNG, or JSON; empty of a request that failed.
        detail: Why it failed.
        stages_ms: Milliseconds of each stage.
    """

    status: int
    media_type: str = ""
    content: bytes = b""
    detail: str = ""
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(eq=False)
class Job:
    """A request.

    Attributes:
        wanted: What is made of the image.
        image: Bytes of its file.
        mask: Bytes of its mask's file; None where none is needed.
        answer: Done with the worker's answer.
        tries: How many workers it was given to.
    """

    wanted: Wanted
    image: bytes
    mask: bytes | None
    answer: asyncio.Future[JobAnswer]
    tries: int = 0

    @property
    def is_suspect(self) -> bool:
        """Whether it was with a worker that ended, so that it is given to the next one alone."""
        return self.tries > 0

    def header(self, number: int) -> dict[str, Any]:
        """What a worker is told of it."""
        return {
            "number": number,
            "wanted": self.wanted.to_json(),
            "has_mask": self.mask is not None,
        }

    @property
    def parts(self) -> list[bytes]:
        """The files, as a worker gets them."""
        return [self.image] if self.mask is None else [self.image, self.mask]

    def finish(self, answer: JobAnswer) -> None:
        """Hand the answer to whoever waits, if anybody still does."""
        if not self.answer.done():
            self.answer.set_result(answer)
