"""Runs inside a worker process: receives tasks and sends results until the pipe closes."""

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
"""Address space of a worker: a runaway parse becomes a counted failure instead of a swapping machine."""
MEMORY_FAILURE = "memory"
"""Kind of a failure for lack of memory where the user allows less than `MAX_WORKER_BYTES`: with more it may succeed."""
GARBAGE_COLLECTION_THRESHOLD = 100_000
"""New objects after which Python searches for reference cycles: tasks make many objects and hardly any cycles."""


def serve(read: int, write: int) -> None:
    """Receive tasks from one pipe and send results to the other, until the first is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C, and kills us
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    is_memory_limited = False
    if sys.platform == "linux":
        limits = [limit for limit in resource.getrlimit(resource.RLIMIT_AS) if limit != resource.RLIM_INFINITY]
        smallest = min([MAX_WORKER_BYTES, *limits])
        is_memory_limited = smallest < MAX_WORKER_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (smallest, smallest))
    gc.freeze()
    gc.set_threshold(GARBAGE_COLLECTION_THRESHOLD)
    tasks, results = Connection(read, writable=False), Connection(write, readable=False)
    results.send_bytes(b"")  # tells the parent that the worker has started
    while True:
        try:
            message = tasks.recv_bytes()
        except EOFError:
            return
        try:
            function, task = pickle.loads(message)  # noqa: S301 - from our own parent, over our own pipe
            result = function(task)
        except MemoryError as error:
            result = Failure(MEMORY_FAILURE if is_memory_limited else "error", f"MemoryError: {error}")
        except Exception as error:  # noqa: BLE001 - whatever the task raises is its result, and the parent counts it
            result = Failure("error", f"{type(error).__name__}: {error}")
        try:
            results.send(result)
        except BrokenPipeError:
            return


def _die_with_parent() -> None:
    """Let the kernel kill this process when the parent dies, even while a grammar hangs."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
        if os.getppid() == 1:  # the parent died before
            os._exit(1)
