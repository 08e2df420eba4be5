"""Hostile and broken clients: refused, closed, survived."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from threading import Event
from time import sleep

import pytest

from git_starcoder.serve import connection as connections
from git_starcoder.serve import guard, jobs, listen
from git_starcoder.serve.cursor import CancelledError, Suggestion
from serving import running, wait_until
from shell import HUNG

SHOWN = {"min_confidence": 0}
POSTS = ("/v1/completions", "/infill", "/completion", "/api/generate", "/api/show")


def raw(client, data, *, ends=True):
    """Send bytes on a connection of its own, which then ends or stays, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", client.port), timeout=HUNG) as connection:
        parts = []
        try:
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                parts.append(part)
        except (ConnectionResetError, BrokenPipeError):
            pass  # what came before it counts
        return b"".join(parts)


def is_answering(client):
    answer = client.post("/v1/completions", {"prompt": "def find_", "max_tokens": 2, **SHOWN})
    return answer.status == 200 and answer.json["choices"][0]["text"] != ""


@pytest.mark.parametrize("path", POSTS)
def test_no_page_of_another_origin_can_start_work(client, path):
    before = client.server.metrics.reasons.total()
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = client.send("POST", path, {"prompt": "def "}, headers)
        assert answer.status == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):  # what a form can send
        assert client.send("POST", path, {"prompt": "def "}, {"Content-Type": kind}).status == 415
    preflight = client.send("OPTIONS", path, headers={"Origin": "http://evil.example"})
    assert preflight.status == 403
    assert client.send("OPTIONS", path).status == 405
    assert not any(name.lower().startswith("access-control") for name in preflight.headers)
    assert client.server.metrics.reasons.total() == before


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff\xfe", b'{"prompt": 1}', b'{"prompt": [1, 2]}', b'{"prompt": []}',
     b'{"prompt": null}', b'{"max_tokens": "1"}', b'{"max_tokens": -1}', b'{"max_tokens": 1e400}', b'{"n": 0}', b'{"n": 9}',
     b'{"temperature": -1}', b'{"temperature": NaN}', b'{"top_p": 2}', b'{"stop": [1]}', b'{"stop": {"a": 1}}',
     b'{"seed": 1e30}', b'{"stream": "yes"}', b'{"logprobs": 99}', b'{"prompt": "\\ud800"}', b"[" * 100_000,
     b'{"a":' * 100_000, b'{"path": 3}', b'{"ending": "never"}', b'{"min_confidence": 2}'],
)  # fmt: skip
def test_a_malformed_body_is_one_clear_error(client, body):
    answer = client.post("/v1/completions", body)
    assert answer.status == 400, answer.body
    error = answer.json["error"]
    assert error["message"]
    assert "Traceback" not in error["message"]


def test_an_error_does_not_repeat_the_text(client):
    answer = client.post("/v1/completions", {"prompt": "def secret_thing", "max_tokens": "secret_thing"})
    assert answer.status == 400
    assert b"secret_thing" not in answer.body
    assert "max_tokens" in answer.json["error"]["message"]


def test_prompts_are_not_logged(client, capfd):
    assert client.post("/v1/completions", {"prompt": "def logged_thing(", "max_tokens": 4, **SHOWN}).status == 200
    client.post("/v1/completions", b'{"prompt": "logged_thing')
    raw(client, b"POST /logged_thing HTTP/1.1\r\nHost: logged_thing\r\n\r\nlogged_thing")
    told = capfd.readouterr()
    assert "logged_thing" not in told.out + told.err
    assert b"logged_thing" not in client.get("/metrics").body


