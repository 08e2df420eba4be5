"""What is refused before anything is read, and what is not."""

from __future__ import annotations

import asyncio
import json

import pytest

from git_starcoder.serve import guard
from git_starcoder.serve.guard import Guard, is_loopback, parse_host
from git_starcoder.serve.metrics import Metrics

TOKEN = "0123456789abcdef"
GOOD = {"host": "127.0.0.1:8012", "content-type": "application/json"}


def ask(headers, *, method="POST", path="/infill", host="127.0.0.1", token="", body=(b"{}",), app=None):
    """The status and the JSON of an answer, and whether the application was asked."""
    asked, sent = [], []

    async def answer(_, receive, send):
        asked.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    parts = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    parts.append({"type": "http.request", "body": b"", "more_body": False})
    read = []

    async def receive():
        if not parts:
            await asyncio.sleep(1000)
        read.append(parts[0])
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    items = headers.items() if isinstance(headers, dict) else headers
    scope = {
        "type": "http", "method": method, "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in items],
    }  # fmt: skip
    metrics = Metrics()
    asyncio.run(Guard(app or answer, metrics, {path: method}, host=host, token=token)(scope, receive, send))
    status = sent[0]["status"]
    assert metrics.requests == {(path, status): 1}
    names = [name for name, _ in sent[0]["headers"]]
    assert not any(name.startswith(b"access-control") for name in names)
    assert b"x-content-type-options" in names
    if status != 200:
        assert not asked
        assert status in {408, 413, 500} or not read, "a refused request was read"
    return status, b"".join(message.get("body", b"") for message in sent[1:])


def test_a_plain_request_passes():
    assert ask(GOOD)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8012", "127.0.0.1.evil.example", "localhost.evil.example", "", "[::1", "127.0.0.1:80x",
     "127.0.0.1@evil.example", "192.168.1.2", "0.0.0.0", "localhost:8012/", "LOCALHOST\t"],
)  # fmt: skip
def test_another_name_is_refused(host):
    assert ask({**GOOD, "host": host})[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:1", "LocalHost:8012", "[::1]:8012", "[::1]"])
def test_the_names_of_this_machine_pass(host):
    assert ask({**GOOD, "host": host})[0] == 200


def test_no_host_and_two_hosts_are_refused():
    assert ask({"content-type": "application/json"})[0] == 403
    assert ask([("host", "127.0.0.1"), ("host", "127.0.0.1"), ("content-type", "application/json")])[0] == 403


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "https://127.0.0.1:8012"}, {"origin": ""},
     {"origin": "http://127.0.0.1:9999"}, {"origin": "http://127.0.0.1:8012.evil.example"},
     {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
     {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}],
)  # fmt: skip
def test_pages_of_other_origins_start_no_work(headers):
    assert ask({**GOOD, **headers})[0] == 403


def test_the_own_page_and_a_visit_pass():
    own = {"origin": "http://127.0.0.1:8012", "sec-fetch-site": "same-origin"}
    assert ask({**GOOD, **own})[0] == 200
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask({**GOOD, **visit}, method="GET", path="/")[0] == 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "", None])
def test_only_json_is_read(kind):
    headers = {name: value for name, value in {**GOOD, "content-type": kind}.items() if value is not None}
    assert ask(headers)[0] == 415


def test_json_with_a_charset_passes():
    assert ask({**GOOD, "content-type": "Application/JSON; charset=utf-8"})[0] == 200


@pytest.mark.parametrize("length", [str(guard.MAX_BODY_BYTES + 1), "9" * 40, "-1", "1e9"])
def test_a_large_body_is_refused_before_it_is_read(length):
    assert ask({**GOOD, "content-length": length})[0] == 413


