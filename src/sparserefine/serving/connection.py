"""Connections of clients that are slow, or gone."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

# Connections at a time; above it they are closed at once.
MOST = 1024
# Seconds that the head of a request may take, from the connection or the answer before it.
HEAD = 10.0
# Seconds that the end of an answer may take to leave, once the application is done with it.
TAIL = 20.0
_TICK = 1.0


class GuardedConnection(H11Protocol):
    """A connection that is cut off where its client sends no request, or reads no answer.

    uvicorn waits without end for the head of a request, and for the last bytes of an answer to
    be read: a few hundred idle clients would hold all that there is.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; called by the event loop."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._was_busy = False
        self._watch: asyncio.TimerHandle | None = None
        if len(self.connections) > MOST:
            transport.abort()
            return
        self._watch = self.loop.call_later(_TICK, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """End; called by the event loop."""
        if self._watch is not None:
            self._watch.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        now = self.loop.time()
        # From the head of a request to the end of its answer the application keeps the time.
        busy = self.cycle is not None and not self.cycle.response_complete
        busy = busy and not self.transport.is_closing()
        if busy or self._was_busy:
            self._since = now
        self._was_busy = busy
        limit = TAIL if self.transport.get_write_buffer_size() else HEAD
        if not busy and now - self._since > limit:
            self.transport.abort()
            return
        self._watch = self.loop.call_later(_TICK, self._look)
