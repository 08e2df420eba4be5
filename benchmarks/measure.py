"""How the benchmarks measure: a command's wall time and the peak memory of all its processes, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import threading
import time
from pathlib import Path


def machine() -> str:
    """The machine in one line."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{len(os.sched_getaffinity(0))} × {names[0] if names else platform.machine()}, {memory:.0f} GiB, Python {platform.python_version()}"


def parsed(task: tuple[bytes, str]) -> bool:
    """Parse one text; for workers, which cannot import what a script defines."""
    from git_starcoder.parse.tree import parse

    return parse(*task).clean


def tree_memory(root: int) -> int:
    """Resident bytes of a process and all below it; what they share counts for each.

    Only counters of the kernel are read: to count what is shared once it would have to walk all pages, while they wait.
    """
    resident = 0
    waiting = [root]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            resident += int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return resident


def run(command: list[str], *, sample: float = 0.05) -> dict[str, float]:
    """Run a command to its end: wall seconds and peak memory of its processes in GB.

    Raises:
        RuntimeError: the command failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(sample):
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return {"seconds": seconds, "rss_gb": peak / 1e9}
