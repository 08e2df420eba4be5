"""How the benchmarks measure: a command's wall time, the peak memory of all its processes, and the machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
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

    return parse(*task).is_clean


def tree_memory(root: int) -> int:
    """Bytes that a process and all below it have in memory; what they share is counted once (proportional set size)."""
    shared = 0
    waiting = [root]
    while waiting:
        process = Path("/proc") / str(waiting.pop())
        try:
            text = (process / "smaps_rollup").read_text()
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
        shared += sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return shared


def run(command: list[str]) -> float:
    """Run a command to its end: wall seconds.

    Raises:
        RuntimeError: the command failed.
    """
    begun = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    return seconds


def memory(command: list[str], *, sample: float = 0.1) -> float:
    """Run a command to its end: peak memory of its processes in GB.

    Not with `run`: to count what is shared the kernel walks all pages, while the processes wait.

    Raises:
        RuntimeError: the command failed.
    """
    peak = 0.0
    with ThreadPoolExecutor(1) as thread:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        errors = thread.submit(process.communicate)
        while not errors.done():
            peak = max(peak, tree_memory(process.pid) / 1e9)
            time.sleep(sample)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {errors.result()[1].decode()[-2000:]}")
    return peak
