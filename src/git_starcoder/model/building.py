"""Builds the network that a training config describes: from scratch, on a base, or from a model of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.bases import find_base
from git_starcoder.errors import UsageError
from git_starcoder.model.adapters import add_adapters
from git_starcoder.model.architecture import add_residual_dropout, new_model
from git_starcoder.model.base_weights import load_base_model
from git_starcoder.model.devices import best_device, best_precision, has_varlen_kernel, import_libraries
from git_starcoder.model.frozen_weights import round_frozen_weights
from git_starcoder.model.loading import load_weights
from git_starcoder.model.network import Network
from git_starcoder.model.sharding import ShardedModel

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.processes import ProcessGroup
    from git_starcoder.text.tokenizer import Tokenizer


def build_network(
    config: TrainConfig, tokenizer: Tokenizer, context: int, processes: ProcessGroup | None = None,
    start: Path | None = None,
) -> Network:  # fmt: skip
    """Build the network that a config describes, from scratch or on a base model, for rows of up to `context` tokens.

    With `start`, the folder of a model of ours, it is that model instead. With several processes, the config may want
    the weights to be divided among them; all have to call this together.

    Raises:
        UsageError: The size, base, device or way of tuning does not exist, or the base has another tokenizer.
        DatasetError: The base is damaged.
        MissingExtraError: torch, transformers, or a library that the way of tuning needs is not installed.
    """
    device = config.device or best_device()
    if config.compile and device != "cuda":
        raise UsageError(f"networks are compiled on CUDA only, and this is '{device}'", where="compile")
    if config.compile and not has_varlen_kernel(device):
        raise UsageError("this GPU is too old for compiled networks", where="compile", hint="leave it out")
    precision = config.precision or best_precision(device)
    options: dict[str, Any] = {"device": device, "precision": precision}
    shards = processes if config.shard and processes and processes.world_size > 1 else None
    options["is_compiled"] = has_varlen_kernel(device) and config.compile is not False and not shards
    if shards:
        torch, _ = import_libraries()
        with shards.in_turn():  # so that one whole model at a time is in the memory of a machine
            model, adapter = _build_model(config, tokenizer, context, options, start)
            round_frozen_weights(torch, model, precision)
            options["sharded_model"] = ShardedModel.divide(torch, model, shards, device, precision)
    else:
        model, adapter = _build_model(config, tokenizer, context, options, start)
    network = Network(model, tokenizer, adapter, **options)
    if start is not None and network.positions < context:
        what = f"the model reads {network.positions:,} tokens, and the rows have up to {context:,}"
        raise UsageError(what, where=str(start), hint="train a new model")
    return network


def _build_model(
    config: TrainConfig, tokenizer: Tokenizer, context: int, place: dict[str, Any], start: Path | None
) -> tuple[Any, Any]:
    """The model of transformers that a config describes, and the model of peft around it, if it has adapters.

    `place` has the device and the precision.
    """
    has_our_architecture = config.base is None or find_base(config.base) is not None
    if start is not None:
        model = load_weights(start)
        if config.dropout and has_our_architecture:
            add_residual_dropout(model, config.dropout)
        return model, None
    if config.base is None:
        return new_model(config.size, tokenizer, context, config.seed, config.dropout, config.rope_base), None
    torch, _ = import_libraries()
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model, new_tokens = load_base_model(config, tokenizer, context, place["device"], place["precision"])
        if config.dropout and has_our_architecture:
            add_residual_dropout(model, config.dropout)
        return model, None if config.tune == "full" else add_adapters(model, config, new_tokens)
