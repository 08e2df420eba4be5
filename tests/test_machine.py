"""What libraries are told where the machine refuses threads or addresses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from git_starcoder import machine
from git_starcoder.errors import MachineError


@pytest.fixture
def few_threads(monkeypatch):
    """A machine on which two threads can run beside those that run now."""
    begin, most = threading.Thread.start, threading.active_count() + 2

    def start(thread):
        if threading.active_count() >= most:
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)


@pytest.mark.usefixtures("few_threads")
def test_threads_are_counted_and_given_back():
    before = threading.active_count()
    assert machine.startable_thread_count(9) == 2
    assert machine.startable_thread_count(1) == 1
    assert threading.active_count() == before


@pytest.mark.usefixtures("few_threads")
def test_libraries_are_told_of_few_threads(monkeypatch):
    for name in machine.THREAD_COUNT_VARIABLES:
        monkeypatch.setenv(name, "9")
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert machine.limit_library_threads.__wrapped__() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ["RAYON_NUM_THREADS"] == "9"  # the user's word
    with pytest.raises(MachineError, match="no more processes or threads"):
        machine.require_resources()


def test_enough_is_no_limit(monkeypatch):
    monkeypatch.setattr(machine, "address_space_limit", lambda: None)
    assert machine.limit_library_threads.__wrapped__() == machine.usable_cpu_count()
    machine.require_resources()


def test_few_addresses(monkeypatch):
    monkeypatch.setattr(machine, "address_space_limit", lambda: 3 << 29)
    for name in machine.THREAD_COUNT_VARIABLES:
        monkeypatch.setenv(name, "1")
    assert machine.limit_library_threads.__wrapped__() == 1
    machine.require_resources()
    with pytest.raises(MachineError, match="limited to 1,536 MiB"):
        machine.require_resources(machine.MIN_TRAINING_ADDRESS_SPACE_BYTES)


HELD_AFTER_FREEING = """\
import sys

from git_starcoder.machine import return_freed_memory

if sys.argv[1:]:
    return_freed_memory()
first = b"x" * (16 << 20)
del first  # from now on, glibc takes blocks of this size from its heap
blocks = [(b"x" * (8 << 20), b"x" * (100 << 10)) for _ in range(10)]
small = [block for _, block in blocks]
del blocks
print(next(int(line.split()[1]) >> 10 for line in open("/proc/self/status") if line.startswith("VmRSS:")))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc and /proc")
def test_freed_blocks_are_returned_to_the_system():
    def held(*arguments):
        command = [sys.executable, "-c", HELD_AFTER_FREEING, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert held("return") + 50 < held()  # of 80 MiB
