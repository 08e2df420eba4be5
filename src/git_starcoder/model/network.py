"""Runs a causal language model of transformers on a device: losses of packed rows, bits per token, and generation.

Packed rows lie one after another. Attention stays within their segments: no row sees another or costs time for it.
"""

from __future__ import annotations

import os
import sys
import time
import timeit
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from math import isfinite, log
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder import user_paths
from git_starcoder.errors import MachineError, MissingExtraError, UsageError, as_machine_error
from git_starcoder.machine import (
    MIN_TRAINING_ADDRESS_SPACE_BYTES,
    limit_library_threads,
    require_resources,
    return_freed_memory,
)
from git_starcoder.model import generation
from git_starcoder.model.frozen_weights import round_frozen_weights
from git_starcoder.model.packing import INFERENCE_BATCH_TOKENS, TILE_TOKENS, pack_rows, padded_batches
from git_starcoder.row_layout import IGNORED_LABEL
from git_starcoder.text.tokenizer import summarize_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from git_starcoder.model.corpus import Integers
    from git_starcoder.model.packing import PackedRows
    from git_starcoder.model.sharding import ShardedModel
    from git_starcoder.text.tokenizer import Tokenizer


ATTENTION_NAME = "git_starcoder_rows"
"""The name of our attention function in transformers."""
MAX_COMPILED_GRAPHS = 64
"""Graphs that may be compiled of one network. The batch-size search compiles up to two per size, and torch runs what
exceeds its own limit of 8 without compiling it."""
VARLEN_CAPABILITY = (8, 0)
"""The oldest GPUs (Ampere) that have the kernel for rows of different lengths and multiply in bfloat16."""
LOGIT_SLICE_TOKENS = 512
"""Tokens whose logits are computed at once. They fit into a processor's cache."""
GPU_SLICE_LOGITS = 1 << 26
"""Logits that a GPU computes at once (256 MiB in float32), of at least `LOGIT_SLICE_TOKENS` tokens: small products of
matrices do not fill it."""
DIMENSION_MULTIPLE = 64
"""Vocabulary and feed-forward width are multiples of this, because matrix units work in tiles."""
FLOAT_BYTES = 4
"""Bytes of a logit, which is always computed in float32."""
MAX_STORED_LOGITS = 1 << 28
"""The largest number of stored logits (1 GiB). Beyond it, the backward pass computes logits again."""
MAX_STORED_SCORES_TOKENS = 1024
"""Longest segment whose attention weights are stored on a CPU. Beyond it, a kernel that computes them again is used."""
QUERY_BLOCK_TOKENS = 256
"""Tokens whose attention is computed at once on a CPU: their scores fit into its cache, and few that are masked later
are computed."""
MAX_HEADER_SHARE = 3 / 4
"""The share of the context that a header may take, with the other files that are shown in it. The rest is text."""
MAX_LOGIT_DIFFERENCE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.15}
"""Largest difference of logits (root mean square, in standard deviations of the logits) that is still rounding. In
bfloat16 it is 0.01 for a narrow untrained Qwen2 of 28 layers, and some 0.06 for one of 1.5 billion weights. A row that
sees another differs by 0.28 and more."""
UNLIMITED_CONTEXT_TOKENS = 1 << 20
"""Context of a model whose positions have no end."""


class Segments(NamedTuple):
    """Where the segments of packed rows lie."""

    bounds: Any
    """A tensor on the device: segment i is `bounds[i]:bounds[i + 1]`, int32, shape (segments + 1,)."""
    lengths: tuple[int, ...] | None
    """Tokens of each segment; None if only the device may know, so that one compiled graph serves all packed rows."""
    longest: Any
    """An empty tensor with a row for each token of the longest segment, shape (tokens, 0). Each value of a number would
    be compiled on its own, and the dimension of a tensor may vary."""
    has_kernel: bool = False
    """Whether the device has the kernel for segments of different lengths."""
    stand_for: int = 0
    """The length of the rows that these stand for, if they are measured in place of longer ones."""


