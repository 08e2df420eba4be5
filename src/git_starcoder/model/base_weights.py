"""Loads the weights of a base, with embeddings for the tokens of a tokenizer."""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import TYPE_CHECKING, Any

from git_starcoder.bases import Base, find_base
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.model.base_model import find_base_folder, read_base_config, require_positions
from git_starcoder.model.devices import best_device, best_precision, import_libraries
from git_starcoder.model.extras import require_libraries
from git_starcoder.model.network import DIMENSION_MULTIPLE, Network
from git_starcoder.model.weight_files import WEIGHT_FILES, load_stored_weights
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.text.tokenizer import Tokenizer

DROPOUT_KEY = re.compile(r"dropout$|_pdrop$")
"""Keys of a configuration that are dropout rates, such as `attention_dropout` and `resid_pdrop`."""


def load_base_model(
    config: TrainConfig, tokenizer: Tokenizer, context: int, device: str, precision: str
) -> tuple[Any, list[int]]:
    """Load the base model of a config, with embeddings for every token of the dataset's tokenizer.

    Weights that are not trained are in `precision` if the files have them so, else in float32.

    Returns the model, and the ids of control tokens that are new to it.
    """
    name = str(config.base)
    folder = find_base_folder(name)
    if base := find_base(name):
        _verify_weights(base)
    values = read_base_config(folder, name)
    require_positions(values, name, context)
    dropout = {key: config.dropout for key, value in values.items() if DROPOUT_KEY.search(key) and value}
    quantization = _quantization_options(config, device, precision) if config.tune == "qlora" else {}
    model, new_tokens = load_extended_base(
        folder, tokenizer, "float32" if config.tune == "full" else precision,
        refusal=f"the dataset was not made for '{name}'",
        hint=f"git starcoder build --set window.tokenizer={shlex.quote(name)}", **dropout, **quantization,
    )  # fmt: skip
    for module in model.modules() if quantization else ():
        # On a CPU with AVX512-BF16, bitsandbytes 0.50 packs the weights of a layer that is evaluated for a kernel
        # without a gradient, and leaves them so: training would go on without the gradients of all layers below.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model, new_tokens


def _verify_weights(base: Base) -> None:
    """Raise an error if the weights of a base are not those of its record."""
    with (base.folder / WEIGHT_FILES[0]).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != base.weights_digest:
        what = f"the base '{base.name}' is damaged: its weights are not those that it was made with"
        raise DatasetError(what, where=str(base.folder), hint="install git-starcoder again, or make the base again")


def _quantization_options(config: TrainConfig, device: str, precision: str) -> dict[str, Any]:
    """Options with which transformers loads weights in 4 bits, on the device of this process."""
    require_libraries(config, device)
    torch, transformers = import_libraries()
    dtypes = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": getattr(torch, precision)}
    quantization = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True, **dtypes)
    place = torch.cuda.current_device() if device == "cuda" else device
    return {"quantization_config": quantization, "device_map": {"": place}}


def load_base_network(name: str, tokenizer: Tokenizer) -> Network:
    """The base of a model as it was before tuning, for the tokenizer of the model.

    Raises:
        UsageError: There is no such model any more, or its tokenizer is another one.
        DatasetError: The base is damaged.
    """
    device = best_device()
    precision = best_precision(device)
    refusal = f"'{name}' is another model than before"
    model, _ = load_extended_base(find_base_folder(name), tokenizer, precision, refusal=refusal)
    return Network(model.requires_grad_(requires_grad=False), tokenizer, device=device, precision=precision)


def load_extended_base(
    folder: Path, tokenizer: Tokenizer, precision: str, *, refusal: str = "", hint: str = "", **options: Any
) -> tuple[Any, list[int]]:
    """Load a base with an embedding for every token of a tokenizer, and let it end texts as that does.

    Weights are in float32, or in `precision` if the files have them so. `options` go to `from_pretrained`.

    Returns the model, and the ids of tokens that are new to it.

    Raises:
        UsageError: The tokenizer is another one than that of the base; it says `refusal`. Without one, all are taken.
        DatasetError: The base is damaged.
    """
    base_tokenizer = load_tokenizer(folder)
    if refusal and (difference := tokenizer.find_difference(base_tokenizer)):
        raise UsageError(f"{refusal}: {difference}", where="base", hint=hint)
    model = load_stored_weights(folder, precision, **options)
    new_tokens = _add_new_tokens(model, tokenizer, base_tokenizer)
    for settings in (model.config, model.generation_config):  # a chat may end otherwise
        settings.eos_token_id, settings.pad_token_id = tokenizer.end_id, tokenizer.pad_id
    return model, new_tokens


def _add_new_tokens(model: Any, tokenizer: Tokenizer, base_tokenizer: Tokenizer) -> list[int]:
    """Give a base embeddings for all tokens of a tokenizer. Return the ids that are new to the base.

    Its own tokenizer may have control tokens without an embedding, too, as that of the smallest Gemma 3 has.
    """
    known_size = int(model.get_input_embeddings().weight.shape[0])
    known = {number for number in base_tokenizer.vocabulary.values() if number < known_size}
    new_tokens = sorted(set(tokenizer.vocabulary.values()) - known)
    if new_tokens:
        _add_token_embeddings(model, tokenizer.vocab_size, new_tokens)
    return new_tokens


def _add_token_embeddings(model: Any, vocab_size: int, new_tokens: list[int]) -> None:
    """Give a model embeddings for `vocab_size` tokens. All that are new begin as the mean of the known ones."""
    torch, _ = import_libraries()
    known_size = model.get_input_embeddings().weight.shape[0]
    if vocab_size > known_size:
        model.resize_token_embeddings(vocab_size, pad_to_multiple_of=DIMENSION_MULTIPLE, mean_resizing=False)
    layers = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for weight in {id(layer.weight): layer.weight for layer in layers if layer is not None}.values():
            is_known = torch.ones(len(weight), dtype=torch.bool)
            is_known[known_size:] = False
            is_known[new_tokens] = False
            is_known = is_known.to(weight.device)
            weight[~is_known] = weight[is_known].mean(dim=0)
