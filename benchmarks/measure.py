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


def tree_memory(root: int) -> tuple[int, int]:
    """Bytes of a process and all below it: resident (shared pages counted for each) and proportional."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    resident = proportional = 0
    waiting = [root]
    while waiting:
        process = waiting.pop()
        waiting.extend(parents.get(process, ()))
        try:
            text = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        for line in text.splitlines():
            if line.startswith("Rss:"):
                resident += int(line.split()[1]) * 1024
            elif line.startswith("Pss:"):
                proportional += int(line.split()[1]) * 1024
    return resident, proportional


def run(command: list[str], *, sample: float = 0.05) -> dict[str, float]:
    """Run a command to its end: wall seconds and peak memory of its processes in GB.

    Raises:
        RuntimeError: the command failed.
    """
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak = [0, 0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(sample):
            peak[:] = map(max, peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - begun
    done.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors.decode()[-2000:]}")
    return {"seconds": seconds, "rss_gb": peak[0] / 1e9, "pss_gb": peak[1] / 1e9}
