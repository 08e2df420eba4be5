"""A connection of uvicorn with limits, in a module of its own because uvicorn is not always installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.h11_impl import H11Protocol  # noqa: TID253 - this module is imported where it is used

from git_starcoder.serve import listen

if TYPE_CHECKING:
    import asyncio

HEADER_SECONDS = 10.0
"""The headers of a request must have arrived this long after its first byte, or after the connection was made."""
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n"


class Connection(H11Protocol):
    """A connection that is closed if it is one too many, or if a request arrives too slowly."""

    _header_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Refuse one too many, or wait for a request."""
        super().connection_made(transport)
        if len(self.connections) > listen.MAX_CONNECTIONS:
            transport.write(BUSY)
            transport.close()
        else:
            self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Read, and stop the clock as soon as a request is complete."""
        super().data_received(data)
        if self._is_idle():
            self._start_timer()
        else:
            self._stop_timer()

    def on_response_complete(self) -> None:
        """Go on with what the client has sent meanwhile."""
        super().on_response_complete()
        if self._is_idle() and self.conn.trailing_data[0]:  # the start of another request came behind the last one
            self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_timer()
        super().connection_lost(exc)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]

    def _start_timer(self) -> None:
        if self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _close(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.close()
