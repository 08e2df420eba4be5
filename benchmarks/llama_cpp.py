"""Asks llama.cpp's own HTTP server, in a process of its own that cannot outlive its time.

    python benchmarks/llama_cpp.py MODEL.gguf REQUESTS.json ANSWERS.json

A request is `[path, body]`, such as `["/tokenize", {"content": "x = 1"}]`. Others call `ask`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

CONTEXT_TOKENS = 4096
"""Room for a text. llama.cpp cuts the repository's files of `/infill` by it, so it is more than any request here has."""

Request = tuple[str, dict[str, Any]]


def ask(file: Path, requests: list[Request], timeout: float) -> list[Any]:
    """The server's answers to requests, one after another; after `timeout` seconds the process is killed.

    Raises:
        subprocess.TimeoutExpired: There was no time for all of them.
        RuntimeError: The server could not start, or refused a request.
    """
    with TemporaryDirectory() as folder:
        asked, answered = Path(folder, "requests.json"), Path(folder, "answers.json")
        asked.write_text(json.dumps(requests), encoding="utf-8")
        command = [sys.executable, __file__, str(file), str(asked), str(answered)]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout,
            check=False,
        )  # fmt: skip
        if done.returncode or not answered.exists():
            raise RuntimeError(
                f"llama.cpp ended with {done.returncode}: {done.stdout.decode(errors='replace')[-3000:]}"
            )
        return json.loads(answered.read_text(encoding="utf-8"))


def serve(file: str, requests: list[Request]) -> list[Any]:
    """Start a server, send the requests, and return the answers. The server cannot be stopped: end the process."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = file
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_gpu_layers = 0
    parameters.n_parallel = 1
    parameters.n_threads_http = 2
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
    parameters.warmup = parameters.ui = parameters.fit_params = False
    server = xllamacpp.Server(parameters)
    globals()["server"] = server  # its destructor waits for threads
    return [_post(server.listening_address + path, body) for path, body in requests]


def _post(address: str, body: dict[str, Any]) -> Any:
    data = json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)


if __name__ == "__main__":
    model, asked, answered = sys.argv[1:]
    answers = serve(model, json.loads(Path(asked).read_text(encoding="utf-8")))
    Path(answered).write_text(json.dumps(answers), encoding="utf-8")
    os._exit(0)  # without the destructors, which may wait for ever