def test_no_request_names_a_file_or_a_model_to_load(client, tmp_path):
    loaded = client.server.engine.model
    for name in ("/etc/passwd", "../../etc/passwd", str(tmp_path), "gpt2", "http://evil.example/model"):
        for path, fields in (
            ("/v1/completions", {"model": name, "path": name, "prompt": "root:", "max_tokens": 4, **SHOWN}),
            ("/api/generate", {"model": name, "prompt": "root:", "stream": False, "path": name}),
            ("/api/show", {"model": name, "name": name}),
            ("/infill", {"model": name, "lora": [{"id": 0}], "prompt": "x", "n_predict": 2}),
        ):
            answer = client.post(path, fields)
            assert answer.status == 200
            assert name.encode() not in answer.body
    assert client.server.engine.model is loaded
    for path in (
        "/api/pull",
        "/api/create",
        "/models",
        "/lora-adapters",
        "/slots",
        "/../etc/passwd",
        "//",
        "/page.html",
    ):
        assert client.get(path).status == 404


def test_large_bodies_and_texts_are_refused(client):
    text = "x" * (guard.MAX_BODY_BYTES // 4)
    assert client.post("/v1/completions", {"prompt": text}).status == 413
    assert client.post("/infill", {"input_suffix": text}).status == 413
    head = f"POST /infill HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {10**12}\r\n\r\n"
    assert b" 413 " in raw(client, head.encode(), ends=False)
    assert is_answering(client)


def test_hundreds_of_malformed_requests_leave_it_answering(client):
    random = Random(0)
    valid = (
        b'POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\r\n'
        b'{"prompt":"def ","max_tokens": 1}'
    )  # fmt: skip

    def spoil(_):
        data = bytearray(valid)
        for _ in range(random.randrange(1, 6)):
            place = random.randrange(len(data))
            kind = random.randrange(4)
            if kind == 0:
                data[place] = random.randrange(256)
            elif kind == 1:
                del data[place : place + random.randrange(1, 20)]
            elif kind == 2:
                data[place:place] = random.randbytes(random.randrange(1, 20))
            else:
                data[place:place] = data[: random.randrange(len(data))]
        return bytes(data)

    spoiled = [spoil(number) for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda data: raw(client, data), spoiled))
    statuses = {answer.split(b" ", 2)[1] for answer in answers if answer.startswith(b"HTTP/1.1 ")}
    assert statuses >= {b"400", b"403"}
    assert b"500" not in statuses
    assert is_answering(client)