def build_segments(
    torch: Any, bounds: NDArray[Any], device: str, *, padding: int | None = None, has_kernel: bool = False
) -> Segments:
    """Put segment bounds on the device.

    With `padding`, the tokens of the last segment that are only padding, the segments are for a compiled graph: their
    number and the longest one may change without another compilation. The padding is cut, so that it is never the
    longest segment, by which kernels are launched.
    """
    if padding is None:
        lengths = np.diff(bounds)
        longest = torch.empty(int(lengths.max(initial=0)), 0)
        return Segments(torch.from_numpy(bounds).to(device), tuple(lengths.tolist()), longest, has_kernel)
    rows = bounds[:-1] if padding else bounds
    length = int(np.diff(rows).max(initial=1))
    if padding:
        cuts = np.arange(rows[-1] + length, bounds[-1], length, dtype=bounds.dtype)
        bounds = np.concatenate((rows, cuts, bounds[-1:]))
    segments = torch.from_numpy(bounds).to(device, non_blocking=True)
    longest = torch.empty(length, 0)
    for tensor in (segments, longest):
        torch._dynamo.maybe_mark_dynamic(tensor, 0)  # noqa: SLF001
    return Segments(segments, None, longest, has_kernel)


def attend(
    _: Any, query: Any, key: Any, value: Any, mask: Any, *, segments: Segments, dropout: float = 0.0, **options: Any
) -> tuple[Any, None]:
    """Causal attention within segments: a query of (1, heads, tokens, width) gives (1, tokens, heads, width)."""
    import torch

    if mask is not None or options.get("softcap") is not None:
        raise NotImplementedError("attention with a mask or a soft cap")
    scaling, window = options.get("scaling"), options.get("sliding_window")
    longest = segments.longest.shape[0]
    # In a compiled graph, the comparison would be a reason to compile again.
    window = window if window and (segments.lengths is None or window < longest) else None
    # The kernel takes no float32 and has no dropout.
    if segments.has_kernel and value.dtype != torch.float32 and not dropout:
        return _attend_on_cuda(query, key, value, segments, scaling, window), None
    if segments.lengths is None:
        return _attend_with_mask(query, key, value, segments, scaling, window, dropout), None
    return _attend_by_segment(query, key, value, segments, scaling, window, dropout), None


def _attend_on_cuda(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None
) -> Any:
    from torch.nn.attention import varlen

    # Under autocast, rotary positions turn queries and keys into float32; values stay in the kernel's precision.
    parts = [part[0].transpose(0, 1).to(value.dtype) for part in (query, key, value)]
    longest = segments.longest.shape[0]
    bounds = segments.bounds, segments.bounds, longest, longest
    window_size = (-1 if window is None else window - 1, 0)
    is_grouped = query.shape[1] != key.shape[1]
    kernel: Any = varlen.varlen_attn
    return kernel(*parts, *bounds, scale=scaling, window_size=window_size, enable_gqa=is_grouped)[None]


def _attend_with_mask(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None, dropout: float
) -> Any:
    """Attention of all packed rows at once: one compiled graph whatever their lengths, in quadratic time."""
    import torch

    place = torch.arange(query.shape[2], dtype=torch.int32, device=query.device)
    segment = torch.searchsorted(segments.bounds, place, right=True)
    distance = place[:, None] - place
    mask = (segment[:, None] == segment) & (distance >= 0)
    if window is not None:
        mask &= distance < window
    options = {"attn_mask": mask, "dropout_p": dropout, "enable_gqa": query.shape[1] != key.shape[1]}
    kernel: Any = torch.nn.functional.scaled_dot_product_attention
    return kernel(query, key, value, scale=scaling, **options).transpose(1, 2)


