"""Sends a server what it must survive, and says what became of it.

    python benchmarks/hostile.py MODEL REPOSITORY FILE

It starts `git starcoder serve` and sends, one after the other:

1. REQUESTS keystrokes of a typing trace in FILE, as fast as they are answered: an hour of one completion each second.
   The memory of the server is printed on the way.
2. MALFORMED requests: a valid one with some bytes changed, removed, inserted or repeated.
3. A flood: FLOOD requests at once, as FLOOD_CLIENTS clients.
4. GONE clients that disconnect as soon as they have sent a request.
5. Requests of a page of another origin, which must start no work.

After each part it must complete as before. Everything is sent to 127.0.0.1.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

from measure import machine

from serve import KEYSTROKES, keystrokes

REQUESTS, REPORT_EVERY = 3600, 600
MALFORMED = 10_000
FLOOD, FLOOD_CLIENTS = 1000, 20
GONE = 200
SECONDS = 120


class Client:
    """Sends requests to the server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def post(self, path: str, fields: dict[str, Any], **headers: str) -> tuple[int, bytes]:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        sent = {
            "Content-Type": "application/json",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        connection.request("POST", path, json.dumps(fields), sent)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, body

    def send(self, data: bytes) -> bytes:
        """Send bytes, and return the first line of the answer; empty if there is none."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            try:
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                return connection.recv(4096).partition(b"\r\n")[0]
            except ConnectionError:
                return b""

    def leave(self, data: bytes) -> None:
        """Send bytes and disconnect."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            connection.sendall(data)

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return sum(float(value) for value in re.findall(rf"^starcoder_{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))


def spoil(valid: bytes, random: Random) -> bytes:
    """A request with some changes."""
    data = bytearray(valid)
    for _ in range(random.randrange(1, 6)):
        place = random.randrange(len(data))
        match random.randrange(4):
            case 0:
                data[place] = random.randrange(256)
            case 1:
                del data[place : place + random.randrange(1, 20)]
            case 2:
                data[place:place] = random.randbytes(random.randrange(1, 20))
            case _:
                data[place:place] = data[: random.randrange(len(data))]
    return bytes(data)


def raw(fields: dict[str, Any]) -> bytes:
    """The bytes of a request."""
    body = json.dumps(fields).encode()
    head = f"POST /infill HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def main() -> None:
    """Send everything and print what came back."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("repository", type=Path)
    parser.add_argument("file", help="path of a file in the repository")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--malformed", type=int, default=MALFORMED)
    arguments = parser.parse_args()
    text = (arguments.repository / arguments.file).read_text(encoding="utf-8")
    trace = [
        {
            "input_prefix": cursor.prefix,
            "input_suffix": cursor.suffix,
            "prompt": "",
            "n_predict": 32,
            "path": cursor.path,
        }
        for cursor in keystrokes(text, arguments.file, KEYSTROKES)
    ]
    command = [
        sys.executable,
        "-m",
        "git_starcoder",
        "serve",
        arguments.model,
        "--repo",
        str(arguments.repository),
        "--port",
        "0",
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            client = Client(int(re.findall(r":(\d+) serves", line)[0]))
            print(f"{machine()}; {arguments.model}, {arguments.file}")
            send_all(client, trace, arguments.requests, arguments.malformed)
        finally:
            server.terminate()


def send_all(client: Client, trace: list[dict[str, Any]], requests: int, malformed: int) -> None:
    """The parts, one after the other."""
    while not client.metric("index_updates_total"):  # until then, completions come from the memory of the training
        time.sleep(0.1)
    expected = client.post("/infill", trace[0])

    def check(part: str) -> None:
        # `timings` differ.
        status, body = client.post("/infill", trace[0])
        is_same = status == expected[0] and json.loads(body)["content"] == json.loads(expected[1])["content"]
        memory = client.metric("memory_bytes") / 2**20
        print(
            f"{part}: {'completes as before' if is_same else 'DOES NOT COMPLETE AS BEFORE'}, {memory:.0f} MiB",
            flush=True,
        )

    begun = time.perf_counter()
    for number in range(requests):
        if number % REPORT_EVERY == 0:
            print(f"after {number:>6,} requests  {client.metric('memory_bytes') / 2**20:.0f} MiB", flush=True)
        client.post("/infill", trace[number % len(trace)])
    check(f"{requests:,} requests in {time.perf_counter() - begun:.0f} s")
    random = Random(0)
    valid = raw({"input_prefix": "def ", "n_predict": 1})
    statuses = Counter[str]()
    with ThreadPoolExecutor(8) as pool:
        for first in pool.map(client.send, [spoil(valid, random) for _ in range(malformed)]):
            statuses[first.split(b" ")[1].decode() if first.startswith(b"HTTP/1.1 ") else "closed"] += 1
    check(f"{malformed:,} malformed requests {dict(sorted(statuses.items()))}")
    flood = Counter[int]()
    with ThreadPoolExecutor(100) as pool:
        sent = [
            pool.submit(
                client.post,
                "/infill",
                {**trace[number % len(trace)], "path": f"{number}.py"},
                User_Agent=f"{number % FLOOD_CLIENTS}",
            )
            for number in range(FLOOD)
        ]
        for each in sent:
            try:
                flood[each.result()[0]] += 1
            except (ConnectionError, http.client.HTTPException):
                flood[0] += 1
    check(f"a flood of {FLOOD:,} requests {dict(sorted(flood.items()))}")
    for number in range(GONE):
        client.leave(raw({**trace[number % len(trace)], "path": f"gone {number}.py"}))
    begun = time.perf_counter()
    while client.metric("waiting"):
        time.sleep(0.01)
    print(f"no place is taken {1000 * (time.perf_counter() - begun):.0f} ms after the last of {GONE} clients has gone")
    check(f"{GONE} clients that disconnect")
    before = client.metric("completions_total")
    refused = Counter(client.post("/infill", trace[0], Origin="http://evil.example")[0] for _ in range(100))
    started = client.metric("completions_total") - before
    check(f"another origin {dict(refused)}, {started:.0f} completions started")


if __name__ == "__main__":
    main()
