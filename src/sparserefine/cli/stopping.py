"""Commands that are told to stop, and finish what they are writing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sparserefine.cli.console import messages


@contextmanager
def stoppable(remedy: str) -> Iterator[None]:
    """End work on SIGTERM as on Ctrl-C: by an exception, with exit codes 143 and 130.

    Args:
        remedy: How to go on, for people.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    # Only the main thread may have signal handlers; elsewhere someone else handles them.
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        messages.print(f"stopped. {remedy}", markup=False)
        raise
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