def _attend_by_segment(
    query: Any, key: Any, value: Any, segments: Segments, scaling: float | None, window: int | None, dropout: float
) -> Any:
    import torch

    lengths = list(segments.lengths or ())
    # Split, not sliced: the gradient of a slice is as long as all packed rows, once per segment. In a loop, because on
    # a CPU a batch of segments of one length is not faster from 128 tokens on, and padding to one length is slower.
    # Segments are padded to whole tiles, so that there are few shapes: tokens do not see what comes after them.
    attention: Any = torch.nn.functional.scaled_dot_product_attention
    pad = torch.nn.functional.pad
    is_grouped = query.shape[1] != key.shape[1]
    outputs: list[Any] = []
    for parts in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        length = parts[0].shape[2]
        padding = -length % TILE_TOKENS
        queries, keys, values = (pad(part, (0, 0, 0, padding)) if padding else part for part in parts)
        size = length + padding
        output: Any
        is_short = max(size, segments.stand_for) <= MAX_STORED_SCORES_TOKENS
        if query.device.type == "cpu" and (dropout or is_short):
            output = _attend_by_query_block(queries, keys, values, scaling, window, dropout)
        else:
            window_mask = None
            if window is not None and size > window:
                window_mask = torch.ones(size, size, dtype=torch.bool, device=query.device).tril().triu(1 - window)
            options = {"attn_mask": window_mask, "is_causal": window_mask is None, "enable_gqa": is_grouped}
            output = attention(queries, keys, values, dropout_p=dropout, scale=scaling, **options)
        outputs.append(output.transpose(1, 2)[:, :length])
    return torch.cat(outputs, 1)


def _attend_by_query_block(
    query: Any, key: Any, value: Any, scaling: float | None, window: int | None, dropout: float
) -> Any:
    """Causal attention of one segment on a CPU, (1, heads, tokens, width)."""
    from git_starcoder.model.cpu_operations import BlockAttention

    groups = query.shape[1] // key.shape[1]
    # Under autocast, rotary positions turn queries and keys into float32; values stay in the precision of products.
    query, key, value = (part[0].to(value.dtype) for part in (query, key, value))
    if groups > 1:
        key, value = key.repeat_interleave(groups, 0), value.repeat_interleave(groups, 0)
    scale = float(query.shape[2] ** -0.5) if scaling is None else scaling
    attention: Any = BlockAttention
    return attention.apply(query, key, value, scale, window, dropout)[None]


class ForwardPath(NamedTuple):
    """How tokens go through an architecture: `body` gives hidden states, and `head` makes logits of them."""

    body: Any
    head: Any
    is_packed: bool = False
    """Whether the model can attend within the segments of packed rows; else rows are padded to one length."""


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


