"""Predicts the peak memory of a training before its first step, part by part.

Weights, gradients and the state of the optimizer follow from the shapes of the weights. Activations are measured on
short rows, in bytes that exist at once (`Network.peak_bytes`), and extended to the rows of the training: they grow with
the tokens, and where attention weights are stored, with the squares of the lengths of rows. Logits follow from the
vocabulary.

The largest need is either in the backward pass, or while held-out text is read. All of this is per process.
"""

from __future__ import annotations

import os
import re
import resource
import sys
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.machine import GIB
from git_starcoder.model.attention import QUERY_BLOCK_BYTES
from git_starcoder.model.network import FLOAT_BYTES, LOGIT_SLICE_TOKENS, MAX_STORED_LOGITS
from git_starcoder.model.optimizer import group_weights
from git_starcoder.model.packing import INFERENCE_BATCH_TOKENS, TILE_TOKENS, tokens_of_share
from git_starcoder.model.sharding import part_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.network import Network

PROBE_TOKENS = QUERY_BLOCK_BYTES
"""Most tokens of a row that is sent through the network to measure something. Half of it is one block of queries in
bfloat16 and two in float32: the scores of whole blocks are an exact square and an exact multiple of the tokens."""
CPU_MICRO_BATCH_TOKENS = 8192
"""Tokens of a micro-batch on a CPU, where more is not faster and takes more memory."""
MIN_GPU_MICRO_BATCH_TOKENS = 2048
"""Tokens of the smallest micro-batch that is tried on a GPU."""
CPU_FRAGMENTATION = 1.1
"""Memory of a CPU process relative to the tensors in it: freed tensors of many sizes leave gaps. Where activations are
computed again, there are none: see `machine.return_freed_memory`."""
CPU_BUFFER_BYTES = 80 << 20
"""Memory that a process on a CPU needs besides tensors: for buffers of the libraries, and to write the model."""
ONEDNN_CODE_BYTES = 100 << 20
"""Memory for the code that oneDNN generates for bfloat16 products, by their shapes (see `packing.TILE_TOKENS`)."""
ADAMW_STATE_NUMBERS = 2
"""Numbers that AdamW stores for each weight; Muon stores one."""
EIGHT_BIT_BLOCK = 256
"""Numbers of the state of 8-bit AdamW that share a factor."""
MIN_EIGHT_BIT_NUMBERS = 4096
"""Smaller weights have a state in float32, also in 8-bit AdamW."""
LOGIT_COPIES = 2
"""How often the logits of a slice exist in float32 in the backward pass, besides stored ones: the gradient of their
logarithms, and their own."""
INFERENCE_LOGIT_COPIES = 2
"""How often the logits of a slice exist in float32 while held-out text is read: see `Network._view_predictions`."""


@dataclass(frozen=True, slots=True)
class PeakMemory:
    """The predicted peak memory of a process on its device."""

    parts: dict[str, int]
    """Bytes by what needs them. The first is what the process has already."""
    available: int
    """Bytes that it can have."""
    tokens: int
    """Tokens of a micro-batch."""
    least: int
    """Bytes without activations and copies: no setting of a micro-batch makes them fewer."""
    tokens_that_fit: int
    """The most tokens of a row that would fit."""

    @property
    def needed(self) -> int:
        """All bytes."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the memory suffices for everything."""
        return self.needed <= self.available

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in self.parts.items() if size)
        return f"about {self.needed / GIB:.2f} GiB ({parts}) of {self.available / GIB:.1f} GiB"


@dataclass(frozen=True, slots=True)
class Growth:
    """How bytes grow with rows: fixed + per token · tokens + per square · sum of the squares of the lengths of rows."""

    fixed: float
    per_token: float
    per_square: float

    def bytes_of(self, tokens: int, row_length: int) -> int:
        """Bytes of rows of a length that have so many tokens together."""
        return int(max(0.0, self.fixed) + max(0.0, self.per_token + self.per_square * row_length) * tokens)


