"""Reading ahead and writing behind, each in a thread, in order and a few steps at most."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END: Any = object()


def read_ahead(items: Iterator[T], steps: int) -> Generator[T, None, None]:
    """The items of an iterator that is run in a thread, at most `steps` ahead.

    When it is closed, the thread has ended.
    """
    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(next, items, _END) for _ in range(steps))
        try:
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(pool.submit(next, items, _END))
                yield item
        finally:
            for future in waiting:
                future.cancel()


class WriteBehind:
    """Calls that are made in a thread, in order. A context manager, which waits for them.

    When it is left by an exception, calls that have not begun are dropped.

    Args:
        steps: At most so many calls wait.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._pool = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Any]] = deque()

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._wait(0)
        finally:
            self._pool.shutdown(cancel_futures=True)

    def call(self, function: Callable[..., object], *arguments: Any) -> None:
        """Make a call, later.

        Raises:
            Exception: What an earlier call raised.
        """
        self._wait(self._steps - 1)
        self._waiting.append(self._pool.submit(function, *arguments))

    def _wait(self, left: int) -> None:
        while len(self._waiting) > left:
            self._waiting.popleft().result()
