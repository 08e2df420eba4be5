"""What a model would be trained on: the memory of a CUDA or Metal device, found without torch.

The window follows it (`window`). A device that cannot be asked is no device: detection never fails.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from contextlib import suppress
from typing import Literal, NamedTuple

GIB = 1 << 30
WINDOWS = ((24, 4096), (16, 2048), (12, 1536), (8, 1024))
"""Memory in GiB from which a window, in tokens, is used."""
SMALLEST = 512
SCALES = (256, 512, 1024, 2048, 4096)
WITHOUT_GPU = 1024
TOLERANCE = 0.92
"""Share of its nominal memory from which a card counts as that large. Cards report less than is printed on them: error
correction takes 1/16 (a 24 GB A10G has 22,731 MiB, a 16 GB T4 15,109 MiB). An 11 GB card stays below 12 GB."""
METAL_SHARE = 2 / 3
"""Of unified memory, what Metal recommends as a working set on machines up to 36 GB; larger ones get more, which
changes nothing here."""
NVML = ("nvml.dll",) if sys.platform == "win32" else ("libnvidia-ml.so.1", "libnvidia-ml.so")


class Device(NamedTuple):
    """The largest accelerator of this machine."""

    kind: Literal["cuda", "metal", "none"]
    memory: int
    """Bytes that a model can use."""


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def detect() -> Device:
    """The largest accelerator of this machine, or `none`."""
    if memory := max(cuda_memories(), default=0):
        return Device("cuda", memory)
    if memory := metal_memory():
        return Device("metal", memory)
    return Device("none", 0)


def window(device: Device) -> int:
    """The window that fits a device, in tokens."""
    if device.kind == "none":
        return WITHOUT_GPU
    return next((tokens for size, tokens in WINDOWS if device.memory >= size * GIB * TOLERANCE), SMALLEST)


def scales(device: Device) -> tuple[int, ...]:
    """The windows of several scales that fit a device, in tokens; all of them where there is none to fit."""
    largest = max(SCALES) if device.kind == "none" else window(device)
    return tuple(tokens for tokens in SCALES if tokens <= largest)


def cuda_memories() -> list[int]:
    """The memory of each CUDA device, in bytes, from NVIDIA's management library; empty if there is none."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:  # how a user hides all of them from CUDA
        return []
    for name in NVML:
        with suppress(OSError, AttributeError):  # no such library, or one without these functions
            return _ask(ctypes.CDLL(name))
    return []


def _ask(nvml: ctypes.CDLL) -> list[int]:
    if nvml.nvmlInit_v2() != 0:
        return []
    memories: list[int] = []
    count = ctypes.c_uint(0)
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for number in range(count.value):
        handle, memory = ctypes.c_void_p(), _Memory()
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(number), ctypes.byref(handle)) == 0
        if found and nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
            memories.append(memory.total)
    nvml.nvmlShutdown()
    return memories


def metal_memory() -> int:
    """What Metal recommends to use of an Apple machine's memory, in bytes; 0 on any other machine."""
    if sys.platform != "darwin" or platform.machine() != "arm64":
        return 0
    command = ["/usr/sbin/sysctl", "-n", "hw.memsize"]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=5)
        return int(int(done.stdout) * METAL_SHARE)
    return 0
