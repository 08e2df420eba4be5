"""What this machine lets the process have: processors, threads, memory.

Numerical libraries start a thread for each processor while they load, and end the process in ways of their own where
one is refused. So what they could have is found out before.
"""

from __future__ import annotations

import errno
import os
import resource
from functools import cache
from threading import Event, Thread

from git_starcoder.errors import LIMITS, MachineError

POOLS = 3
"""Libraries with a thread per processor: OpenBLAS, and the two that make tokens."""
OWN = 6
"""Threads and processes of our own, at once, beside workers: git, the cache, what is written ahead. With fewer, nothing
works."""
ADDRESSES = 1 << 30
"""Bytes of address space without which the libraries do not even load,"""
ADDRESSES_TO_TRAIN = 2 << 30
"""and with torch."""
AMPLE = 4 << 30
"""Bytes of address space with which the libraries may have all their threads,"""
PER_THREAD = 128 << 20
"""and so many more for each."""
WIDTHS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Where libraries are told how many threads to start."""


def cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def threads() -> int:
    """Threads that a library may start: one per processor, or only one where the machine refuses so many.

    The first call, which comes before any library is loaded, tells them.
    """
    wanted = POOLS * cores() + OWN
    space = address_space()
    if (space is None or space >= AMPLE + PER_THREAD * cores()) and startable(wanted) == wanted:
        return cores()
    for name in WIDTHS:
        os.environ.setdefault(name, "1")
    return 1


def address_space() -> int | None:
    """Bytes of address space that the process may have; None where nobody limits them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def startable(wanted: int) -> int:
    """How many of `wanted` threads can run at once, beside what runs now."""
    done = Event()
    started: list[Thread] = []
    try:
        for _ in range(wanted):
            thread = Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except (RuntimeError, MemoryError):
        pass
    finally:
        done.set()
        for thread in started:
            thread.join()
    return len(started)


def require(addresses: int = ADDRESSES) -> None:
    """End here where the libraries would end the process.

    Raises:
        MachineError: too few threads can be started, or the address space is too small.

    """
    space = address_space()
    if space is not None and space < addresses:
        what = f"addresses are limited to {space >> 20:,} MiB (ulimit -v), and {addresses >> 20:,} are needed at least"
        raise MachineError(what, hint="raise the limit: libraries take far more addresses than memory")
    if startable(OWN) < OWN:
        what, hint = LIMITS[errno.EAGAIN]
        raise MachineError(what, hint=hint)
