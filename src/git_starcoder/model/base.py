"""A model to go on from: any causal language model of transformers, from a folder or the Hugging Face hub."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.errors import UsageError
from git_starcoder.model import load
from git_starcoder.model.network import libraries
from git_starcoder.text import tokenizer as pretrained
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.model.config import TrainConfig
    from git_starcoder.text.tokenizer import Tokenizer

HINT = "a folder that transformers' save_pretrained wrote, or a Hugging Face id"
CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
WANTED = (*pretrained.TOKENIZER_FILES, CONFIG, "generation_config.json", "*.safetensors", "*.safetensors.index.json")


class Base(NamedTuple):
    """A model to go on from."""

    model: Any
    fresh: list[int]
    """Ids of control tokens that it does not know and has to learn."""


def read(config: TrainConfig, tokenizer: Tokenizer, context: int, where: str) -> Base:
    """The base of a config, with room for every token of the dataset's tokenizer.

    Raises:
        UsageError: there is no such model, or it was not made for this dataset.
        DatasetError: it is damaged.
        MissingExtraError: torch or transformers is not installed.

    """
    name = str(config.base)
    folder = find(name)
    values = configuration(folder, name)
    if "quantization_config" in values:
        hint = "give the model that it was made of; tune: qlora quantises it"
        raise UsageError(f"the weights of '{name}' are quantised", where="base", hint=hint)
    room = values.get("max_position_embeddings", values.get("n_positions"))
    if isinstance(room, int) and room < context:
        hint = f"build the dataset with --set window.size={room - room % 64}"
        raise UsageError(
            f"'{name}' reads {room:,} tokens, and the rows have up to {context:,}", where="base", hint=hint
        )
    fresh = strange(tokenizer, tokenizers.load_tokenizer(folder), name)
    model = load.weights(folder, **(quantised(where) if config.tune == "qlora" else {}))
    enlarge(model, tokenizer.vocab_size, fresh)
    for said in (model.config, model.generation_config):  # a chat may end otherwise than a text of the dataset
        said.eos_token_id, said.pad_token_id = tokenizer.end_id, tokenizer.pad_id
    return Base(model, fresh)


def find(name: str) -> Path:
    """The folder of a model: itself, or where its files are after a download.

    Raises:
        UsageError: there is none, it cannot be had, or it has no weights that are safe to read.

    """
    folder = expand_user(name)
    if not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise UsageError(f"there is no folder '{name}'", where="base", hint=HINT)
        folder = _downloaded(name)
    if not (folder / CONFIG).is_file():
        raise UsageError(f"'{name}' is not a model: it has no {CONFIG}", where="base", hint=HINT)
    if not any((folder / file).is_file() for file in WEIGHTS):
        pickled = any(file.suffix in PICKLES for file in folder.iterdir())
        what = "has its weights as pickles, which could run code" if pickled else f"has no weights ({WEIGHTS[0]})"
        raise UsageError(f"'{name}' {what}", where="base", hint="only safetensors are read")
    return folder


def _downloaded(name: str) -> Path:
    """The files of a Hugging Face id in the local cache, downloaded if they are not there."""
    libraries()
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # its retries are not the user's concern; the outcome is
    snapshot = cast("Callable[..., str]", huggingface_hub.snapshot_download)  # pyright: ignore[reportUnknownMemberType]
    try:
        folder = Path(snapshot(name, allow_patterns=list(WANTED), local_files_only=True))
        if (folder / CONFIG).is_file() and any((folder / file).is_file() for file in WEIGHTS):
            return folder
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(snapshot(name, allow_patterns=list(WANTED)))
    except (OSError, ValueError) as error:
        what = f"model '{name}' is no folder, not in the Hugging Face cache, and cannot be downloaded"
        raise UsageError(what, where=pretrained.summarize_error(error), hint=HINT) from error


def configuration(folder: Path, name: str) -> dict[str, Any]:
    """What a model's configuration says.

    Raises:
        UsageError: it cannot be read, or the model needs code of its own.

    """
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"the {CONFIG} of '{name}' cannot be read: {pretrained.summarize_error(error)}"
        raise UsageError(what, where="base", hint=HINT) from error
    _, transformers = libraries()
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        own = "it needs code of its own, which is never run" if "auto_map" in values else "no causal language model"
        raise UsageError(f"'{name}' is of the kind {kind}: {own}", where="base", hint=HINT)
    return cast("dict[str, Any]", values)


def strange(tokenizer: Tokenizer, own: Tokenizer, name: str) -> list[int]:
    """Ids of the dataset's control tokens that a base with the tokenizer `own` does not have.

    Raises:
        UsageError: text would not come to the same tokens.

    """
    if difference := tokenizer.find_difference(own):
        hint = f"build it with --set window.tokenizer={name}"
        raise UsageError(f"the dataset was not made for '{name}': {difference}", where="base", hint=hint)
    return sorted(set(tokenizer.vocabulary.values()) - set(own.vocabulary.values()))


def quantised(where: str) -> dict[str, Any]:
    """How transformers is to load weights in 4 bits.

    Raises:
        UsageError: the device is not CUDA, or bitsandbytes is not installed.
    """
    if where != "cuda":
        hint = "tune: lora needs no CUDA"
        raise UsageError(f"weights in 4 bits need CUDA, and this is '{where}'", where="tune", hint=hint)
    if find_spec("bitsandbytes") is None:
        raise UsageError(
            "bitsandbytes is not installed", where="tune: qlora", hint="pip install bitsandbytes accelerate"
        )
    torch, transformers = libraries()
    bits = transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": bits, "device_map": {"": 0}}


def enlarge(model: Any, rows: int, fresh: list[int]) -> None:
    """Make room for `rows` tokens and begin those that the model does not know as the mean of those it does."""
    if not fresh:
        return
    torch, _ = libraries()
    known = model.get_input_embeddings().weight.shape[0]
    if rows > known:
        model.resize_token_embeddings(rows, pad_to_multiple_of=load.TILE, mean_resizing=False)
    heads = [model.get_input_embeddings(), model.get_output_embeddings()]
    with torch.no_grad():
        for weight in {id(head.weight): head.weight for head in heads if head is not None}.values():
            old = torch.ones(len(weight), dtype=torch.bool)
            old[known:] = False
            old[fresh] = False
            weight[fresh] = weight[old.to(weight.device)].mean(dim=0)
