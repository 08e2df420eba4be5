"""Run git so that nothing a repository says can run, and read what it answers.

The environment is built from nothing, so no variable of the caller and no configuration of user or system reaches git,
and no object is ever fetched. A git that hangs is killed.
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

PATIENCE = 60.0
"""Seconds that a git command with a small answer may take."""
STALL = 300.0
"""Seconds without a byte after which git counts as hung: a named pipe in the place of an object, for example."""
MEMORY = 2 << 30
"""Bytes that a git with a long answer may hold: before it speaks of a commit it holds every path that changed there."""
CHUNK = 1 << 18
AT = "/"
"""Where git runs: every path that it is given is absolute, and a git whose current folder was deleted does nothing."""
LONGEST_FIELD = 1 << 22
"""Bytes of a path, say, after which an answer is read no further."""
SAFE = {
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_SYSTEM": os.devnull,
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",  # since git 2.39.4; the empty list of protocols holds for older ones
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_OPTIONAL_LOCKS": "0",
}


def environment(**more: str) -> dict[str, str]:
    """The whole environment of a git process."""
    return {"PATH": os.environ.get("PATH", os.defpath), **SAFE, **more}


def ask(*arguments: str, env: dict[str, str]) -> tuple[int, str, str]:
    """Exit code, standard output and the first line of the complaint of a git command with a small answer."""
    try:
        done = subprocess.run(
            ["git", *arguments],
            env=env,
            cwd=AT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise stalled(arguments, PATIENCE) from error
    except FileNotFoundError as error:
        raise missing() from error
    complaint = one_line(done.stderr)
    return done.returncode, done.stdout.decode("utf-8", "surrogateescape"), complaint


class Answer:
    """What one git command says, read as it comes."""

    def __init__(self, arguments: tuple[str, ...], process: subprocess.Popen[bytes], complaints: BinaryIO) -> None:
        self._arguments = arguments
        self._process = process
        self._output = cast("BinaryIO", process.stdout)
        self._complaints = complaints
        self._waiting = select.poll()  # select() takes no descriptor from 1024
        self._waiting.register(self._output, select.POLLIN)
        self._buffer = bytearray()
        self._why = ""

    def _fill(self) -> bool:
        """Read some more; false at the end."""
        if not self._waiting.poll(STALL * 1000):
            raise stalled(self._arguments, STALL)
        data = os.read(self._output.fileno(), CHUNK)
        self._buffer += data
        return bool(data)

    def line(self, longest: int = 4096) -> bytes | None:
        """The next line without its end, or None where the answer ends or a line is longer than any that git prints."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > longest or not self._fill():
                return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def take(self, size: int) -> bytes:
        """The next `size` bytes, or fewer where the answer ends."""
        while len(self._buffer) < size and self._fill():
            pass
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def fields(self) -> Iterator[bytes]:
        """Everything, parted at NUL, or as much as comes before a part that is longer than `LONGEST_FIELD`."""
        while self._fill():
            *whole, rest = self._buffer.split(b"\0")
            self._buffer = rest
            yield from map(bytes, whole)
            if len(rest) > LONGEST_FIELD:
                self._why = f"something in it is longer than {LONGEST_FIELD} bytes"
                self._process.kill()
                return

    def failure(self) -> str:
        """Why git ended badly, or "" where it ended well. Only after everything was read."""
        code = self._process.wait(STALL)
        self._complaints.seek(0)
        return self._why or one_line(self._complaints.read(CHUNK)) or f"git ended with {code}" if code else ""


@contextmanager
def start(*arguments: str, env: dict[str, str], stdin: BinaryIO | None = None) -> Generator[Answer]:
    """Start a git command whose answer may be long; it does not outlive the block.

    Its input is a file, never a pipe: git may then answer as it likes without either side waiting for the other.
    """
    with TemporaryFile(dir=temporary_folder()) as complaints:
        try:
            process = subprocess.Popen(
                ["git", *arguments],
                env=env,
                cwd=AT,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=subprocess.PIPE,
                stderr=complaints,
                bufsize=0,
            )
        except FileNotFoundError as error:
            raise missing() from error
        with process:
            if sys.platform == "linux":
                with suppress(ProcessLookupError):
                    resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
            try:
                yield Answer(arguments, process, complaints)
            finally:
                process.kill()


def missing() -> RepositoryError:
    """There is no git to run."""
    return RepositoryError("git is not installed", where="PATH", hint="install git 2.39 or newer")


def stalled(arguments: tuple[str, ...], seconds: float) -> RepositoryError:
    """A git command said nothing for too long."""
    return RepositoryError(
        f"git gave no answer for {seconds:g} seconds",
        where="git " + " ".join(arguments[-2:]),
        hint="is everything in the repository's .git an ordinary file on a disk that answers?",
    )


def one_line(complaint: bytes) -> str:
    """What git complains about, as one printable line."""
    words = complaint.decode("utf-8", "replace").removeprefix("fatal: ").removeprefix("error: ").split()
    return "".join(char if char.isprintable() else "?" for char in " ".join(words))[:200]
