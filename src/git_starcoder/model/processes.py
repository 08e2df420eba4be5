"""The processes of a training that `torchrun` started: their places, sums over them, and what the first one says.

Only the first process reads the clock, writes the model and tells the user something; it broadcasts what the others
need to know.
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

REDUCE_BUCKET_NUMBERS = 1 << 25
"""Numbers that are summed over the processes in one operation; larger buckets would need more memory for their copy."""
TORCHRUN_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
"""Environment variables of `torchrun`, in the order of the fields of `ProcessGroup`."""
GLOO_ERROR = "gloo/transport"
"""In every error of a connection of gloo, which is an ordinary RuntimeError."""


@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The place of this process among all processes of its training."""

    rank: int = 0
    world_size: int = 1
    """Processes on all machines."""
    local_rank: int = 0
    """Number of this process on its machine."""
    local_world_size: int = 1
    """Processes on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that decides and writes."""
        return self.rank == 0

    def sum_tensors(self, tensors: Sequence[Any]) -> None:
        """Replace each tensor by its sum over all processes, which must pass the same number of tensors and shapes."""
        if self.world_size == 1:
            return
        torch: Any = import_module("torch")
        bucket: list[Any] = []
        size = 0
        for index, tensor in enumerate(tensors):
            bucket.append(tensor)
            size += tensor.numel()
            if size >= REDUCE_BUCKET_NUMBERS or index == len(tensors) - 1:
                joined = torch.cat([each.reshape(-1) for each in bucket])
                torch.distributed.all_reduce(joined)
                for each, part in zip(bucket, joined.split([each.numel() for each in bucket]), strict=True):
                    each.copy_(part.view_as(each))
                bucket, size = [], 0

    def broadcast(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers of the first process. The others pass as many numbers, which are ignored."""
        if self.world_size == 1:
            return list(numbers)
        torch: Any = import_module("torch")
        tensor = torch.tensor(numbers, dtype=torch.float64)
        torch.distributed.broadcast(tensor, 0)
        return tensor.tolist()

    def wait(self) -> None:
        """Wait until the first process waits, too."""
        self.broadcast([0])

    @contextmanager
    def in_turn(self) -> Generator[None]:
        """Let one process of each machine after the other do something. All machines must have equally many."""
        for rank in range(self.local_world_size):
            if rank == self.local_rank:
                yield
            self.sum_tensors([import_module("torch").zeros(1)])  # waits for all


def read_process_group() -> ProcessGroup:
    """Read from the environment which process of `torchrun` this is; without `torchrun`, it is the only one.

    Raises:
        UsageError: Some of the variables are missing or not numbers.
    """
    world_size = os.environ.get("WORLD_SIZE", "1")
    if world_size == "1":
        return ProcessGroup()
    hint = "torchrun --nproc-per-node N -m git_starcoder train …"
    missing = [name for name in (*TORCHRUN_VARIABLES, "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(f"WORLD_SIZE is {world_size}, but {missing[0]} is not there", where="environment", hint=hint)
    try:
        return ProcessGroup(*(int(os.environ[name]) for name in TORCHRUN_VARIABLES))
    except ValueError as error:
        raise UsageError(str(error), where=", ".join(TORCHRUN_VARIABLES), hint=hint) from error


@contextmanager
def connect_processes(device: str) -> Generator[ProcessGroup]:
    """Connect the processes of this training: by NCCL for tensors on `cuda`, else by gloo.

    Raises:
        UsageError: The environment is incomplete, or the device cannot be shared by the processes.
        StarcoderError: The other processes cannot be reached, or one of them has ended.
    """
    group = read_process_group()
    if group.world_size == 1:
        yield group
        return
    torch: Any = import_module("torch")
    if device == "mps":
        hint = "start one without torchrun"
        raise UsageError("several processes cannot share one 'mps'", where="torchrun", hint=hint)
    if device == "cuda":
        if group.local_rank >= torch.cuda.device_count():
            what = f"there are {torch.cuda.device_count()} GPUs here for {group.local_world_size} processes"
            raise UsageError(what, where="torchrun", hint="--nproc-per-node as many as GPUs")
        torch.cuda.set_device(group.local_rank)
    hint = "its own output says why; the same command continues from the newest checkpoint"
    lost = StarcoderError("another process of this training has ended", where="torchrun", hint=hint)
    try:
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    except RuntimeError as error:
        raise lost from error
    try:
        yield group  # after an error the process ends, and the others notice
    except RuntimeError as error:
        if isinstance(error, torch.distributed.DistError) or GLOO_ERROR in str(error):
            raise lost from error
        raise
    torch.distributed.destroy_process_group()