def test_pieces_of_requests_and_resets_leave_it_answering(client):
    for data in (
        b"",
        b"\r\n\r\n",
        b"GET",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\0" * 100,
        b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"a: b\r\n" * 9999,
    ):
        raw(client, data)
        with socket.create_connection(("127.0.0.1", client.port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.sendall(data)
    upgrade = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
    raw(client, upgrade)
    assert is_answering(client)


class SlowEngine:
    """Has the facts of an engine, and completes nothing until it is told to."""

    def __init__(self, engine):
        self._engine = engine
        self.begun = self.cancelled = 0
        self.goes_on = Event()

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def complete(self, *_, is_cancelled, on_text, **__):
        self.begun += 1
        on_text("begun ")
        while not self.goes_on.wait(0.01):
            if is_cancelled():
                self.cancelled += 1
                raise CancelledError
        on_text("ended")
        return Suggestion("begun ended", "line", 1.0, 0.0, "", 1, 0)


@pytest.fixture
def slow(shared_engine):
    engine = SlowEngine(shared_engine)
    with running(engine) as client:
        client.engine = engine
        yield client


def request(path, fields):
    body = json.dumps(fields).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_client_that_disconnects_frees_its_place(slow, is_streamed):
    with socket.create_connection(("127.0.0.1", slow.port)) as connection:
        connection.sendall(request("/v1/completions", {"prompt": "a", "stream": is_streamed}))
        wait_until(lambda: slow.engine.begun == 1)
        if is_streamed:
            with connection.makefile("rb") as answer:
                assert any(b"begun" in line for line in answer)  # a head may come alone
    wait_until(lambda: slow.engine.cancelled == 1)
    assert slow.server.metrics.dropped == {"disconnected": 1}
    slow.engine.goes_on.set()
    assert slow.post("/v1/completions", {"prompt": "b"}).json["choices"][0]["text"] == "begun ended"


def test_a_newer_request_takes_the_place_of_an_older_one(slow):
    with ThreadPoolExecutor(2) as pool:
        older = pool.submit(slow.post, "/v1/completions", {"prompt": "def a"})
        wait_until(lambda: slow.engine.begun == 1)
        newer = pool.submit(slow.post, "/v1/completions", {"prompt": "def ab"})
        assert older.result(HUNG).status == 409
        slow.engine.goes_on.set()
        assert newer.result(HUNG).status == 200


def test_a_flood_is_refused_and_survived(slow, monkeypatch):
    monkeypatch.setattr(jobs, "MAX_WAITING_OF_CLIENT", 4)
    with ThreadPoolExecutor(40) as pool:
        sent = [
            pool.submit(
                slow.post, "/completion", {"prompt": f"{number} ", "path": f"{number}.py"}, **{"User-Agent": agent}
            )
            for agent in ("one", "two")
            for number in range(20)
        ]
        wait_until(lambda: sum(each.done() for each in sent) == 31)
        refused = [each.result() for each in sent if each.done()]
        assert {answer.status for answer in refused} == {429}
        assert all(answer.headers["retry-after"] for answer in refused)
        monkeypatch.setattr(jobs, "MAX_WAITING", 8)
        answer = slow.post("/completion", {"prompt": "x", "path": "x.py"}, **{"User-Agent": "three"})
        assert answer.status == 503
        slow.engine.goes_on.set()
        assert [each.result(HUNG).status for each in sent].count(200) == 9
    assert slow.get("/health").status == 200


def test_too_many_connections_are_refused(client, monkeypatch):
    monkeypatch.setattr(listen, "MAX_CONNECTIONS", 8)
    idle = [socket.create_connection(("127.0.0.1", client.port), timeout=HUNG) for _ in range(20)]
    answers = [connection.recv(1000) for connection in idle[12:]]
    assert any(answer.startswith(b"HTTP/1.1 503") for answer in answers)
    for connection in idle:
        connection.close()

    def has_room():
        try:
            return client.get("/health").status == 200
        except OSError:
            return False

    wait_until(has_room)


def test_slow_clients_are_closed(shared_engine, monkeypatch):
    monkeypatch.setattr(connections, "HEADER_SECONDS", 0.2)
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.2)
    with running(shared_engine) as client:
        for begin in (b"", b"GET / HT", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET "):
            with socket.create_connection(("127.0.0.1", client.port), timeout=HUNG) as connection:
                connection.sendall(begin)
                while connection.recv(65536):
                    pass
        head = (
            b"POST /infill HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        with socket.create_connection(("127.0.0.1", client.port), timeout=HUNG) as connection:
            connection.sendall(head)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            assert b" 408 " in answer
        # A connection that is only kept open is not closed so soon: an editor waits for the next key.
        with socket.create_connection(("127.0.0.1", client.port), timeout=HUNG) as connection:
            for _ in range(2):
                connection.sendall(b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                answer = b""
                while b'"ok"' not in answer:
                    part = connection.recv(65536)
                    assert part
                    answer += part
                sleep(0.5)


def test_with_a_token_only_the_page_and_the_health_are_open(shared_engine):
    token = "0123456789abcdef"
    with running(shared_engine, token=token) as client:
        page = client.get("/")
        assert page.status == 200
        assert b"Reads at once" not in page.body
        assert b"Reads at once" in client.get("/", Authorization=f"Bearer {token}").body
        assert client.get("/health").status == 200
        for path in ("/metrics", "/v1/models", "/openapi.json", "/api/tags"):
            assert client.get(path).status == 401
            assert client.get(path, Authorization=f"Bearer {token}").status == 200
        fields = {"prompt": "def ", "max_tokens": 1}
        assert client.post("/v1/completions", fields).status == 401
        assert client.post("/v1/completions", fields, Authorization=f"Bearer {token}").status == 200


def test_the_server_agrees_with_its_own_description(client, tmp_path):
    command = [
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{client.url}/openapi.json", "--max-examples", "10",
        "--phases", "examples,coverage,fuzzing", "--seed", "1", "--checks", "all", "--no-color", "--suppress-health-check", "all",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert is_answering(client)