def test_a_body_without_a_length_is_counted():
    part = b"x" * (guard.MAX_BODY_BYTES // 2)
    assert ask(GOOD, body=(part, part))[0] == 200
    assert ask(GOOD, body=(part, part, b"x"))[0] == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.01)

    async def receive():
        await asyncio.sleep(1000)

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in GOOD.items()]
    scope = {"type": "http", "method": "POST", "path": "/infill", "headers": headers}
    asyncio.run(Guard(None, Metrics(), {"/infill": "POST"}, host="127.0.0.1")(scope, receive, send))
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_client_that_does_not_take_its_answer_ends_its_request(monkeypatch):
    monkeypatch.setattr(guard, "SEND_SECONDS", 0.01)
    sent = []

    async def send(message):
        sent.append(message["type"])
        await asyncio.sleep(1000 if message["type"] == "http.response.body" else 0)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def answer(_, __, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"127.0.0.1")]}
    with pytest.raises(TimeoutError):  # on which uvicorn closes the connection
        asyncio.run(Guard(answer, Metrics(), {"/": "GET"}, host="127.0.0.1")(scope, receive, send))
    assert sent == ["http.response.start", "http.response.body"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [(f"Bearer {TOKEN}", 200), (f"bearer {TOKEN}", 200), (f"Bearer {TOKEN}0", 401), (f"Bearer {TOKEN[:-1]}", 401),
     ("Bearer ", 401), ("Bearer", 401), (f"Basic {TOKEN}", 401), (TOKEN, 401), (None, 401), ("Bearer \u00e9", 401)],
)  # fmt: skip
def test_a_token_is_needed_where_one_is_set(sent, status):
    headers = {**GOOD, "host": "192.168.1.2:8012", **({} if sent is None else {"authorization": sent})}
    assert ask(headers, host="0.0.0.0", token=TOKEN)[0] == status


@pytest.mark.parametrize("sent", ["Bearer ", "Bearer", "", "Bearer something", "Basic x"])
def test_any_authorization_passes_where_no_token_is_set(sent):
    assert ask({**GOOD, "authorization": sent})[0] == 200


def test_tokens_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda *both: compared.append(both) or both[0] == both[1])
    assert ask({**GOOD, "authorization": "Bearer wrong"}, token=TOKEN)[0] == 401
    assert ask({**GOOD, "authorization": f"Bearer {TOKEN}"}, token=TOKEN)[0] == 200
    assert compared == [(b"wrong", TOKEN.encode()), (TOKEN.encode(), TOKEN.encode())]


def test_a_name_of_another_machine_is_refused_also_with_a_token():
    headers = {**GOOD, "host": "evil.example", "authorization": f"Bearer {TOKEN}"}
    assert ask(headers, host="0.0.0.0", token=TOKEN)[0] == 403
    assert ask({**headers, "host": "box.lan:1"}, host="box.lan", token=TOKEN)[0] == 200


def test_a_bug_is_told_without_any_text(capsys):
    async def broken(*_):
        raise ValueError("the prompt of somebody")

    status, body = ask(GOOD, app=broken)
    assert status == 500
    assert json.loads(body)["error"]["message"] == "a bug in git-starcoder"
    told = capsys.readouterr().err
    assert told.startswith("error: a bug in git-starcoder: ValueError in ")
    assert "prompt of somebody" not in told


def test_errors_have_the_shape_that_the_client_reads():
    assert isinstance(json.loads(ask({**GOOD, "host": "x"}, path="/api/generate")[1])["error"], str)
    assert json.loads(ask({**GOOD, "host": "x"})[1])["error"]["type"] == "permission_error"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("localhost", True), ("[::1]", True), ("::1", True), ("0.0.0.0", False),
     ("::", False), ("192.168.0.1", False), ("box.lan", False)],
)  # fmt: skip
def test_which_addresses_are_only_of_this_machine(host, expected):
    assert is_loopback(host) == expected


def test_the_parts_of_a_host():
    assert parse_host("A:1") == ("a", "1")
    assert parse_host("[::1]:1") == ("::1", "1")
    assert parse_host("a:b:1") is None
