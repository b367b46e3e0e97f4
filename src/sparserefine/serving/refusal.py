"""Why a request is not served, as a status and one sentence."""

from __future__ import annotations


class RefusalError(Exception):
    """A request that is not served.

    Args:
        status: Status of HTTP.
        detail: What was got, what was expected, what to do.
        headers: Headers that belong to the status.
    """

    def __init__(self, status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers
