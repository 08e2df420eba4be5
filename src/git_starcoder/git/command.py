"""Runs git so that nothing in a repository can execute code, and reads its output.

The environment is built from nothing: no variable of the caller and no configuration of the user or the system reaches
git, and git never fetches an object. A git process that hangs is killed.
"""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
from contextlib import contextmanager, suppress
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, BinaryIO, cast

from git_starcoder.errors import RepositoryError
from git_starcoder.user_paths import temporary_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

SHORT_COMMAND_TIMEOUT_SECONDS = 60.0
"""How long a git command with a small output may run."""
SILENCE_TIMEOUT_SECONDS = 300.0
"""How long git may print nothing before it counts as hung, for example on a named pipe in the place of an object."""
MAX_GIT_MEMORY_BYTES = 2 << 30
"""Memory of a git process with a long output: before it prints a commit it holds every path that changed there."""
PIPE_READ_BYTES = 1 << 18
WORKING_FOLDER = "/"
"""Where git runs. All paths that it gets are absolute, and git does nothing if its current folder was deleted."""
MAX_FIELD_BYTES = 1 << 22
"""Bytes of one field of the output, such as a path. A longer field ends the output."""
SAFE_ENVIRONMENT = {
    "HOME": "/nonexistent", "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_SYSTEM": os.devnull, "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1", "GIT_NO_REPLACE_OBJECTS": "1", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0",
    "GIT_NO_LAZY_FETCH": "1",  # since git 2.39.4; for older versions the empty list of protocols does the same
    "GIT_ALLOW_PROTOCOL": "",
}  # fmt: skip


def git_environment(**variables: str) -> dict[str, str]:
    """The whole environment of a git process, with additional variables."""
    return {"PATH": os.environ.get("PATH", os.defpath), **SAFE_ENVIRONMENT, **variables}


def run_git(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Run a git command with a small output: its exit code, standard output, and error message as one line."""
    try:
        done = subprocess.run(
            ["git", *arguments], env=env, cwd=WORKING_FOLDER, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=SHORT_COMMAND_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise _timeout_error(arguments, SHORT_COMMAND_TIMEOUT_SECONDS) from error
    except FileNotFoundError as error:
        raise _git_missing_error() from error
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), _printable_message(done.stderr)


class GitOutput:
    """The output of a running git command, read as it arrives."""

    def __init__(self, arguments: tuple[str, ...], process: subprocess.Popen[bytes], messages: BinaryIO) -> None:
        """`messages` is the file that receives the standard error."""
        self._arguments, self._process, self._messages = arguments, process, messages
        self._stdout = cast("BinaryIO", process.stdout)
        self._poll = select.poll()  # select() does not accept descriptors from 1024
        self._poll.register(self._stdout, select.POLLIN)
        self._buffer = bytearray()
        self._long_field = ""

    def _fill_buffer(self) -> bool:
        """Read more output; False at its end."""
        if not self._poll.poll(SILENCE_TIMEOUT_SECONDS * 1000):
            raise _timeout_error(self._arguments, SILENCE_TIMEOUT_SECONDS)
        data = os.read(self._stdout.fileno(), PIPE_READ_BYTES)
        self._buffer += data
        return bool(data)

    def read_line(self, max_bytes: int = 4096) -> bytes | None:
        """The next line without its end; None if the output ends or the line is longer than any that git prints."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > max_bytes or not self._fill_buffer():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read_bytes(self, size: int) -> bytes:
        """The next `size` bytes, or fewer if the output ends."""
        while len(self._buffer) < size and self._fill_buffer():
            pass
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def read_fields(self) -> Iterator[bytes]:
        """All fields that end with NUL, up to a field that is longer than `MAX_FIELD_BYTES`."""
        while self._fill_buffer():
            *fields, rest = self._buffer.split(b"\0")
            self._buffer = rest
            yield from map(bytes, fields)
            if len(rest) > MAX_FIELD_BYTES:
                self._long_field = f"something in it is longer than {MAX_FIELD_BYTES} bytes"
                self._process.kill()
                return

    def failure_message(self) -> str:
        """Why git failed, or "" if it did not. Call this only after all output was read."""
        code = self._process.wait(SILENCE_TIMEOUT_SECONDS)
        if not code:
            return ""
        self._messages.seek(0)
        return self._long_field or _printable_message(self._messages.read(PIPE_READ_BYTES)) or f"git ended with {code}"


@contextmanager
def start_git(*arguments: str, env: dict[str, str], stdin: BinaryIO | None = None) -> Generator[GitOutput]:
    """Start a git command whose output may be long; it is killed at the end of the block.

    Its input is a file and never a pipe, so that neither side can wait for the other.
    """
    with TemporaryFile(dir=temporary_folder()) as messages:
        try:
            process = subprocess.Popen(
                ["git", *arguments], env=env, cwd=WORKING_FOLDER, bufsize=0,
                stdin=subprocess.DEVNULL if stdin is None else stdin, stdout=subprocess.PIPE, stderr=messages,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise _git_missing_error() from error
        with process:
            if sys.platform == "linux":
                with suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_DATA, (MAX_GIT_MEMORY_BYTES, MAX_GIT_MEMORY_BYTES))
            try:
                yield GitOutput(arguments, process, messages)
            finally:
                process.kill()


def _git_missing_error() -> RepositoryError:
    return RepositoryError("git is not installed", where="PATH", hint="install git 2.39 or newer")


def _timeout_error(arguments: tuple[str, ...], seconds: float) -> RepositoryError:
    hint = "check that every file in the repository's .git folder is a regular file on a working disk"
    where = "git " + " ".join(arguments[-2:])
    return RepositoryError(f"git gave no answer for {seconds:g} seconds", where=where, hint=hint)


def _printable_message(stderr: bytes) -> str:
    """The error message of git as one printable line."""
    words = stderr.decode("utf-8", "replace").removeprefix("fatal: ").removeprefix("error: ").split()
    return "".join(char if char.isprintable() else "?" for char in " ".join(words))[:200]
