"""Reading ahead and writing behind: in order, a few steps at most, and no error is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sparserefine.video.threads import WriteBehind, read_ahead


def test_what_is_read_ahead_comes_in_order_and_is_bounded() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for index in range(10):
            made.append(index)
            yield index

    reader = read_ahead(items(), 2)
    for index in range(10):
        assert next(reader) == index
        assert len(made) <= index + 3
    assert next(reader, None) is None


def test_when_reading_is_closed_its_thread_has_ended() -> None:
    before = threading.active_count()
    reader = read_ahead(iter(range(10)), 2)
    assert next(reader) == 0 and threading.active_count() == before + 1
    reader.close()
    assert threading.active_count() == before


def test_an_error_of_reading_comes_after_what_was_read_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    reader = read_ahead(items(), 2)
    assert next(reader) == 1
    with pytest.raises(ValueError, match="broken"):
        next(reader)


def test_calls_are_made_in_order_and_few_wait() -> None:
    done: list[int] = []
    begin, third = threading.Event(), threading.Event()

    def first() -> None:
        begin.wait(10)
        done.append(0)

    def call() -> None:
        writer.call(done.append, 2)
        third.set()

    with WriteBehind(2) as writer:
        writer.call(first)
        writer.call(done.append, 1)
        caller = threading.Thread(target=call)
        caller.start()
        assert not third.wait(0.05)
        begin.set()
        caller.join()
    assert done == [0, 1, 2]


def test_an_error_of_writing_is_raised_at_the_next_call_or_at_the_end() -> None:
    def fail() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), WriteBehind(1) as writer:
        writer.call(fail)
        writer.call(print)
    with pytest.raises(OSError, match="full"), WriteBehind(2) as writer:
        writer.call(fail)