def predict_peak_memory(corpus: Corpus, network: Network, config: TrainConfig, world_size: int = 1) -> PeakMemory:
    """Predict the peak memory of a training with this network, by the activations that it stores now.

    `world_size` is the number of processes that share a step, and the result is that of one of them.

    The weights stay as they are. If they are divided among processes, all of them have to call this together.
    """
    weights = list(network.model.parameters())
    trained = list(network.trainable_weights().values())
    gradient_bytes = part_bytes(trained)
    held = held_memory(network)
    is_on_cpu = network.device == "cpu"
    # What the process has already includes the weights, on every device.
    parts = {
        "the process now" if is_on_cpu else "weights": held or part_bytes(weights),
        "gradients": gradient_bytes,
        "optimizer": optimizer_bytes(network, config),
    }
    if network.sharded_model:
        # As much for their gradients, before they are summed and divided.
        parts["gathered weights"] = (1 + bool(trained)) * network.sharded_model.gathered_bytes()
    available = free_memory(network) + held
    least = sum(parts.values())
    longest = int(corpus.input_lengths.max()) - 1  # the last token is only a target
    tokens, count = micro_batch_tokens(config, longest, network.device, world_size)
    if least > available and not network.sharded_model:  # processes measure together
        return PeakMemory(parts, available, tokens, least, 0)
    # The best weights, and those before training from a base, are kept on the CPU, the moving average on the device.
    parts["copies of weights"] = gradient_bytes * (is_on_cpu * (1 + bool(config.base)) + bool(config.ema))
    if is_on_cpu:  # of weights, optimizer and average, while it is written
        parts["checkpoint"] = gradient_bytes * (1 + bool(config.ema)) + parts["optimizer"]
    training = measure_growth(network, longest, is_training=True)
    inference = measure_growth(network, longest, is_training=False)

    def bytes_for(tokens: int, row_length: int) -> dict[str, int]:
        read = min(INFERENCE_BATCH_TOKENS, network.context) if row_length >= network.context else INFERENCE_BATCH_TOKENS
        activations, logits = training.bytes_of(tokens, row_length), training_logit_bytes(network, tokens)
        if network.recomputes_activations:
            # The logits are gone when the first layer is computed again. Until then only inputs of layers are stored.
            logits = max(0, layer_input_bytes(network, tokens) + logits - activations)
        needs = (
            {"activations": activations, "logits": logits},
            {"activations": inference.bytes_of(read, row_length), "logits": inference_logit_bytes(network)},
        )
        return max(needs, key=lambda each: sum(each.values()))

    factor = CPU_FRAGMENTATION if is_on_cpu and not network.recomputes_activations else 1.0
    found = bytes_for(tokens, longest)
    parts[f"activations of {tokens:,} tokens"] = int(factor * found["activations"])
    parts["logits"] = int(factor * found["logits"])
    if count == world_size and not network.sharded_model:
        # A step of one micro-batch has its gradients only when most activations are gone.
        parts["gradients"] = _late_gradients(network, gradient_bytes, sum(found.values()))
    if is_on_cpu:
        parts["buffers"] = CPU_BUFFER_BYTES + (ONEDNN_CODE_BYTES if network.precision == "bfloat16" else 0)
    room = available - sum(parts.values()) + int(factor * sum(found.values()))
    sizes = range(TILE_TOKENS, longest + 1, TILE_TOKENS)
    fitting = [size for size in sizes if factor * sum(bytes_for(size, size).values()) <= room]
    return PeakMemory(parts, available, tokens, least, max(fitting, default=0))


def micro_batch_tokens(config: TrainConfig, longest: int, device: str, world_size: int = 1) -> tuple[int, int]:
    """The tokens of a micro-batch that a training begins with, and how many of them a step has.

    On a GPU, the batch-size search may take larger ones.
    """
    usual = MIN_GPU_MICRO_BATCH_TOKENS if device == "cuda" else CPU_MICRO_BATCH_TOKENS
    limit = max(longest, TILE_TOKENS, config.micro_batch or usual)
    count = world_size
    while (tokens := tokens_of_share(max(config.batch, longest), longest, count)) > limit:
        count += world_size
    return max(longest, tokens), count


