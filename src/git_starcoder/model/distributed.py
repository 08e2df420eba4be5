"""The processes of one training, as `torchrun` starts them: who does what, and how they add up and agree.

All have the same weights, which move by the same gradient: the sum over what each has seen. The first one alone looks
at held-out text, reads the clock, writes and publishes, and tells the others what it found.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import StarcoderError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

BUCKET = 1 << 25
"""Numbers that are added up at once."""
NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""What `torchrun` calls the fields of `Processes`."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those of its training."""

    rank: int = 0
    world: int = 1
    local: int = 0
    """Which of this machine's it is."""
    beside: int = 1
    """How many this machine has."""

    @property
    def first(self) -> bool:
        """Whether this is the one that decides and writes."""
        return self.rank == 0

    def add(self, tensors: Sequence[Any]) -> None:
        """Replace each tensor by its sum over all processes. All of them give as many, of the same shapes and type.

        Raises:
            StarcoderError: another process has ended.

        """
        if self.world == 1:
            return
        torch: Any = import_module("torch")
        waiting: list[Any] = []
        size = 0
        with _together():
            for number, tensor in enumerate(tensors):
                waiting.append(tensor)
                size += tensor.numel()
                if size >= BUCKET or number == len(tensors) - 1:
                    flat = torch.cat([each.reshape(-1) for each in waiting])
                    torch.distributed.all_reduce(flat)
                    for each, part in zip(waiting, flat.split([each.numel() for each in waiting]), strict=True):
                        each.copy_(part.view_as(each))
                    waiting, size = [], 0

    def told(self, numbers: Sequence[float]) -> list[float]:
        """What the first process says; what the others give is not looked at, but they give as many.

        Raises:
            StarcoderError: another process has ended.

        """
        if self.world == 1:
            return list(numbers)
        torch: Any = import_module("torch")
        with _together():
            said = torch.tensor(numbers, dtype=torch.float64)
            torch.distributed.broadcast(said, 0)
        return said.tolist()


def processes() -> Processes:
    """This process, by what `torchrun` has put into the environment.

    Raises:
        UsageError: only part of it is there.

    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return Processes()
    hint = "torchrun --nproc-per-node N -m git_starcoder train …"
    missing = [name for name in (*NAMES, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE is {world}, but {missing[0]} is not there", where="environment", hint=hint)
    try:
        return Processes(*(int(os.environ[name]) for name in NAMES))
    except ValueError as error:
        raise UsageError(str(error), where=", ".join(NAMES), hint=hint) from error


@contextmanager
def joined(device: str) -> Generator[Processes]:
    """The processes of this training, connected: by NCCL for `cuda`, by gloo for the rest and for what they tell.

    Raises:
        UsageError: the environment says only part of what it should.
        StarcoderError: the others cannot be reached.

    """
    found = processes()
    if found.world == 1:
        yield found
        return
    torch: Any = import_module("torch")
    if device == "mps":
        raise UsageError(
            "several processes cannot share one 'mps'", where="torchrun", hint="start one without torchrun"
        )
    if device == "cuda":
        if found.local >= torch.cuda.device_count():
            what = f"there are {torch.cuda.device_count()} GPUs here for {found.beside} processes"
            raise UsageError(what, where="torchrun", hint="--nproc-per-node as many as GPUs")
        torch.cuda.set_device(found.local)
    with _together():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    yield found  # after an error the process ends anyhow, and the others learn of it by that
    torch.distributed.destroy_process_group()


@contextmanager
def _together() -> Generator[None]:
    """What needs the others; that one of them is gone, as one clear line."""
    try:
        yield
    except RuntimeError as error:
        hint = "it says why itself; the same command goes on from the newest checkpoint"
        raise StarcoderError("another process of this training has ended", where="torchrun", hint=hint) from error
