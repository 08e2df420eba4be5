"""Checkpoints of sharded weights: each process writes and reads its own parts (`torch.distributed.checkpoint`).

The parts are safetensors, not pickles, and say which rows they are. So any number of processes can read them. The keys
of the tensors are `weights/NAME`, `optimiser/NAME/exp_avg` and so on.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.model.sharding import as_sharded, is_sharded, part_of, rows_of_part
from git_starcoder.output.files import convert_os_errors
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

    from git_starcoder.model.checkpoint import Checkpoint

Tensors = dict[str, dict[str, Any]]
"""Tensors by group, such as `weights`, and name."""


def as_divided(parts: Mapping[str, Mapping[str, Any]], weights: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors by their keys, divided like `weights`, of which this process has `parts` by group and name."""
    return {
        f"{group}/{name}": as_sharded(part, _weight_of(weights, name))
        for group, named in parts.items()
        for name, part in named.items()
    }


def write_parts(folder: Path, tensors: Mapping[str, Any], group: Any = None) -> None:
    """Write the parts of `as_divided` tensors that this process has into a folder, in all processes together.

    They talk to each other in `group`, by default in that of training.

    Raises:
        OutputError: One of the processes cannot write, for example because the disk is full.
    """
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint import api
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    writer = HuggingFaceStorageWriter(cast("Any", folder), save_distributed=True)
    with convert_os_errors(folder):
        try:
            cast("Any", checkpoint).save(dict(tensors), storage_writer=writer, process_group=group)
        except api.CheckpointException as error:  # is no Exception
            cause, _ = next(iter(error.failures.values()))
            raise cause from error


def read_parts(torch: Any, checkpoint: Checkpoint, weights: Mapping[str, Any]) -> Tensors:
    """The tensors of a checkpoint, on the CPU. Of those that are divided among processes now, only this one's parts."""
    groups: Tensors = defaultdict(dict)
    for group, tensors in checkpoint.tensors.items():
        for name, tensor in tensors.items():
            weight = _weight_of(weights, name)
            is_divided = is_sharded(weight) and tensor.ndim
            groups[group][name] = tensor[rows_of_part(weight)] if is_divided else tensor
    if checkpoint.shards:
        for key, part in _read_shards(torch, checkpoint.shards, weights).items():
            group, _, name = key.partition("/")
            groups[group][name] = part
    return groups


def _read_shards(torch: Any, folder: Path, weights: Mapping[str, Any]) -> dict[str, Any]:
    from torch.distributed import checkpoint
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

    with utf8_path(folder) as place, _no_warnings():
        reader = HuggingFaceStorageReader(cast("Any", place))
        tensors: dict[str, Any] = {}
        for key, stored in cast("Any", reader.read_metadata().state_dict_metadata).items():
            _, is_of_group, name = key.partition("/")
            if not is_of_group:  # of a file that one process has written alone
                continue
            weight = _weight_of(weights, name)
            is_divided = is_sharded(weight) and stored.size
            shape = part_of(weight).shape if is_divided else stored.size
            tensors[key] = as_sharded(torch.empty(shape, dtype=stored.properties.dtype), weight)
        # Each process reads by itself, so it need not know the others.
        cast("Any", checkpoint).load(tensors, storage_reader=reader, no_dist=True)
    return {key: part_of(tensor) for key, tensor in tensors.items()}


def _weight_of(weights: Mapping[str, Any], name: str) -> Any:
    """The weight that a tensor of a checkpoint belongs to, which is named `WEIGHT` or `WEIGHT/STATE`; None if none."""
    return weights.get(name, weights.get(name.rpartition("/")[0]))


@contextmanager
def _no_warnings() -> Generator[None]:
    """Silence the warning that a process reads by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
