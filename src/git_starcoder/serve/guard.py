"""Decides which requests are worked on at all, before anything is read, parsed or computed.

A browser on the same machine can send requests to a server on 127.0.0.1 for any page that it shows. So the names in
`Host` and `Origin` are checked first: a page of another origin can start no work, and a name that somebody has pointed
at 127.0.0.1 (DNS rebinding) is refused. No CORS headers are ever sent. Bodies are JSON, limited in size, and must
arrive in time; so must answers be taken.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import sys
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.serve.answers import encode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, MutableMapping

    from git_starcoder.serve.metrics import Metrics

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_BYTES = 4 << 20
"""The largest body of a request; four bytes for each character of the longest texts."""
BODY_SECONDS = 10.0
"""A body must have arrived after this time."""
SEND_SECONDS = 20.0
"""A client must take each part of an answer within this time."""
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/health", "/", "/page.css", "/page.js"})
"""What needs no token: it tells nothing."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"), (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"), (b"cache-control", b"no-store"),
)  # fmt: skip
"""Headers of every answer."""
STATUS_KINDS = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    405: "method_not_allowed", 408: "timeout", 409: "obsolete", 413: "request_too_large", 415: "unsupported_media_type",
    429: "rate_limit_error", 500: "server_error", 503: "overloaded_error",
}  # fmt: skip


class RefusedError(Exception):
    """A request is not worked on."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class HostName(NamedTuple):
    """The parts of a `Host` header."""

    name: str
    port: str


def error_body(path: str, status: int, message: str) -> bytes:
    """The JSON of an error: Ollama's under `/api/`, elsewhere OpenAI's."""
    if path.startswith("/api/"):
        return encode({"error": message})
    return encode({"error": {"message": message, "type": STATUS_KINDS[status], "param": None, "code": status}})


class Guard:
    """An ASGI application around another one, which sees only what is allowed."""

    def __init__(self, app: App, metrics: Metrics, routes: Mapping[str, str], *, host: str, token: str = "") -> None:
        """Guard an application that listens at the address `host`.

        `routes` are its paths and the method of each. With a token, clients must send it.
        """
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._token = token.encode()
        self._is_local = is_loopback(host)
        self._own_names = LOOPBACK_NAMES | {host.strip("[]").lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        status = 0

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            # Who does not take an answer loses the connection: the exception ends this request.
            await asyncio.wait_for(send(message), SEND_SECONDS)

        try:
            self._check(scope)
            body = await asyncio.wait_for(_read_body(receive), BODY_SECONDS) if self._has_body(scope) else b""
            await self._app(scope, _replay(body, receive), guarded_send)
        except RefusedError as refusal:
            await _answer(guarded_send, path, refusal.status, refusal.message)
        except TimeoutError:
            if status:
                raise  # in the middle of an answer: the server closes the connection
            await _answer(guarded_send, path, 408, "the request did not arrive in time")
        except Exception as error:  # noqa: BLE001 - nothing may end the server; only the place is told, never a text
            place = traceback.extract_tb(error.__traceback__)[-1]
            sys.stderr.write(
                f"error: a bug in git-starcoder: {type(error).__name__} in {place.filename}:{place.lineno}\n"
            )
            if not status:
                await _answer(guarded_send, path, 500, "a bug in git-starcoder")
        finally:
            self._metrics.requests[path if path in self._routes else "other", status] += 1

    def _check(self, scope: Scope) -> None:
        """Raise a refusal if a request must not be worked on. The order matters: who asks comes before what."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        hosts = _values(headers, b"host")
        host = parse_host(hosts[0]) if len(hosts) == 1 else None
        if host is None or not self._knows(host.name):
            raise RefusedError(403, "this server is not asked by this name: use 127.0.0.1 or localhost")
        for origin in _values(headers, b"origin"):
            if origin.lower() != f"http://{hosts[0]}".lower():
                raise RefusedError(403, "pages of other origins may not use this server")
        sites = {site.lower() for site in _values(headers, b"sec-fetch-site")}
        is_visit = _values(headers, b"sec-fetch-mode") == ["navigate"] and scope["method"] == "GET"
        if sites - {"same-origin", "none"} and not is_visit:
            raise RefusedError(403, "pages of other sites may not use this server")
        if self._token and scope["path"] not in OPEN_PATHS and not self.is_authorized(headers):
            raise RefusedError(401, "the token is missing or wrong: send `Authorization: Bearer TOKEN`")
        if self._has_body(scope):
            kinds = [kind.partition(";")[0].strip().lower() for kind in _values(headers, b"content-type")]
            if kinds != ["application/json"]:
                raise RefusedError(415, "the body must be JSON: send `Content-Type: application/json`")
            lengths = _values(headers, b"content-length")
            if any(not length.isdecimal() or int(length) > MAX_BODY_BYTES for length in lengths):
                raise RefusedError(413, f"the body has more than {MAX_BODY_BYTES:,} bytes")

    def _has_body(self, scope: Scope) -> bool:
        """Whether the body of a request is read: it is for one of the routes that have one."""
        return scope["method"] == "POST" == self._routes.get(scope["path"])

    def is_authorized(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a request has the token. Without a token, every request has it, whatever it sends."""
        sent = [value.strip() for value in _values(headers, b"authorization")]
        scheme, _, given = sent[0].partition(" ") if len(sent) == 1 else ("", "", "")
        is_equal = hmac.compare_digest(given.strip().encode(), self._token)
        return not self._token or (is_equal and scheme.lower() == "bearer")

    def _knows(self, name: str) -> bool:
        if name in self._own_names:
            return True
        # At another address than loopback, each address of the machine will do; a name might be somebody else's.
        return not self._is_local and _is_address(name)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    name = host.strip("[]").lower()
    return name == "localhost" or (_is_address(name) and ipaddress.ip_address(name).is_loopback)


def parse_host(text: str) -> HostName | None:
    """The name, without brackets, and the port of a `Host` header; None if it is malformed."""
    name, port = text, ""
    if text.startswith("["):
        name, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    elif ":" in text:
        name, _, port = text.partition(":")
    if not name or (port and not (port.isascii() and port.isdecimal() and len(port) <= 5)):
        return None
    return HostName(name.lower(), port)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _values(headers: list[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key == name]


async def _read_body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the client has gone")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            raise RefusedError(413, f"the body has more than {MAX_BODY_BYTES:,} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that begins with a body that was read."""
    is_read = False

    async def replay() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(send: Send, path: str, status: int, message: str) -> None:
    body = error_body(path, status, message)
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in {408, 413}:  # the rest of the body is not read
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
