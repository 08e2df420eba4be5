"""Our commands without the seconds that they take to load: a process that has torch loaded is forked for each.

Of the five seconds of a short training four go into importing torch and transformers, and the pages have dozens of them.
What is forked has loaded libraries and done nothing with them; of this package it knows nothing. `tests/cli` starts
commands as users do.
"""

from __future__ import annotations

import atexit
import json
import os
import runpy
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT = """\
#!{python} -SE
import json, os, socket, sys
if sys.argv[0].endswith("python3") and not sys.argv[1].endswith(".py"):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    call = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(call).to_bytes(8, "little")], [0, 1, 2])
    server.sendall(call)
    sys.exit(int(server.recv(8) or 70))
"""
"""Hands its arguments, folder, environment and standard streams over, and ends as the forked process ends."""


@contextmanager
def commands(folder: Path, **environment: str) -> Iterator[Path]:
    """A folder for the PATH, with `git-starcoder` and a `python3` for scripts.

    What libraries read from the environment while they load is read from this one.
    """
    address = str(folder / "socket")
    for name in ("git-starcoder", "python3"):
        client = folder / name
        client.write_text(CLIENT.format(python=sys.executable, address=address))
        client.chmod(0o755)
    command = [sys.executable, __file__, address]
    with subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield folder
        finally:
            server.kill()


def serve(address: str) -> None:
    """Fork for each call."""
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401 - loads them
    from transformers.models.llama import modeling_llama  # noqa: F401
    from transformers.models.qwen3 import modeling_qwen3  # noqa: F401

    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while True:
        call, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            _answer(call)
        call.close()
        with suppress(ChildProcessError):  # those that ended: their time counts as ours
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _answer(call: socket.socket) -> None:
    """Do what a process of its own would do, and say how it ended."""
    size, streams, *_ = socket.recv_fds(call, 8, 3)
    with call.makefile("rb") as received:
        arguments, folder, environment = json.loads(received.read(int.from_bytes(size, "little")))
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = [*filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    code = _ended(arguments)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    call.sendall(str(code).encode())
    os._exit(code)


def _ended(arguments: list[str]) -> int:
    """The exit code of a command or script."""
    program, *sys.argv[1:] = arguments
    try:
        if program.endswith("git-starcoder"):
            from git_starcoder.cli import main

            return int(main())
        sys.argv = sys.argv[1:]
        sys.path.insert(0, str(Path(sys.argv[0]).parent.absolute()))
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python ends
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    serve(sys.argv[1])
