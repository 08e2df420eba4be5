"""The other end of a worker process: take a task, answer, until the pipe closes."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import resource
import signal
import sys
from multiprocessing.connection import Connection

from git_starcoder.protocols import Failure

MAX_WORKER_BYTES = 4 << 30
"""Bytes of address space a worker may take: a runaway parse ends in a counted failure, not in a swapping machine."""
MEMORY_FAILURE = "memory"
"""Kind of the failure of a task that had less memory than `MEMORY`: elsewhere it may succeed."""
GARBAGE_COLLECTION_THRESHOLD = 100_000
"""Things made after which cycles are looked for."""


def serve(read: int, write: int) -> None:
    """Answer tasks from one pipe on the other until the first is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it kills us
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    tight = False
    if sys.platform == "linux":
        limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
        least = min([MAX_WORKER_BYTES, *limits])
        tight = least < MAX_WORKER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (least, least))
    gc.freeze()
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)  # tasks make many things and hardly a cycle
    tasks, answers = Connection(read, writable=False), Connection(write, readable=False)
    answers.send_bytes(b"")  # it has started
    while True:
        try:
            message = tasks.recv_bytes()
        except EOFError:
            return
        try:
            function, task = pickle.loads(message)  # noqa: S301 - from our own parent, over our own pipe
            answer = function(task)
        except MemoryError as error:
            answer = Failure(MEMORY_FAILURE if tight else "error", f"MemoryError: {error}")
        except Exception as error:  # noqa: BLE001 - whatever the task raises is the answer; the parent counts it
            answer = Failure("error", f"{type(error).__name__}: {error}")
        try:
            answers.send(answer)
        except BrokenPipeError:
            return


def _die_with_parent() -> None:
    """Have the kernel end this process when the parent is killed, even inside a grammar that hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == 1:
            os._exit(1)