def optimizer_bytes(network: Network, config: TrainConfig) -> int:
    """Bytes of the state of the optimizer for the weights that this process has."""
    by_muon, *by_adamw = group_weights(network, config)
    total = FLOAT_BYTES * sum(part_of(weight).numel() for weight in by_muon)
    for weight in chain(*by_adamw):
        size = part_of(weight).numel()
        if config.optimizer == "adamw8bit" and size >= MIN_EIGHT_BIT_NUMBERS:
            total += ADAMW_STATE_NUMBERS * (size + FLOAT_BYTES * -(-size // EIGHT_BIT_BLOCK))
        else:
            total += ADAMW_STATE_NUMBERS * FLOAT_BYTES * size
    return total


def measure_growth(network: Network, row_length: int, *, is_training: bool) -> Growth:
    """Measure how activations grow, by short rows.

    One row of h tokens, two such rows, and one row of 2h tokens give the three unknowns.
    """
    half = max(1, min(PROBE_TOKENS, row_length, network.context) // 2)
    row = np.zeros(2 * half + 1, dtype=np.int64)
    one, two, double = (
        network.peak_bytes(rows, is_training=is_training, stand_for=row_length)
        for rows in ([row[: half + 1]], [row[: half + 1]] * 2, [row])
    )
    per_square = max(0.0, (double - two) / (2 * half**2))
    per_token = (two - one) / half - per_square * half
    # What is gathered is counted elsewhere.
    fixed = 0.0 if network.sharded_model else one - per_token * half - per_square * half**2
    return Growth(fixed, per_token, per_square)


def layer_input_bytes(network: Network, tokens: int) -> int:
    """Bytes of the inputs of all layers, which are stored where activations are computed again."""
    values = network.model.config.get_text_config()
    return FLOAT_BYTES * values.num_hidden_layers * values.hidden_size * tokens


def training_logit_bytes(network: Network, tokens: int) -> int:
    """Bytes of logits, and of the gradient of the output layer, in a micro-batch of so many targets."""
    logits = tokens * network.vocab_size
    # A CPU stores their gradients, in the number format of products: see `cpu_operations.CrossEntropy`.
    is_cpu, is_float32 = network.device == "cpu", network.precision == "float32"
    number_bytes = FLOAT_BYTES // 2 if is_cpu and not is_float32 else FLOAT_BYTES
    stored = 0 if logits > MAX_STORED_LOGITS else number_bytes * logits  # else they are computed again
    # In float32, a CPU needs no other copy of logits for their losses.
    copies = LOGIT_COPIES + (not stored and not (is_cpu and is_float32))
    of_slice = copies * FLOAT_BYTES * min(tokens, LOGIT_SLICE_TOKENS) * network.vocab_size
    head = network.model.get_output_embeddings().weight
    is_trained = head.requires_grad and not network.sharded_model
    return stored + of_slice + (FLOAT_BYTES * head.numel() if is_trained else 0)


def inference_logit_bytes(network: Network) -> int:
    """Bytes of logits while held-out text is read."""
    return INFERENCE_LOGIT_COPIES * FLOAT_BYTES * LOGIT_SLICE_TOKENS * network.vocab_size


def _late_gradients(network: Network, gradient_bytes: int, activation_bytes: int) -> int:
    """The part of the gradients that exists in the backward pass while most activations do, or is left of them later.

    The gradient of the output layer is the first one.
    """
    head = network.model.get_output_embeddings().weight
    early = FLOAT_BYTES * head.numel() if head.requires_grad else 0
    return max(min(early, gradient_bytes), gradient_bytes - activation_bytes)


def weight_bytes(weights: Sequence[Any]) -> int:
    """Bytes of whole weights."""
    return sum(weight.numel() * weight.element_size() for weight in weights)


def part_bytes(weights: Sequence[Any]) -> int:
    """Bytes that this process has of weights."""
    return weight_bytes([part_of(weight) for weight in weights])


def held_memory(network: Network) -> int:
    """Bytes of the device's memory that this process holds."""
    if network.device == "cuda":
        return int(network.torch.cuda.memory_allocated())
    return process_memory() if network.device == "cpu" else 0


def process_memory() -> int:
    """Bytes of memory that this process holds."""
    with suppress(OSError):  # only Linux says what is held now; others report the maximum so far
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    unit = 1 if sys.platform == "darwin" else 1 << 10
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def free_memory(network: Network) -> int:
    """Bytes of memory that are free on the device, or on the machine for a CPU."""
    torch = network.torch
    if network.device == "cuda":
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0] + cached)
    if network.device == "mps":
        return int(torch.mps.recommended_max_memory())
    with suppress(OSError):  # only Linux says what is available
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        if match := re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE):
            return int(match[1]) << 10
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
