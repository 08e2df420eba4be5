"""Runs a causal language model of transformers on a device: losses of packed rows, bits per token, and generation."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from functools import partial
from math import isfinite, log
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import UsageError, as_machine_error
from git_starcoder.machine import limit_library_threads, return_freed_memory
from git_starcoder.model import generation
from git_starcoder.model.attention import ATTENTION_NAME, attend, build_segments
from git_starcoder.model.devices import best_device, best_precision, has_varlen_kernel, import_libraries
from git_starcoder.model.frozen_weights import round_frozen_weights
from git_starcoder.model.packing import INFERENCE_BATCH_TOKENS, TILE_TOKENS, pack_rows, padded_batches
from git_starcoder.model.scored_windows import scored_windows
from git_starcoder.row_layout import IGNORED_LABEL
from git_starcoder.text.tokenizer import summarize_error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from git_starcoder.model.corpus import Integers
    from git_starcoder.model.packing import PackedRows
    from git_starcoder.model.sharding import ShardedModel
    from git_starcoder.text.tokenizer import Tokenizer


MAX_COMPILED_GRAPHS = 64
"""Graphs that may be compiled of one network. The batch-size search compiles up to two per size, and torch runs what
exceeds its own limit of 8 without compiling it."""
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
MAX_LOGIT_DIFFERENCE = {"float32": 1e-4, "bfloat16": 0.15, "float16": 0.15}
"""Largest difference of logits (root mean square, in standard deviations of the logits) that is still rounding. In
bfloat16 it is 0.01 for a narrow untrained Qwen2 of 28 layers, and some 0.06 for one of 1.5 billion weights. A row that
sees another differs by 0.28 and more."""
UNLIMITED_CONTEXT_TOKENS = 1 << 20
"""Context of a model whose positions have no end."""


class ForwardPath(NamedTuple):
    """How tokens go through an architecture: `body` gives hidden states, and `head` makes logits of them."""

    body: Any
    head: Any
    is_packed: bool = False
    """Whether the model can attend within the segments of packed rows; else rows are padded to one length."""


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

    @property
    def kind(self) -> str:
        """The architecture, as transformers calls it."""
        return str(self.model.config.model_type)

    @property
    def parameter_count(self) -> int:
        """The number of weights. Tied ones count once."""
        return sum(weight.numel() for weight in self.model.parameters())

    @contextmanager
    def limit_threads(self, count: int) -> Generator[None]:
        """Use at most so many threads of a CPU until the context ends."""
        before = self.torch.get_num_threads()
        self.torch.set_num_threads(min(count, before))
        try:
            yield
        finally:
            self.torch.set_num_threads(before)

    def open_passes(self) -> generation.Passes:
        """Begin a text."""
        return generation.NetworkPasses(self, 1)

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
        """For each target the bits it needs, the entropy of its prediction in bits, and the largest probability.

        Two copies of the logits exist at once, which `peak_memory` counts.
        """
        torch = self.torch
        logs = self._forward_path.head(states).float().log_softmax(-1)
        nats = -logs.gather(1, targets.clamp(min=0)[:, None])[:, 0]
        probabilities = logs.exp_()
        largest = probabilities.amax(-1)
        entropy = torch.special.entr(probabilities).sum(-1)
        return torch.stack((nats / log(2), entropy / log(2), largest), 1)

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
