"""Finds out what this machine offers: processors, threads, address space and the memory of its GPU.

Numerical libraries start one thread per processor while they load, and abort the process when one is refused. So
`limit_library_threads` and `require_resources` find out before anything is loaded. The GPU is found without torch,
because the window size follows its memory and a build needs no torch.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
import sys
from contextlib import suppress
from functools import cache
from threading import Event, Thread
from typing import TYPE_CHECKING, Literal, NamedTuple

from git_starcoder.errors import LIMIT_MESSAGES, MachineError

if TYPE_CHECKING:
    import ctypes

LIBRARY_THREAD_POOLS = 3
"""Libraries that start one thread per processor: OpenBLAS and the two tokenizer libraries."""
OWN_THREADS = 6
"""Threads and processes that a command needs at once beside its workers: git, the cache, writing ahead."""
MAX_WORKERS_PER_CPU = 16
"""More worker processes than this per processor are not started: they would take memory and gain nothing."""
MIN_ADDRESS_SPACE_BYTES = 1 << 30
"""Address space without which the numerical libraries do not even load."""
MIN_TRAINING_ADDRESS_SPACE_BYTES = 2 << 30
"""Address space without which torch does not load."""
FULL_THREADS_ADDRESS_SPACE_BYTES = 4 << 30
"""Address space from which libraries may start all their threads, plus a part for each thread (next constant)."""
ADDRESS_SPACE_PER_THREAD_BYTES = 128 << 20
"""Address space that each thread of a library needs, mostly for its stack and its malloc arena."""
THREAD_COUNT_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
"""Environment variables that tell libraries how many threads to start."""
MALLOC_MMAP_THRESHOLD = -3
"""The parameter of glibc's `mallopt` that says from which size a block has pages of its own (`M_MMAP_THRESHOLD`)."""
OWN_PAGES_BYTES = 4 << 20
"""Blocks from this size on have pages of their own after `return_freed_memory`."""
GIB = 1 << 30
WINDOW_BY_MEMORY_GIB = ((24, 4096), (16, 2048), (12, 1536), (8, 1024))
"""GPU memory in GiB and the window in tokens that is used from there on."""
SMALLEST_WINDOW = 512
"""Window in tokens on a GPU with less memory than the table names."""
WINDOW_SCALES = (256, 512, 1024, 2048, 4096)
"""Windows in tokens of the recipe value `scales`, as far as they fit the GPU."""
WINDOW_WITHOUT_GPU = 1024
"""Window in tokens on a machine without a GPU."""
NOMINAL_MEMORY_SHARE = 0.92
"""Share of its nominal memory from which a card counts as that large. Cards report less than is printed on them: error
correction takes 1/16 (a 24 GB A10G has 22,731 MiB, a 16 GB T4 15,109 MiB). An 11 GB card stays below 12 GB."""
METAL_MEMORY_SHARE = 2 / 3
"""Share of unified memory that Metal recommends as a working set on machines up to 36 GB. Larger machines get more,
which changes no window."""
NVML_LIBRARIES = ("nvml.dll",) if sys.platform == "win32" else ("libnvidia-ml.so.1", "libnvidia-ml.so")
"""File names of NVIDIA's management library, tried in this order."""


def usable_cpu_count() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def max_worker_count() -> int:
    """The most worker processes that are of any use here."""
    return MAX_WORKERS_PER_CPU * usable_cpu_count()


@cache
def limit_library_threads() -> int:
    """Tell libraries to start one thread only where the machine refuses more; return the threads they may start.

    The first call must come before any numerical library is loaded. Variables that the user has set stay as they are.
    """
    cpus = usable_cpu_count()
    wanted = LIBRARY_THREAD_POOLS * cpus + OWN_THREADS
    limit = address_space_limit()
    has_space = limit is None or limit >= FULL_THREADS_ADDRESS_SPACE_BYTES + ADDRESS_SPACE_PER_THREAD_BYTES * cpus
    if has_space and startable_thread_count(wanted) == wanted:
        return cpus
    for name in THREAD_COUNT_VARIABLES:
        os.environ.setdefault(name, "1")
    return 1


