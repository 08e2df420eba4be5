"""Loads torch and transformers, and finds what the devices of this machine can do."""

from __future__ import annotations

import os
import sys
import time
import timeit
from importlib import import_module
from typing import Any

from git_starcoder import user_paths
from git_starcoder.errors import MachineError, MissingExtraError
from git_starcoder.machine import MIN_TRAINING_ADDRESS_SPACE_BYTES, require_resources

VARLEN_CAPABILITY = (8, 0)
"""The oldest GPUs (Ampere) that have the kernel for rows of different lengths and multiply in bfloat16."""


def import_libraries() -> tuple[Any, Any]:
    """Import torch and transformers, and silence the latter.

    Raises:
        MissingExtraError: One of them is not installed.
        MachineError: One of them cannot be loaded here, or not with these options of Python.
    """
    if sys.flags.optimize > 1:
        what = "transformers reads docstrings at run time, and Python was told to drop them"
        raise MachineError(what, where="PYTHONOPTIMIZE=2 or -OO", hint="PYTHONOPTIMIZE=1 keeps them")
    require_resources(MIN_TRAINING_ADDRESS_SPACE_BYTES)
    user_paths.temporary_folder()  # torch needs a temporary folder when it is loaded
    if user_paths.current_folder() is None:
        os.chdir("/")  # MKL ends the process if the current folder was deleted
    libraries: list[Any] = []
    for name in ("torch", "transformers"):
        try:
            libraries.append(import_module(name))
        except ImportError as error:
            raise MissingExtraError.from_import_error(error, name, "train") from error
    torch, transformers = libraries
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return torch, transformers


def best_device() -> str:
    """The best device of this machine: `cuda`, `mps` or `cpu`."""
    torch, _ = import_libraries()
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def best_precision(device: str) -> str:
    """The number format in which the device multiplies matrices clearly faster than in `float32`, else that.

    On a CPU, it is measured. GPUs before Ampere multiply in `float16` only. They need it: a T4 has 65 TFLOPS in it and
    8 in float32 (data sheet). Their emulation of bfloat16 is no faster than float32.
    """
    torch, _ = import_libraries()
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device != "cpu":
        return "float32"

    def product_seconds(dtype: Any) -> float:
        left, right = (torch.ones(512, 512, dtype=dtype) for _ in range(2))
        # Processor time: other processes on the machine do not change it.
        return min(timeit.repeat(lambda: torch.mm(left, right), timer=time.thread_time, repeat=8, number=1))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other on a busy machine take processor time, too
    try:
        return "bfloat16" if product_seconds(torch.bfloat16) * 1.5 < product_seconds(torch.float32) else "float32"
    finally:
        torch.set_num_threads(threads)


def has_varlen_kernel(device: str) -> bool:
    """Whether the device has the kernel for rows of different lengths.

    Networks are compiled only where it is: the other attention of compiled graphs takes time for all pairs of tokens
    of a micro-batch.
    """
    torch, _ = import_libraries()
    return device == "cuda" and torch.cuda.get_device_capability() >= VARLEN_CAPABILITY
