"""A server that runs in a thread, and a client for it that can send anything."""

from __future__ import annotations

import http.client
import json
import os
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic, sleep
from typing import NamedTuple

import finished
from git_starcoder.model.generation import Writer
from git_starcoder.serve.app import Server
from git_starcoder.serve.listen import bind, run_server
from shell import HUNG

FILES = {f"src/file_{seed}.py": finished.source(seed).decode() for seed in range(8)}
"""The repository that is edited."""


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """Speaks HTTP to a server, and knows the server."""

    def __init__(self, server, port):
        self.server = server
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def send(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=HUNG)
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        sent = {"Host": f"127.0.0.1:{self.port}", **(headers or {})}
        if body is not None:
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), **sent}
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def get(self, path, **headers):
        return self.send("GET", path, headers=headers)

    def post(self, path, body, **headers):
        return self.send("POST", path, body, headers)


@contextmanager
def running(engine, **options):
    """A server in a thread of its own, until the end of the block."""
    ready, stops = Event(), []

    def tell(stop):
        stops.append(stop)
        ready.set()

    server = Server(engine, **options)
    with bind("127.0.0.1", 0) as listener:
        thread = Thread(target=run_server, args=(server, listener, tell), daemon=True)
        thread.start()
        assert ready.wait(HUNG)
        try:
            yield Client(server, listener.getsockname()[1])
        finally:
            stops[0]()
            thread.join(HUNG)
            assert not thread.is_alive()


def let_write(monkeypatch, engine, text, *tokens):
    """Let the engine write a text, then some tokens, and then begin again."""
    script = [*engine.model.tokenizer.encode([text.encode()])[0].tolist(), *tokens]
    monkeypatch.setattr(Writer, "_choose", lambda self, _: script[len(self.written) % len(script)])


def wait_until(is_true):
    """Wait, however busy the machine is."""
    ends = monotonic() + HUNG
    while not is_true():
        assert monotonic() < ends, "it never came true"
        sleep(0.01)


def replace_file(path, text):
    """Write a file as editors do: beside it, then over it."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_text(text)
    os.replace(beside, path)