class ScoredWindows(NamedTuple):
    """Windows of sequences, in which every token that is to be scored is new once."""

    tokens: list[NDArray[Any]]
    owners: list[int]
    """The sequence of each window."""
    new_counts: list[int]
    """The number of tokens at the end of each window that are new."""
    sequence_count: int

    def join(self, values: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return for each sequence the values of its scored tokens; `values` has those of each window."""
        found: list[list[NDArray[np.float32]]] = [[] for _ in range(self.sequence_count)]
        for owner, count, window in zip(self.owners, self.new_counts, values, strict=True):
            found[owner].append(window[-count:])
        return [np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32) for parts in found]


def scored_windows(
    sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], headers: Sequence[NDArray[Any]], context: int,
    end_token: int, parts: int,
) -> ScoredWindows:  # fmt: skip
    """Cut sequences of any length into windows for a network; see `protocols.LanguageModel.sequence_bits`.

    Windows as long as the context move forward by a part of it. Four parts cost four times as much as one, and are
    close to a full context for every token.
    """
    windows = ScoredWindows([], [], [], len(sequences))
    nothing = np.zeros(0, dtype=np.int64)
    shown = zip(sequences, first_scored, headers or [nothing] * len(sequences), strict=True)
    for index, (tokens, first, whole_header) in enumerate(shown):
        header = whole_header[: int(context * MAX_HEADER_SHARE)]
        room = context - len(header)
        done = first
        for start in range(0, len(tokens), max(1, room // parts)):
            stop = min(len(tokens), start + room + 1)
            if stop > done:
                begins_file = start == 0 and tokens[0] == end_token
                windows.tokens.append(np.insert(tokens[start:stop], int(begins_file), header))
                windows.owners.append(index)
                windows.new_counts.append(stop - done)
                done = stop
    return windows


class Network:
    """A causal language model on a device. It implements the protocol `LanguageModel` that evals use.

    `model` is the model of transformers, with weights in float32, or frozen ones in bfloat16.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        adapter: Any = None,
        *,
        device: str | None = None,
        precision: str | None = None,
        is_compiled: bool = False,
        sharded_model: ShardedModel | None = None,
    ) -> None:
        """Move the model to the device and find out how packed rows can go through it.

        `adapter` is the model of peft around `model`, if that has adapters. The device is the best one and the
        precision of matrix products the faster one unless given. `is_compiled` is for CUDA only. With `sharded_model`,
        the weights of `model` are divided among processes, and all of them must call the network together. Frozen
        weights are rounded to the precision where that changes no result (see `frozen_weights`).

        Raises:
            UsageError: The model cannot be run, has weights that are not numbers, or is not causal.
        """
        self.torch, transformers = import_libraries()
        # Otherwise torch follows OMP_NUM_THREADS, which many environments set for the sake of other programs.
        self.torch.set_num_threads(limit_library_threads())
        self.device = device or best_device()
        self.precision = precision or best_precision(self.device)
        if self.device == "cuda":
            self.torch.set_float32_matmul_precision("high")
        is_quantized = getattr(model, "hf_quantizer", None) is not None
        if not sharded_model:  # whose weights were rounded before they were divided
            round_frozen_weights(self.torch, model, self.precision)
        self.model = model if sharded_model or is_quantized else model.to(self.device)
        self.adapter = adapter
        self.sharded_model = sharded_model
        config = model.config.get_text_config()
        self.vocab_size: int = config.vocab_size
        """Entries that there are logits for: those of the tokenizer, and perhaps padding."""
        self.positions: int = getattr(config, "max_position_embeddings", None) or UNLIMITED_CONTEXT_TOKENS
        """Tokens that the model sees at once."""
        self.context = self.positions - (tokenizer.begin_id is not None)
        """The same without `begin_token`."""
        self.pad_token = tokenizer.pad_id
        self.end_token = tokenizer.end_id
        self.begin_token = tokenizer.begin_id
        """The token that the model reads before every text, and before every part of one; see `Tokenizer.begin_id`."""
        padding = range(tokenizer.vocab_size, self.vocab_size)
        never_written = {self.pad_token} | ({self.begin_token} if self.begin_token is not None else set[int]())
        self.suppressed_tokens = [*sorted(never_written - {self.end_token}), *(tokenizer.fim_ids or ()), *padding]
        """Tokens that are never generated: control tokens, and entries that the tokenizer does not have. The end of
        text is generated also where it is the padding, too, as with StarCoder2."""
        self.is_compiled = is_compiled
        self.recomputes_activations = False
        """Whether the backward pass computes the activations of each layer again, instead of storing them."""
        self._measured_length = 0
        self.has_fixed_shapes = is_compiled or self.device == "mps"
        """Whether all packed rows should have one length: every other length is compiled, or buffered, on its own."""
        self._has_kernel = has_varlen_kernel(self.device)
        # Only a model that another network has used is found with our attention; all of those know this one.
        self._own_attention = "sdpa" if self._attention_name == ATTENTION_NAME else self._attention_name
        self.notes: list[str] = []
        """What the user should know about how this model is run."""
        # Transformers has no mask function of this name, so no mask is made.
        transformers.AttentionInterface.register(ATTENTION_NAME, attend)
        if self.device == "cpu" and not is_compiled:
            from git_starcoder.model.cpu_operations import replace_norms

            replace_norms(model)
        self._forward_path = self._choose_forward_path()
        self._body: Any = self._forward_path.body
        if is_compiled:
            settings: Any = self.torch._dynamo.config  # noqa: SLF001
            settings.recompile_limit = max(settings.recompile_limit, MAX_COMPILED_GRAPHS)
            self._body = self.torch.compile(self._body, dynamic=False)

    def add_first_token(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """What the model reads in place of a text, or of a part of one.

        A text begins with the end-of-text token of another one. If the base was trained with a token for the beginning
        of a text, that takes its place, and it stands before parts that are not at the beginning, too: such models
        write nonsense without it. In training, `Corpus.first_tokens` does the same.
        """
        if self.begin_token is None:
            return tokens
        begins_text = int(len(tokens) > 0 and tokens[0] == self.end_token)
        return np.insert(tokens[begins_text:], 0, self.begin_token)

    def trainable_weights(self) -> dict[str, Any]:
        """The weights that are trained, by name: all, or those of the adapters. Tied weights come once."""
        return {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}

    @property
    def can_recompute(self) -> bool:
        """Whether transformers can compute activations of this architecture again."""
        return bool(self.model.supports_gradient_checkpointing)

    @property
    def _recomputes_now(self) -> bool:
        return self.recomputes_activations and self.torch.is_autocast_enabled(self.device)

    def set_recomputation(self, *, is_on: bool) -> None:
        """Let the backward pass compute the activations of each layer again, or let the forward pass store them.

        This is gradient checkpointing (Chen et al., 2016). Results stay the same, dropout included. Without a backward
        pass, it changes nothing. On a CPU, this process from then on returns the memory of large tensors at once: else
        the gaps that they leave take what recomputation saves (see `docs/benchmarks.md`).

        Raises:
            UsageError: Transformers does not have it for this architecture.
        """
        if not is_on:
            if self.recomputes_activations:
                self.model.activation_checkpointing_disable()
            self.recomputes_activations = False
            return
        if not self.can_recompute:
            what = f"activations of {self.model.config.model_type} cannot be computed again"
            raise UsageError(what, where="recompute", hint="recompute: false")
        self.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        self.model.disable_input_require_grads()  # which only the old form of checkpointing needs
        self.recomputes_activations = True
        if self.device == "cpu":
            return_freed_memory()

    def autocast(self, *, keeps_weights: bool = True) -> AbstractContextManager[Any]:
        """A context in which matrix products have the network's precision.

        With `keeps_weights`, the rounded weights that are trained stay in memory until the context ends.
        """
        if self.precision == "float32":
            return nullcontext()
        return self.torch.autocast(self.device, getattr(self.torch, self.precision), cache_enabled=keeps_weights)

    def row_losses(self, rows: Sequence[NDArray[Any]], loss_starts: Integers | None = None) -> Any:
        """Pack rows and return their `token_losses`. The loss of a row begins at its token `loss_starts`, or at 1.

        Compiles nothing: each length would be a graph of its own.
        """
        body, self._body = self._body, self._forward_path.body
        try:
            return self.token_losses(pack_rows(rows, loss_starts))
        finally:
            self._body = body

    def token_losses(self, packed: PackedRows) -> Any:
        """Negative log-likelihood in nats of each target of packed rows, in their order, shape (targets,)."""
        return self._at_targets(packed, self._cross_entropy)

    def without_gradient(self) -> AbstractContextManager[Any]:
        """A context in which the network remembers nothing for a backward pass."""
        # Buffers for gathered weights that were made in inference mode could not be used in training.
        return self.torch.no_grad() if self.sharded_model else self.torch.inference_mode()

    def _run_model(self, function: Callable[[], Any]) -> Any:
        """Call a function that sends tokens through the model, and return its tensors."""
        return self.sharded_model.run(function) if self.sharded_model else function()

    def _at_targets(self, packed: PackedRows, measure: Callable[[Any, Any], Any]) -> Any:
        """Apply a function of hidden states and targets to those of packed rows; the result has a row per target."""
        # Cut outside of the model: what a sharded one returns must not be a view.
        return self._run_model(partial(self._run_at_tiles, packed, measure))[: packed.target_count]

    def _run_at_tiles(self, packed: PackedRows, measure: Callable[[Any, Any], Any]) -> Any:
        """Do the same, with targets that are filled up to whole tiles."""
        torch = self.torch
        count = packed.target_count
        # Pad to whole tiles, so that there are few shapes; the padding reads any place and has no target.
        target_positions = np.pad(np.flatnonzero(packed.targets != IGNORED_LABEL), (0, -count % TILE_TOKENS))
        targets = packed.targets[target_positions]
        targets[count:] = IGNORED_LABEL
        with self.autocast():
            # Logits are computed only for target tokens: the same as a weight of 0 for the others, and cheaper.
            states = self._hidden_states(self._forward_path, self._body, packed, target_positions)
            # In slices: those that fit into a cache are twice as fast on a CPU as all logits at once, with a fraction
            # of the memory. (torch's linear_cross_entropy was 2 to 4 times slower there.)
            size = LOGIT_SLICE_TOKENS if self.device == "cpu" else GPU_SLICE_LOGITS // self.vocab_size
            size = max(LOGIT_SLICE_TOKENS, size)
            parts = (part.split(size) for part in (states, self._to_device(targets)))
            if len(target_positions) * self.vocab_size > MAX_STORED_LOGITS and torch.is_grad_enabled():
                measure = partial(torch.utils.checkpoint.checkpoint, measure, use_reentrant=False)
            return torch.cat([measure(*part) for part in zip(*parts, strict=True)])

    def peak_bytes(self, rows: Sequence[NDArray[Any]], *, is_training: bool, stand_for: int = 0) -> int:
        """The most bytes that rows need at once on their way through the model, without weights and logits.

        The rows may stand for longer ones, whose attention may be another one. With `is_training`, they go forward and
        backward, and gradients of weights are given up as soon as they are complete. Random generators stay as they
        are, and nothing is compiled.
        """
        from git_starcoder.model.live_bytes import LiveBytes

        torch, packed = self.torch, pack_rows(rows)
        every = np.arange(len(packed.tokens))
        weights = list(self.trainable_weights().values()) if is_training else []
        meter = LiveBytes()

        def give_up(weight: Any) -> None:
            weight.grad = None

        def run() -> Any:
            return self._hidden_states(self._forward_path, self._forward_path.body, packed, every)

        hooks = [weight.register_post_accumulate_grad_hook(give_up) for weight in weights]
        self._measured_length = stand_for
        is_path_of_whole = isinstance(self._forward_path.head, torch.nn.Identity)
        try:
            # In training mode, because dropout stores its mask.
            self.model.train(is_training)
            without = nullcontext() if is_training else self.without_gradient()
            with torch.random.fork_rng(self._generators()), without, meter, self.autocast():
                states = self._run_model(run)
                if is_training:
                    states.backward(torch.zeros_like(states))
                del states
        finally:
            self._measured_length = 0
            for hook in hooks:
                hook.remove()
            self.model.zero_grad(set_to_none=True)
        if self.sharded_model:
            self.sharded_model.reshard()
        logits = 2 * FLOAT_BYTES * len(every) * self.vocab_size if is_path_of_whole else 0
        return max(0, meter.peak - logits)

    def _generators(self) -> list[int]:
        """The GPUs whose random generators this process uses, for `fork_rng`."""
        return [self.torch.cuda.current_device()] if self.device == "cuda" else []

    def _cross_entropy(self, states: Any, targets: Any) -> Any:
        logits = self._forward_path.head(states)
        if self.device == "cpu" and self.torch.is_grad_enabled():
            from git_starcoder.model.cpu_operations import CrossEntropy

            cross_entropy: Any = CrossEntropy
            return cross_entropy.apply(logits, targets)
        return self.torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")

    def _view_predictions(self, states: Any, targets: Any) -> Any:
        """For each target the bits it needs, the entropy of its prediction in bits, and the largest probability."""
        logits = self._forward_path.head(states).float().log_softmax(-1) / log(2)
        bits = -logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
        probabilities = logits.exp2()
        entropy = -(probabilities * logits).nan_to_num().sum(-1)
        return self.torch.stack((bits, entropy, probabilities.amax(-1)), 1)

    def _hidden_states(self, path: ForwardPath, body: Any, packed: PackedRows, wanted: Integers) -> Any:
        """The hidden states at the wanted positions of packed rows, shape (positions, width)."""
        if path.is_packed:
            has_last_position = not getattr(self.model.config.get_text_config(), "rope_parameters", None)
            if has_last_position and packed.positions.max(initial=0) >= self.positions:
                raise self._too_long_error(int(packed.positions.max()) + 1)
            padding = packed.padding_count if self.is_compiled else None
            options: dict[str, Any] = {"padding": padding, "has_kernel": self._has_kernel}
            segments = build_segments(self.torch, packed.segment_bounds, self.device, **options)
            segments = segments._replace(stand_for=self._measured_length)
            tokens, positions = self._to_device(packed.tokens)[None], self._to_device(packed.positions)[None]
            # What is computed again must not be kept in another form: rounded weights, which each layer needs once.
            rounding = self.autocast(keeps_weights=False) if self._recomputes_now else nullcontext()
            self._use_attention(ATTENTION_NAME)
            with rounding:
                output = body(input_ids=tokens, position_ids=positions, use_cache=False, segments=segments)
            return output[0][0][self._to_device(wanted)]
        self.use_own_attention()
        bounds = packed.segment_bounds
        lengths = np.diff(bounds).astype(np.int64)
        if lengths.max(initial=0) > self.positions:
            raise self._too_long_error(int(lengths.max()))
        segment_of_place = np.searchsorted(bounds, wanted, side="right") - 1
        parts: list[Any] = []
        order: list[Integers] = []
        for batch in padded_batches(lengths):
            # Padding is on the right, where causal attention does not look, so no mask is needed.
            padded = np.zeros((len(batch), int(lengths[batch].max())), dtype=np.int64)
            for line, segment in enumerate(batch):
                padded[line, : lengths[segment]] = packed.tokens[bounds[segment] : bounds[segment + 1]]
            output = body(input_ids=self._to_device(padded), use_cache=False)[0]
            line_of_segment = np.full(len(lengths), -1)
            line_of_segment[batch] = np.arange(len(batch))
            found = np.flatnonzero(line_of_segment[segment_of_place] >= 0)
            order.append(found)
            lines = line_of_segment[segment_of_place[found]]
            columns = wanted[found] - bounds[segment_of_place[found]]
            parts.append(output[self._to_device(lines), self._to_device(columns)])
        return self.torch.cat(parts)[self._to_device(np.argsort(np.concatenate(order)))]

    @property
    def _attention_name(self) -> str:
        return getattr(self.model.config, "_attn_implementation")  # noqa: B009 - is private to transformers

    def _use_attention(self, name: str) -> None:
        """Let the model use an attention function that transformers knows, from now on: a change takes time."""
        if self._attention_name != name:
            self.model.set_attn_implementation(name)
            if self._attention_name != name:
                raise NotImplementedError(name)

    def use_own_attention(self) -> None:
        """Let the model be called as transformers has it, without segments."""
        if self._attention_name == ATTENTION_NAME:
            self._use_attention(self._own_attention)

    def _too_long_error(self, length: int) -> UsageError:
        what = f"{self.model.config.model_type} reads {self.positions:,} tokens at once, and not {length:,}"
        return UsageError(what, where="attend", hint="attend: row; positions restart with each row then")

    def _choose_forward_path(self) -> ForwardPath:
        """Find the fastest path on which packed rows give the logits that they give alone, by trying short rows."""
        model, kind = self.model, self.model.config.model_type
        rows = [np.arange(count) * 7 % self.vocab_size for count in (10, 6)]
        rows.append(rows[0][:4])  # the beginning of the first row: a causal model gives it the same logits
        was_training = model.training
        self.use_own_attention()
        model.eval()
        # In float32 where that is possible: frozen weights may be in bfloat16 only, and sharded weights of layers are
        # gathered in the precision of training.
        is_rounded = self.sharded_model is not None or any(
            weight.dtype != self.torch.float32 for weight in model.parameters()
        )
        precision = self.precision if is_rounded else "float32"
        tolerance = MAX_LOGIT_DIFFERENCE[precision]

        def is_equal(one: Any, other: Any) -> bool:
            return float((one.float() - other.float()).square().mean().sqrt()) <= tolerance * deviation

        with self.without_gradient(), self._exact_products(), self.autocast() if is_rounded else nullcontext():
            try:
                inputs = [{"input_ids": self._to_device(row[None, :-1]), "use_cache": False} for row in rows]
                logits = [self._run_model(lambda each=each: model(**each)[0][0]) for each in inputs]
            except Exception as error:  # an architecture may raise anything if its configuration makes no sense
                wrong = UsageError(f"{kind} cannot be run as configured", where=summarize_error(error))
                raise as_machine_error(error) or wrong from error
            expected = self.torch.cat(logits)
            deviation = float(expected.float().std())
            if not isfinite(deviation):
                raise UsageError(f"the weights of the {kind} are not numbers", where="base")
            if not is_equal(logits[0][:3], logits[2]):
                raise UsageError(f"{kind} is not a causal model: its predictions depend on later tokens", where="base")
            decoder = ForwardPath(model.get_decoder(), model.get_output_embeddings())
            whole = ForwardPath(model, self.torch.nn.Identity())
            paths = [decoder._replace(is_packed=True), whole._replace(is_packed=True), decoder, whole]
            packed = pack_rows(rows)
            path = next((path for path in paths if self._matches_rows_alone(path, packed, expected, is_equal)), None)
        model.train(was_training)
        self.use_own_attention()
        if path is None:
            raise UsageError(f"{kind} gives other logits for rows in a batch than for each row alone", where="base")
        if not path.is_packed:
            self.notes.append(f"{kind} cannot attend within packed rows: rows are padded, which is slower")
        return path

    def _matches_rows_alone(
        self, path: ForwardPath, packed: PackedRows, expected: Any, is_equal: Callable[[Any, Any], bool]
    ) -> bool:
        """Whether the logits of packed rows are those of each row alone."""
        try:
            every = np.arange(len(packed.tokens))
            logits = self._run_model(lambda: path.head(self._hidden_states(path, path.body, packed, every)))
        except Exception as error:  # an architecture may raise anything for arguments that it does not know
            if limit := as_machine_error(error):
                raise limit from error
            return False
        return logits.shape == expected.shape and is_equal(logits, expected)

    @contextmanager
    def _exact_products(self) -> Generator[None]:
        """Let CUDA multiply in full float32 until the context ends, not in TF32."""
        before = self.torch.get_float32_matmul_precision()
        self.torch.set_float32_matmul_precision("highest")
        try:
            yield
        finally:
            self.torch.set_float32_matmul_precision(before)

    def _to_device(self, array: NDArray[Any]) -> Any:
        tensor = self.torch.from_numpy(np.ascontiguousarray(array, dtype=np.int64))
        if self.device == "cuda":  # without waiting for the device
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def token_bits(self, windows: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """Compute the bits of every token but the first of each window that fits into the context."""
        return (nats / np.float32(np.log(2)) for nats in self._measure_windows(windows, self._cross_entropy))

    def _measure_windows(
        self, windows: Sequence[NDArray[Any]], measure: Callable[[Any, Any], Any]
    ) -> list[NDArray[np.float32]]:
        """Apply a function of hidden states and targets to every token but the first of each window."""
        found: list[NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)] * len(windows)
        indices = [index for index, window in enumerate(windows) if len(window) > 1]
        as_read = [self.add_first_token(window) for window in windows]
        lengths = np.array([len(as_read[index]) - 1 for index in indices], dtype=np.int64)
        multiple = INFERENCE_BATCH_TOKENS if self.has_fixed_shapes else TILE_TOKENS
        self.model.eval()
        with self.without_gradient():
            begin = 0
            while begin < len(indices):
                fitting = np.searchsorted(np.cumsum(lengths[begin:]), INFERENCE_BATCH_TOKENS, side="right")
                end = begin + max(1, int(fitting))
                packed = pack_rows([as_read[index] for index in indices[begin:end]], multiple=multiple)
                values = self._at_targets(packed, measure).float().cpu().numpy()
                rows = np.split(values, np.cumsum(lengths[begin:end])[:-1])
                for index, row in zip(indices[begin:end], rows, strict=True):
                    found[index] = row[len(row) + 1 - len(windows[index]) :]
                begin = end
        return found

    def sequence_bits(
        self,
        sequences: Sequence[NDArray[Any]],
        first_scored: Sequence[int],
        *,
        headers: Sequence[NDArray[Any]] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:
        """Compute the bits of sequences of any length. See `protocols.LanguageModel`."""
        windows = scored_windows(sequences, first_scored, headers, self.context, self.end_token, parts)
        return windows.join(self.token_bits(windows.tokens))

    def sequence_views(
        self, sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], headers: Sequence[NDArray[Any]]
    ) -> list[NDArray[np.float32]]:
        """Describe the prediction of each token that `sequence_bits` scores: shape (tokens, 3) for each sequence.

        The columns are the bits that the token needs, the entropy of the prediction in bits, and its largest
        probability.
        """
        windows = scored_windows(sequences, first_scored, headers, self.context, self.end_token, parts=4)
        return windows.join(self._measure_windows(windows.tokens, self._view_predictions))

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_], **options: Any
    ) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`; `options` go to `generation.generate`."""
        return generation.generate(self, prompts, limit, stop=stop, **options)