def address_space_limit() -> int | None:
    """The bytes of address space that the process may have; None where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def startable_thread_count(wanted: int) -> int:
    """How many of `wanted` threads can run at once beside those that run now."""
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


def require_resources(address_space: int = MIN_ADDRESS_SPACE_BYTES) -> None:
    """End with a `MachineError` where a library would abort the process: too few threads, or a small address space."""
    limit = address_space_limit()
    if limit is not None and limit < address_space:
        what = f"addresses are limited to {limit >> 20:,} MiB (ulimit -v); at least {address_space >> 20:,} are needed"
        raise MachineError(what, hint="raise the limit: libraries reserve far more addresses than they use memory")
    if startable_thread_count(OWN_THREADS) < OWN_THREADS:
        what, hint = LIMIT_MESSAGES[errno.EAGAIN]
        raise MachineError(what, hint=hint)


class Device(NamedTuple):
    """The largest accelerator of a machine."""

    kind: Literal["cuda", "metal", "none"]
    memory: int
    """Bytes that a model can use."""


def return_freed_memory() -> None:
    """Let this process return the memory of large blocks to the system when they are freed, where glibc has the memory.

    By default, blocks of up to 32 MiB stay in a heap after some time, and small blocks between them keep it from
    shrinking. New pages take time: training steps on a CPU took 15 % longer.
    """
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(MALLOC_MMAP_THRESHOLD, OWN_PAGES_BYTES)
        library.malloc_trim(0)


def detect_device() -> Device:
    """The largest accelerator of this machine. One that cannot be queried counts as none: detection never fails."""
    if memory := max(cuda_memories(), default=0):
        return Device("cuda", memory)
    memory = metal_memory()
    return Device("metal" if memory else "none", memory)


def recommended_window(device: Device) -> int:
    """The largest window, in tokens, that suits the memory of a device."""
    if device.kind == "none":
        return WINDOW_WITHOUT_GPU
    fitting = (tokens for gib, tokens in WINDOW_BY_MEMORY_GIB if device.memory >= gib * GIB * NOMINAL_MEMORY_SHARE)
    return next(fitting, SMALLEST_WINDOW)


def recommended_scales(device: Device) -> tuple[int, ...]:
    """The windows of several scales, in tokens, that suit the memory of a device; all of them without a GPU."""
    largest = max(WINDOW_SCALES) if device.kind == "none" else recommended_window(device)
    return tuple(tokens for tokens in WINDOW_SCALES if tokens <= largest)


def cuda_memories() -> list[int]:
    """The memory in bytes of each CUDA device, from NVIDIA's management library; empty if there is none."""
    import ctypes

    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:  # the usual ways to hide all GPUs from CUDA
        return []
    for name in NVML_LIBRARIES:
        with suppress(OSError, AttributeError):  # no such library, or one without these functions
            return _query_nvml(ctypes.CDLL(name))
    return []


def _query_nvml(nvml: ctypes.CDLL) -> list[int]:
    """The memory in bytes of each device that the loaded library reports."""
    import ctypes

    if nvml.nvmlInit_v2() != 0:
        return []
    memories: list[int] = []
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        handle = ctypes.c_void_p()
        memory = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free and used, in bytes
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)) == 0
        if found and nvml.nvmlDeviceGetMemoryInfo(handle, memory) == 0:
            memories.append(memory[0])
    nvml.nvmlShutdown()
    return memories


def metal_memory() -> int:
    """The bytes of an Apple machine's memory that Metal recommends to use; 0 on any other machine."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return 0
    import subprocess

    command = ["/usr/sbin/sysctl", "-n", "hw.memsize"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        return int(int(done.stdout) * METAL_MEMORY_SHARE)
    return 0
