"""A small network of the kind that we train, run by numpy alone.

Importing torch and transformers takes four seconds and 250 MB. Most of a pass of one token through a network of five
million weights is what their modules do around the products of matrices. An editor waits for both. Here a layer is some
thirty operations of numpy, and the predictions are those of transformers but for rounding.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

import numpy as np

from git_starcoder.machine import limit_library_threads
from git_starcoder.model import generation
from git_starcoder.model.scored_windows import scored_windows
from git_starcoder.model.weight_files import MODEL_CONFIG, WEIGHT_FILES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.text.tokenizer import Tokenizer

    Floats = NDArray[Any]
    """An array of float32."""

KIND = "qwen3"
"""The architecture of the networks that `train` makes from scratch."""
MAX_WEIGHTS = 64_000_000
"""In larger networks, the products take most of the time, and torch may have faster ones."""
NUMBER_TYPES = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
"""The number types of safetensors that are read. Numpy has no bfloat16: it is the upper half of a float32."""
BLOCK_TOKENS = 128
"""Tokens of a prompt that a thread computes at once. What it needs for them fits into a processor's cache, and a block
needs no scores of the tokens after it."""
LATER = np.triu(np.full((BLOCK_TOKENS, BLOCK_TOKENS), -np.inf, dtype=np.float32), 1)
"""What is added to the scores of the tokens of a block: a token does not see those after it."""


class _Layer(NamedTuple):
    """The weights of a layer, shape (inputs, outputs): products of the same input are one product."""

    first_norm: Floats
    query_key_value: Floats
    query_norm: Floats
    key_norm: Floats
    output: Floats
    second_norm: Floats
    gate_up: Floats
    down: Floats


class LeanNetwork:
    """A network on the CPU, in float32, that reads and writes. It implements the protocol `LanguageModel`."""

    kind = KIND
    precision = "float32"

    def __init__(self, weights: dict[str, Floats], config: dict[str, Any], tokenizer: Tokenizer) -> None:
        """Arrange weights for passes of few tokens.

        Raises:
            KeyError, TypeError, ValueError: The weights do not belong to the configuration.
        """
        from threadpoolctl import ThreadpoolController

        self._thread_pools: Any = ThreadpoolController()
        """Those of the library that multiplies matrices for numpy."""
        self._workers = ThreadPoolExecutor(limit_library_threads(), "network")
        self.parameter_count = sum(weight.size for weight in weights.values())
        self.heads, self.shared_heads = int(config["num_attention_heads"]), int(config["num_key_value_heads"])
        self.width = int(config["head_dim"])
        self.epsilon = np.float32(config["rms_norm_eps"])
        self.vocab_size = int(config["vocab_size"])
        self.context = int(config["max_position_embeddings"])
        self.end_token = tokenizer.end_id
        padding = range(tokenizer.vocab_size, self.vocab_size)
        never_written = {tokenizer.pad_id, *(tokenizer.fim_ids or ())} - {tokenizer.end_id}
        self.suppressed_tokens = [*sorted(never_written), *padding]
        """Tokens that are never generated. See `Network.suppressed_tokens`."""
        hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        queries, keys = self.heads * self.width, self.shared_heads * self.width
        left = dict(weights)

        def take(name: str, *shape: int) -> Floats:
            weight = left.pop(f"model.{name}.weight")
            if weight.shape != shape:
                raise ValueError(f"{name} has the shape {weight.shape}")
            return np.ascontiguousarray(weight.T)

        def take_layer(name: str) -> _Layer:
            own, mlp = f"{name}.self_attn", f"{name}.mlp"
            parts = (("q_proj", queries), ("k_proj", keys), ("v_proj", keys))
            return _Layer(
                take(f"{name}.input_layernorm", hidden),
                np.concatenate([take(f"{own}.{part}", size, hidden) for part, size in parts], 1),
                take(f"{own}.q_norm", self.width),
                take(f"{own}.k_norm", self.width),
                take(f"{own}.o_proj", hidden, queries),
                take(f"{name}.post_attention_layernorm", hidden),
                np.concatenate([take(f"{mlp}.{part}", inner, hidden) for part in ("gate_proj", "up_proj")], 1),
                take(f"{mlp}.down_proj", hidden, inner),
            )

        self.layers = [take_layer(f"layers.{index}") for index in range(int(config["num_hidden_layers"]))]
        self.embedding = take("embed_tokens", self.vocab_size, hidden)
        """Shape (width, vocabulary)."""
        self.head = self.embedding
        if not config["tie_word_embeddings"]:
            left["model.head.weight"] = left.pop("lm_head.weight")
            self.head = take("head", self.vocab_size, hidden)
        self.last_norm = take("norm", hidden)
        if left:
            raise ValueError(f"unknown weights, such as {min(left)}")
        if not all(np.isfinite(weight).all() for weight in weights.values()):
            raise ValueError("some weights are not numbers")
        # In float32, as in transformers, and of shape (tokens, 1, half of the width): the same for all heads.
        exponents = np.arange(0, self.width, 2, dtype=np.float32) / np.float32(self.width)
        rates = 1 / np.float32(config["rope_parameters"]["rope_theta"]) ** exponents
        angles = (np.arange(self.context, dtype=np.float32)[:, None] * rates)[:, None]
        self.cosine, self.sine = np.cos(angles), np.sin(angles)

    @classmethod
    def open(cls, folder: Path, tokenizer: Tokenizer) -> Self | None:
        """Read the network in a folder. None if it is of another kind, too large to gain anything, or damaged.

        What is wrong with a damaged one, `weight_files.load_stored_weights` can say.
        """
        try:
            config = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
            file = folder / WEIGHT_FILES[0]
            is_read_alone = tokenizer.begin_id is None and tokenizer.vocab_size <= config["vocab_size"]
            if not (is_read_alone and _is_plain(config) and file.is_file()):
                return None
            weights = _read_weights(file)
            return None if weights is None else cls(weights, config, tokenizer)
        except (OSError, ImportError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def add_first_token(self, tokens: NDArray[Any]) -> NDArray[Any]:
        """What the network reads in place of a text: the same, because it knows no token for a beginning."""
        return tokens

    def without_gradient(self) -> AbstractContextManager[Any]:
        """A context for reading. See `Network.without_gradient`; here nothing is to be done."""
        return nullcontext()

    def limit_threads(self, count: int) -> AbstractContextManager[Any]:  # noqa: ARG002
        """A context for passes of few tokens. See `Network.limit_threads`; here they always use one thread."""
        return nullcontext()

    def one_product_at_once(self) -> AbstractContextManager[Any]:
        """A context in which a product of matrices uses one thread.

        Threads that divide each product wait for each other some thirty times a layer, and spin meanwhile: on a busy
        machine, two are slower than one. Threads that compute blocks of tokens wait twice a layer, and sleep.
        """
        return self._thread_pools.limit(limits=1, user_api="blas")

    def map(self, function: Callable[..., Floats], *arguments: Sequence[Any]) -> list[Floats]:
        """Call a function for each block of tokens, on all processors."""
        calls = (self._workers.map if len(arguments[0]) > 1 else map)(function, *arguments)
        return list(calls)

    def open_passes(self) -> LeanPasses:
        """Begin a text."""
        return LeanPasses(self)

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_], **options: Any
    ) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`; `options` go to `generation.make_writers`."""
        writers = generation.make_writers(self, prompts, limit, stop=stop, **options)
        for writer in writers:
            generation.write_alone(self, writer)
        return [np.array(writer.written, dtype=np.int32) for writer in writers]

    def sequence_bits(
        self, sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], *, headers: Sequence[NDArray[Any]] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences of any length. See `protocols.LanguageModel`."""
        windows = scored_windows(sequences, first_scored, headers, self.context, self.end_token, parts)
        return windows.join(-predicted[:, 0] for predicted in self._predictions(windows.tokens))

    def sequence_views(
        self, sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], headers: Sequence[NDArray[Any]]
    ) -> list[NDArray[np.float32]]:
        """Describe the prediction of each scored token. See `Network.sequence_views`."""
        windows = scored_windows(sequences, first_scored, headers, self.context, self.end_token, parts=4)

        def view(logs: Floats) -> Floats:
            return np.stack((-logs[:, 0], -(np.exp2(logs[:, 1:]) * logs[:, 1:]).sum(1), np.exp2(logs[:, 1:].max(1))), 1)

        return windows.join(view(logs) for logs in self._predictions(windows.tokens))

    def _predictions(self, windows: Sequence[NDArray[Any]]) -> Iterator[Floats]:
        """For each window the logarithms (base 2) of predictions, shape (tokens - 1, 1 + vocabulary).

        The first column is that of the token that follows.
        """
        for window in windows:
            passes = LeanPasses(self)
            logits = passes.logits(window[:-1].tolist()) if len(window) > 1 else np.zeros((0, self.vocab_size), "f4")
            largest = logits.max(1, keepdims=True, initial=-np.inf)
            logs = (logits - largest - np.log(np.exp(logits - largest).sum(1, keepdims=True))) / np.float32(np.log(2))
            yield np.concatenate((logs[np.arange(len(logs)), window[1:]][:, None], logs), 1)


class LeanPasses:
    """Passes of one text. It implements the protocol `generation.Passes`."""

    can_forget = True

    def __init__(self, lean: LeanNetwork) -> None:
        self._lean = lean
        self._tokens: list[int] = []
        layers, heads, width = len(lean.layers), lean.shared_heads, lean.width
        self._keys: Floats = np.empty((layers, heads, 1, width, 0), dtype=np.float32)
        """Shape (layers, heads, 1, width, room); the first `len(self._tokens)` places are used."""
        self._values: Floats = np.empty((layers, heads, 1, 0, width), dtype=np.float32)
        """Shape (layers, heads, 1, room, width)."""

    def tokens(self) -> NDArray[np.int64]:
        """Return the tokens that were read."""
        return np.array(self._tokens, dtype=np.int64)

    def forget(self, count: int) -> None:
        """Take back the last tokens."""
        del self._tokens[len(self._tokens) - count :]

    def read(self, texts: Sequence[Sequence[int]], *, is_prompt: bool = False) -> Floats:
        """Read the next tokens of one text. See `NetworkPasses.read`."""
        (text,) = texts
        logits = self.logits(list(text), is_prompt=is_prompt)
        logits[:, self._lean.suppressed_tokens] = -np.inf
        logits -= logits.max(1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(1, keepdims=True)
        return logits[None]

    def logits(self, text: Sequence[int], *, is_prompt: bool = False) -> Floats:
        """Read the next tokens, and return what is predicted after each of them, or only after the last one."""
        lean, start = self._lean, len(self._tokens)
        end = start + len(text)
        if end > lean.context:
            raise ValueError(f"the network reads {lean.context} tokens at once, and not {end}")
        self._make_room(start, end)
        firsts = list(range(start, end, BLOCK_TOKENS))
        states = [lean.embedding[:, text[first - start :][:BLOCK_TOKENS]].T for first in firsts]
        with lean.one_product_at_once():
            for index, layer in enumerate(lean.layers):
                # All keys and values of a layer must be there before a token attends to them.
                queries = lean.map(partial(self._project, index, layer), firsts, states)
                if is_prompt and index == len(lean.layers) - 1:  # of the other tokens, the rest is of no use
                    firsts, queries, states = [end - 1], [queries[-1][..., -1:, :]], [states[-1][-1:]]
                states = lean.map(partial(self._attend, index, layer), firsts, queries, states)
            self._tokens += text
            return np.concatenate([_norm(block, lean.last_norm, lean.epsilon) @ lean.head for block in states])

    def _project(self, index: int, layer: _Layer, first: int, states: Floats) -> Floats:
        """Store the keys and values of a block of tokens, and return its queries.

        Several heads may share keys and values: queries have the shape (shared heads, heads of each, tokens, width).
        """
        lean, count = self._lean, len(states)
        heads, shared, width = lean.heads, lean.shared_heads, lean.width
        last = first + count
        mixed = (_norm(states, layer.first_norm, lean.epsilon) @ layer.query_key_value).reshape(count, -1, width)
        rotation = lean.cosine[first:last], lean.sine[first:last]
        query = _rotate(_norm(mixed[:, :heads], layer.query_norm, lean.epsilon), *rotation)
        key = _rotate(_norm(mixed[:, heads : heads + shared], layer.key_norm, lean.epsilon), *rotation)
        self._keys[index, :, 0, :, first:last] = key.transpose(1, 2, 0)
        self._values[index, :, 0, first:last] = mixed[:, heads + shared :].transpose(1, 0, 2)
        query *= np.float32(width**-0.5)
        return np.ascontiguousarray(query.reshape(count, shared, heads // shared, width).transpose(1, 2, 0, 3))

    def _attend(self, index: int, layer: _Layer, first: int, query: Floats, states: Floats) -> Floats:
        """The states of a block of tokens after a layer."""
        count = len(states)
        last = first + count
        scores = query @ self._keys[index, ..., :last]
        if count > 1:
            scores[..., first:] += LATER[:count, :count]
        scores -= scores.max(-1, keepdims=True)
        np.exp(scores, out=scores)
        attended = scores @ self._values[index, :, :, :last]
        attended /= scores.sum(-1, keepdims=True)
        states = states + attended.transpose(2, 0, 1, 3).reshape(count, -1) @ layer.output
        gate, up = np.split(_norm(states, layer.second_norm, self._lean.epsilon) @ layer.gate_up, 2, 1)
        return states + (gate / (1 + np.exp(-gate)) * up) @ layer.down  # SwiGLU (Shazeer, 2020)

    def _make_room(self, used: int, needed: int) -> None:
        """Let the room grow by a quarter, so that a text that is written token by token is copied rarely."""
        if needed <= self._values.shape[-2]:
            return
        room = min(needed * 5 // 4, self._lean.context)
        keys = np.empty((*self._keys.shape[:-1], room), dtype=np.float32)
        values = np.empty((*self._values.shape[:-2], room, self._lean.width), dtype=np.float32)
        keys[..., :used], values[..., :used, :] = self._keys[..., :used], self._values[..., :used, :]
        self._keys, self._values = keys, values


def _norm(states: Floats, weight: Floats, epsilon: np.float32) -> Floats:
    """The root mean square norm (Zhang and Sennrich, 2019) of the last axis."""
    squares: Floats = np.einsum("...i,...i->...", states, states)[..., None]
    return states * (1 / np.sqrt(squares / np.float32(states.shape[-1]) + epsilon)) * weight


def _rotate(numbers: Floats, cosine: Floats, sine: Floats) -> Floats:
    """Rotary positions (Su et al., 2021) of numbers of shape (tokens, heads, width)."""
    first, second = np.split(numbers, 2, -1)
    return np.concatenate((first * cosine - second * sine, second * cosine + first * sine), -1)


def _is_plain(config: dict[str, Any]) -> bool:
    """Whether a configuration asks for nothing that `LeanPasses` does not do."""
    return (
        config["model_type"] == KIND
        and config["hidden_act"] == "silu"
        and not config["attention_bias"]
        and set(config["layer_types"]) == {"full_attention"}
        and config["rope_parameters"].get("rope_type", "default") == "default"
        and "quantization_config" not in config
    )


def _read_weights(file: Path) -> dict[str, Floats] | None:
    """The weights of a file, in float32; None if they are too many, or of another number type."""
    import safetensors

    if file.stat().st_size > MAX_WEIGHTS * 5:  # too many, whatever their type, so they need not be read
        return None
    try:
        found: list[tuple[str, dict[str, Any]]] = cast("Any", safetensors).deserialize(file.read_bytes())
    except safetensors.SafetensorError:  # the file is damaged: see `LeanNetwork.open`
        return None
    weights: dict[str, Floats] = {}
    if sum(prod(tensor["shape"]) for _, tensor in found) > MAX_WEIGHTS:
        return None
    for name, tensor in found:
        if tensor["dtype"] not in NUMBER_TYPES:
            return None
        numbers = np.frombuffer(tensor["data"], dtype=NUMBER_TYPES[tensor["dtype"]])
        if tensor["dtype"] == "BF16":
            numbers = (numbers.astype("<u4") << 16).view("<f4")
        weights[name] = numbers.astype(np.float32).reshape(tensor["shape"])
    return weights
