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
    """Start a program in a terminal of 80 columns and 24 lines, whose screen nobody sees; end it if it still runs."""
    ours, its = pty.openpty()
    in_session = ["setsid", "--ctty", *command]  # it becomes the terminal of the program, which keeps the process id
    with subprocess.Popen(in_session, stdin=its, stdout=its, stderr=its, **options) as process:
        os.close(its)
        reader = Thread(target=_read_all, args=(ours,), daemon=True)
        reader.start()
        try:
            yield process
        finally:
            process.kill()
    reader.join(HUNG)
    os.close(ours)


def _read_all(terminal):
    """Read what is drawn, so that the program goes on."""
    try:
        while os.read(terminal, 65_536):
            pass
    except OSError:  # the program has ended
        pass
