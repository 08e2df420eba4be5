"""Programs that need a terminal."""

from __future__ import annotations

import os
import pty
import subprocess
from contextlib import contextmanager
from threading import Thread

from shell import HUNG


@contextmanager
def running_in_a_terminal(command, **options):
    """Start a program in a terminal of 80 columns and 24 lines, and end it if it still runs.

    `drawn` of the process is what it has written to the terminal so far.
    """
    ours, its = pty.openpty()
    in_session = ["setsid", "--ctty", *command]  # it becomes the terminal of the program, which keeps the process id
    with subprocess.Popen(in_session, stdin=its, stdout=its, stderr=its, **options) as process:
        os.close(its)
        process.drawn = bytearray()
        reader = Thread(target=_read_all, args=(ours, process.drawn), daemon=True)
        reader.start()
        try:
            yield process
        finally:
            process.kill()
    reader.join(HUNG)
    os.close(ours)


def _read_all(terminal, drawn):
    """Read what is drawn, so that the program goes on."""
    try:
        while part := os.read(terminal, 65_536):
            drawn += part
    except OSError:  # the program has ended
        pass
