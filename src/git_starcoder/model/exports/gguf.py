"""A file for llama.cpp and the programs built on it: weights, tokenizer and settings in one.

The names of the weights are those of llama.cpp, from the tables of the library gguf. Whatever llama.cpp would compute
otherwise than transformers is refused: a model that only seems to work is worse than none.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError, MissingExtraError, UsageError
from git_starcoder.model.gguf_tokenizer import add_tokenizer, find_pre_tokenizer
from git_starcoder.model.loading import load_weights
from git_starcoder.model.weight_files import MODEL_CONFIG
from git_starcoder.text.tokenizer import load_tokenizer, summarize_error

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

NUMBER_TYPES = ("f16", "q8_0")
"""`f16` has 16 bits for each weight; `q8_0` has 8 bits, and a common factor for each 32 weights."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""The model types of transformers that can be exported. llama.cpp calls them the same."""
ROTATION_TYPES = {"llama": ("default", "linear", "llama3"), "qwen2": ("default",), "qwen3": ("default",)}
"""The types of rotary positions that llama.cpp computes as transformers does, for each architecture."""
QUANTIZATION_BLOCK = 32
"""Weights of a row that share a factor in `q8_0`. A matrix whose rows are no multiple of it is written as `f16`."""


def write(model_folder: Path, folder: Path, number_type: str) -> list[str]:
    """Write `model-TYPE.gguf`, and return notes about the tokenizer.

    Raises:
        UsageError: llama.cpp would compute something else than transformers.
        DatasetError: The model is damaged.
        MissingExtraError: gguf, torch or transformers is not installed.
    """
    try:
        library: Any = import_module("gguf")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "gguf", "export") from error
    architecture = _architecture(model_folder)
    tokenizer = load_tokenizer(model_folder)
    pre_tokenizer = find_pre_tokenizer(tokenizer)
    model = load_weights(model_folder)
    _require_expressible(model.config, model_folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        what = (
            f"'{model_folder}' is damaged: {tokenizer.vocab_size:,} tokens and {model.config.vocab_size:,} embeddings"
        )
        raise DatasetError(what, where=str(model_folder))
    writer = library.GGUFWriter(folder / file_name(number_type), architecture)
    _add_settings(writer, model.config)
    writer.add_file_type(library.LlamaFileType[f"MOSTLY_{number_type.upper()}"])
    writer.add_quantization_version(library.GGML_QUANT_VERSION)
    notes = add_tokenizer(writer, library, tokenizer, pre_tokenizer, model.config.vocab_size)
    for name, weights in _named_weights(library, model):
        _add_weights(writer, library, name, weights, number_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return notes


def file_name(number_type: str) -> str:
    """The name of the file with weights of a type."""
    return f"model-{number_type}.gguf"


def _architecture(model_folder: Path) -> str:
    """The type of a model, which must be one of `ARCHITECTURES`. It is read before the weights, which take longer."""
    try:
        kind = json.loads((model_folder / MODEL_CONFIG).read_text(encoding="utf-8"))["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"'{model_folder}' is damaged: {summarize_error(error)}", where=MODEL_CONFIG) from error
    if kind not in ARCHITECTURES:
        hint = f"models of the types {', '.join(ARCHITECTURES)} can be exported"
        raise UsageError(f"models of the type {kind} cannot be exported as GGUF", where=str(model_folder), hint=hint)
    return str(kind)


def _require_expressible(config: Any, model_folder: Path) -> None:
    """Raise an error if llama.cpp does not have what a configuration wants."""
    rotation = _rotation_type(config)
    reasons = {
        f"rotary positions of the type {rotation}": rotation not in ROTATION_TYPES[config.model_type],
        "biases of attention": config.model_type == "qwen3" and config.attention_bias,
        f"the activation {config.hidden_act}": config.hidden_act != "silu",
        "attention within a sliding window": "sliding_attention" in (getattr(config, "layer_types", None) or ()),
    }
    if reason := next((reason for reason, applies in reasons.items() if applies), ""):
        what = f"llama.cpp computes no {config.model_type} with {reason}"
        raise UsageError(what, where=str(model_folder / MODEL_CONFIG))


def _rotation_type(config: Any) -> str:
    return str(config.rope_parameters.get("rope_type", "default"))


def _head_width(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _add_settings(writer: Any, config: Any) -> None:
    """Write what llama.cpp must know to compute the network."""
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    for add_width in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add_width(_head_width(config))
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _named_weights(library: Any, model: Any) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the weights of a model by the names of llama.cpp, and what it needs besides."""
    config = model.config
    kind = next(kind for kind, name in library.MODEL_ARCH_NAMES.items() if name == config.model_type)
    names = library.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            raise UsageError(f"llama.cpp has no place for the weights '{name}'", where=config.model_type)
        weights = tensor.numpy()
        # llama.cpp turns neighbours of a Llama's queries and keys together, transformers the halves of a head.
        if config.model_type == "llama" and ".q_proj." in name:
            weights = interleave_halves(weights, config.num_attention_heads)
        if config.model_type == "llama" and ".k_proj." in name:
            weights = interleave_halves(weights, config.num_key_value_heads)
        yield known, weights
    if _rotation_type(config) != "default":
        yield "rope_freqs.weight", _frequency_divisors(config)


def interleave_halves(weights: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Put the two halves of each head's rows alternately: rows a b c d become a c b d.

    >>> interleave_halves(np.array([0, 1, 2, 3, 4, 5, 6, 7], dtype=np.float32), 2).tolist()
    [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]
    """
    halves = weights.reshape(heads, 2, -1, *weights.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(weights.shape)


def _frequency_divisors(config: Any) -> NDArray[np.float32]:
    """By what llama.cpp must divide each frequency of the rotary positions, shape (head width / 2,)."""
    rotary: Any = import_module("transformers.modeling_rope_utils")
    scaled, _ = rotary.ROPE_INIT_FUNCTIONS[_rotation_type(config)](config, "cpu")
    width = _head_width(config)
    plain = config.rope_parameters["rope_theta"] ** (-np.arange(0, width, 2, dtype=np.float64) / width)
    return (plain / scaled.double().numpy()).astype(np.float32)


def _add_weights(writer: Any, library: Any, name: str, weights: NDArray[np.float32], number_type: str) -> None:
    """Add a tensor: matrices with numbers of the type, vectors as they are, because they are small and matter much."""
    if weights.ndim < 2:
        writer.add_tensor(name, weights)
        return
    if not np.abs(weights).max() <= np.finfo(np.float16).max:  # also if one is not a number
        raise UsageError(f"the weights '{name}' do not fit into {number_type}", where="--type")
    if number_type == "q8_0" and weights.shape[-1] % QUANTIZATION_BLOCK == 0:
        kind = library.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, library.quantize(weights, kind), raw_dtype=kind)
    else:
        writer.add_tensor(name, weights.astype(np.float16))
