"""The architecture of new models, their sizes, and networks with fresh weights."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from math import log
from typing import TYPE_CHECKING, Any

from git_starcoder import registry
from git_starcoder.errors import UsageError
from git_starcoder.model.config import DEFAULT_ROPE_BASE, named_parameters
from git_starcoder.model.devices import import_libraries
from git_starcoder.model.frozen_weights import round_frozen_weights
from git_starcoder.model.loading import load_weights
from git_starcoder.model.network import DIMENSION_MULTIPLE, Network
from git_starcoder.user_paths import utf8_path

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from git_starcoder.text.tokenizer import Tokenizer

MAX_WIDTH = 16_384
"""Largest width of a model from scratch."""
HEAD_WIDTH = 64
"""Width of an attention head."""


def layer_dimensions(width: int, depth: int) -> dict[str, int]:
    """Configuration of `depth` layers: attention heads of 64, and a feed-forward width of 11/4 of the width."""
    return {
        "hidden_size": width,
        "intermediate_size": -(-width * 11 // 4 // DIMENSION_MULTIPLE) * DIMENSION_MULTIPLE,
        "num_hidden_layers": depth,
        "num_attention_heads": width // HEAD_WIDTH,
    }


MODEL_SIZES = {
    "tiny": layer_dimensions(256, 4),
    "small": layer_dimensions(512, 8),
    "medium": layer_dimensions(768, 12),
    "large": layer_dimensions(1152, 21),
    "huge": layer_dimensions(1664, 29),
}
"""With a vocabulary of 4,096 they have 4M, 28M, 90M, 350M and 1B parameters. `tiny` learns most in minutes on a CPU;
the others want a GPU."""


def dimensions_for_size(size: str, vocab_size: int) -> dict[str, int]:
    """The configuration of a size: one of `MODEL_SIZES`, or the best one for a number of parameters.

    For each width in steps of 128, the depth that comes nearest to the number is a candidate. The best candidate has a
    ratio of width to depth nearest to 64; the loss depends on that ratio only slightly (Kaplan et al., 2020).
    """
    if size in MODEL_SIZES:
        return MODEL_SIZES[size]
    parameters = named_parameters(size)
    if parameters is None:
        hint = registry.suggest(size, list(MODEL_SIZES)) or "a number of parameters such as 124M works, too"
        raise UsageError(f"size '{size}' is not known", where="--size", hint=hint)
    candidates: list[tuple[float, int, int]] = []
    for width in range(128, MAX_WIDTH + 1, 128):
        layer = 4 * width**2 + 3 * width * layer_dimensions(width, 1)["intermediate_size"] + 2 * width
        depth = round((parameters - (vocab_size + 1) * width) / layer)
        if depth >= 1:
            candidates.append((abs(log(depth * HEAD_WIDTH / width)), width, depth))
    if not candidates:
        least = sum(layer_dimensions(128, 1).values()) * 128 + vocab_size * 128
        hint = f"a vocabulary of {vocab_size:,} entries and one layer need about {least / 1e6:.1f}M"
        raise UsageError(f"there is no model of {size} parameters", where="--size", hint=hint)
    _, width, depth = min(candidates)
    return layer_dimensions(width, depth)


def new_network(
    size: str,
    tokenizer: Tokenizer,
    context: int,
    seed: int,
    dropout: float = 0.0,
    rope_base: float = DEFAULT_ROPE_BASE,
    **options: Any,
) -> Network:
    """An untrained decoder of the Qwen3 architecture (Yang et al., 2025).

    It has rotary positions, SwiGLU, tied embeddings, no biases, and normalised queries and keys (Dehghani et al.,
    2023), which keep attention stable at high learning rates.

    `options` go to `Network`.
    """
    return Network(new_model(size, tokenizer, context, seed, dropout, rope_base), tokenizer, **options)


def new_model(size: str, tokenizer: Tokenizer, context: int, seed: int, dropout: float, rope_base: float) -> Any:
    """The model of transformers of an untrained network. See `new_network`."""
    _, transformers = import_libraries()
    # The added entries are never a target and never generated, so they only cost their share of memory.
    vocab_size = -(-tokenizer.vocab_size // DIMENSION_MULTIPLE) * DIMENSION_MULTIPLE
    dimensions = dimensions_for_size(size, vocab_size)
    config = transformers.Qwen3Config(
        **dimensions,
        num_key_value_heads=dimensions["num_attention_heads"],
        head_dim=dimensions["hidden_size"] // dimensions["num_attention_heads"],
        vocab_size=vocab_size,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": rope_base},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.end_id,
        eos_token_id=tokenizer.end_id,
        pad_token_id=tokenizer.pad_id,
    )
    return _model_from_config(config, seed, dropout)


def _model_from_config(config: Any, seed: int, dropout: float = 0.0) -> Any:
    torch, transformers = import_libraries()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    if dropout:
        add_residual_dropout(model, dropout)
    return model


def add_residual_dropout(model: Any, share: float) -> None:
    """Drop this share of what attention and feed-forward layers of a Llama add to the residual stream, in training.

    Transformers has dropout of attention weights only for a Llama, which the fast kernels of attention do not offer.
    """
    torch, _ = import_libraries()

    def drop(module: Any, _: Any, output: Any) -> Any:
        return torch.nn.functional.dropout(output, share, module.training)

    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_hook(drop)
        layer.mlp.down_proj.register_forward_hook(drop)


class UntrainedNetwork:
    """The architecture of a network with fresh weights. It implements the protocol `LanguageModel`.

    While it is used, the weights of the network make room for the fresh ones: a device may have space for one model
    only. Afterwards they are read from the folder of the model again.
    """

    def __init__(self, network: Network, folder: Path, seed: int) -> None:
        self.network = network
        self.context = network.context
        self._folder = folder
        self._seed = seed

    def sequence_bits(
        self, sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], *,
        headers: Sequence[NDArray[Any]] = (), parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences of any length. See `protocols.LanguageModel`."""
        with self._fresh_weights():
            return self.network.sequence_bits(sequences, first_scored, headers=headers, parts=parts)

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_]
    ) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`."""
        with self._fresh_weights():
            return self.network.generate(prompts, limit, stop=stop)

    @contextmanager
    def _fresh_weights(self) -> Generator[None]:
        _, transformers = import_libraries()
        with utf8_path(self._folder) as place:
            config = transformers.AutoConfig.from_pretrained(place, local_files_only=True)
        self._replace_weights(partial(_model_from_config, config, self._seed))
        try:
            yield
        finally:
            self._replace_weights(partial(load_weights, self._folder, self.network.precision))

    def _replace_weights(self, make_model: Callable[[], Any]) -> None:
        """Give the network the weights of another model, which is made when its own are gone."""
        network = self.network
        weights = dict(network.model.named_parameters())
        for weight in weights.values():
            weight.data = network.torch.empty(0)
        model = make_model().requires_grad_(requires_grad=False)
        round_frozen_weights(network.torch, model, network.precision)
        for name, weight in model.named_parameters():
            weights[name].data = weight.data.to(network.device)
