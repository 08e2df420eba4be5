"""The window follows the memory of the device; a device that cannot be asked is none."""

from __future__ import annotations

import ctypes
import subprocess
from types import SimpleNamespace

import pytest

from git_starcoder import machine
from git_starcoder.machine import GIB, Device

MIB = 1 << 20

# What cards report, in MiB, and the tokens that SEEDS.md gives their nominal memory.
CARDS = {
    "H100": (81_559, 4096),
    "RTX 5090, 32 GB": (32_607, 4096),
    "RTX 4090, 24 GB": (24_564, 4096),
    "A10G, 24 GB with error correction": (22_731, 4096),
    "RTX A4500, 20 GB": (20_470, 2048),
    "RTX 4080, 16 GB": (16_376, 2048),
    "T4, 16 GB with error correction": (15_109, 2048),
    "RTX 4070, 12 GB": (12_282, 1536),
    "RTX 2080 Ti, 11 GB": (11_264, 1024),
    "RTX 3080, 10 GB": (10_240, 1024),
    "RTX 3070, 8 GB": (8_188, 1024),
    "RTX 2080, 8 GB": (7_982, 1024),
    "RTX 2060, 6 GB": (6_144, 512),
    "GTX 1050, 2 GB": (2_048, 512),
}


@pytest.mark.parametrize("card", CARDS)
def test_the_window_of_real_cards(card):
    memory, tokens = CARDS[card]
    assert machine.recommended_window(Device("cuda", memory * MIB)) == tokens


@pytest.mark.parametrize(
    ("size", "tokens", "below"), [(24, 4096, 2048), (16, 2048, 1536), (12, 1536, 1024), (8, 1024, 512)]
)
def test_the_edges_of_the_table(size, tokens, below):
    edge = int(size * GIB * machine.NOMINAL_MEMORY_SHARE) + 1
    assert machine.recommended_window(Device("cuda", size * GIB)) == tokens
    assert machine.recommended_window(Device("cuda", edge)) == tokens
    assert machine.recommended_window(Device("cuda", edge - 2)) == below


def test_no_gpu():
    assert machine.recommended_window(Device("none", 0)) == 1024


class FakeLibrary:
    """NVIDIA's management library with cards of some sizes; None is a card that cannot be asked."""

    def __init__(self, sizes, init=0):
        self.sizes = sizes
        self.init = init
        self.open = False

    def nvmlInit_v2(self):  # noqa: N802
        self.open = self.init == 0
        return self.init

    def nvmlShutdown(self):  # noqa: N802
        self.open = False
        return 0

    def nvmlDeviceGetCount_v2(self, count):  # noqa: N802
        count._obj.value = len(self.sizes)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, number, handle):  # noqa: N802
        handle._obj.value = number.value + 1
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle, memory):  # noqa: N802
        size = self.sizes[handle.value - 1]
        if size is None:
            return 3
        memory[0] = size
        return 0


@pytest.fixture
def computer(monkeypatch):
    """A Linux machine without accelerators, to which some can be given."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine.sys, "platform", "linux")

    def set_cuda(library):
        def load(name):
            if library is None:
                raise OSError(f"{name}: cannot open shared object file")
            return library

        monkeypatch.setattr(ctypes, "CDLL", load)

    def set_apple(answer, architecture="arm64"):
        def run(command, **_):
            assert command == ["/usr/sbin/sysctl", "-n", "hw.memsize"]
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(stdout=answer)

        monkeypatch.setattr(machine.sys, "platform", "darwin")
        monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
        monkeypatch.setattr(subprocess, "run", run)

    set_cuda(None)
    return SimpleNamespace(cuda=set_cuda, apple=set_apple)


@pytest.mark.parametrize(
    ("library", "found"),
    [
        (None, Device("none", 0)),
        (SimpleNamespace(), Device("none", 0)),  # a library of that name without its functions
        (FakeLibrary([], init=9), Device("none", 0)),  # driver not loaded
        (FakeLibrary([]), Device("none", 0)),
        (FakeLibrary([None]), Device("none", 0)),
        (FakeLibrary([8 * GIB]), Device("cuda", 8 * GIB)),
        (FakeLibrary([8 * GIB, None, 24 * GIB, 12 * GIB]), Device("cuda", 24 * GIB)),
    ],
)
def test_cuda(computer, library, found):
    computer.cuda(library)
    assert machine.detect_device() == found
    assert not getattr(library, "open", False)


@pytest.mark.parametrize(("hidden", "kind"), [("", "none"), ("-1", "none"), ("0", "cuda")])
def test_cuda_hidden_by_its_user(computer, monkeypatch, hidden, kind):
    computer.cuda(FakeLibrary([8 * GIB]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine.detect_device().kind == kind


@pytest.mark.parametrize(("memory", "tokens"), [(8, 512), (16, 1024), (24, 2048), (32, 2048), (36, 4096), (64, 4096)])
def test_metal_shares_its_memory(computer, memory, tokens):
    computer.apple(f"{memory * GIB}\n")
    found = machine.detect_device()
    assert (found.kind, machine.recommended_window(found)) == ("metal", tokens)


@pytest.mark.parametrize("answer", ["", "many", OSError(), subprocess.TimeoutExpired("sysctl", 5)])
def test_an_apple_machine_that_does_not_say(computer, answer):
    computer.apple(answer)
    assert machine.detect_device() == Device("none", 0)


def test_an_apple_machine_without_metal_for_torch(computer):
    computer.apple(f"{64 * GIB}", architecture="x86_64")
    assert machine.detect_device() == Device("none", 0)


def test_this_machine_is_asked_without_failing():
    assert machine.detect_device().memory >= 0
