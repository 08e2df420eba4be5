"""The standard streams of a process that may have been started without them, or whose other end goes away.

A stream that is closed counts as `/dev/null`: whoever closes standard output asks for no answer. It has to be opened,
because the next file that is opened gets its number, and what is meant for the stream would land in that file.
"""

from __future__ import annotations

import fcntl
import io
import os
import sys


class _Talk(io.FileIO):
    """Standard error: what nobody can take is lost, and no reason to stop the work; but a broken pipe is."""

    def write(self, data: object, /) -> int:
        size = memoryview(data).nbytes  # pyright: ignore[reportArgumentType]
        try:
            return super().write(data) or size  # pyright: ignore[reportArgumentType]
        except BrokenPipeError:
            raise
        except OSError:  # a full disk, a terminal that is gone
            return size


def prepare() -> None:
    """Open what is closed or open the wrong way round, and let both outputs take any text."""
    for number, unfit in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            fit = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != unfit
        except OSError:
            fit = False
        if not fit:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        raw = _Talk(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 gets escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")


def let_go() -> None:
    """Give up what nobody can read any more: the interpreter must not fail when it flushes once again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            except (OSError, ValueError, AttributeError):
                continue
