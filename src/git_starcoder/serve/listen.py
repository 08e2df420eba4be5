"""Listens for clients: uvicorn, with limits on connections and on the time that a request may take to arrive."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from git_starcoder.errors import MissingExtraError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.serve.app import Server

MAX_CONNECTIONS = 128
KEEP_ALIVE_SECONDS = 75
"""A connection without a request is closed after this time; editors keep one open between keystrokes."""
MAX_HEADER_BYTES = 16_384
SHUTDOWN_SECONDS = 3


def bind(host: str, port: int) -> socket.socket:
    """Reserve an address; port 0 is any free one.

    Raises:
        OutputError: It is in use, or not one of this machine.
    """
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((name, port))
        listener.listen(MAX_CONNECTIONS)  # until then, another server could reserve the same address
    except OSError as error:
        listener.close()
        what = f"cannot listen at {host} port {port}: {(error.strerror or str(error)).lower()}"
        raise OutputError(what, where="--port", hint="another server may use it: choose another --port") from error
    return listener


def run_server(
    server: Server, listener: socket.socket, on_ready: Callable[[Callable[[], None]], None] | None = None
) -> None:
    """Answer requests until the process is interrupted, or what `on_ready` is given is called.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    asyncio.run(_serve(server, listener, on_ready))


async def _serve(
    server: Server, listener: socket.socket, on_ready: Callable[[Callable[[], None]], None] | None
) -> None:
    try:
        import uvicorn

        from git_starcoder.serve.connection import Connection
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "uvicorn", "serve") from error
    config = uvicorn.Config(
        server.guard, http=Connection, ws="none", lifespan="on", loop="asyncio", log_config=None, log_level="critical",
        access_log=False, server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, backlog=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )  # fmt: skip
    web = uvicorn.Server(config)

    def stop() -> None:
        web.should_exit = True

    async def tell_ready() -> None:
        while not web.started:
            await asyncio.sleep(0.01)
        if on_ready is not None:
            on_ready(stop)

    notice = asyncio.create_task(tell_ready())
    try:
        await web.serve(sockets=[listener])
    finally:
        notice.cancel()
