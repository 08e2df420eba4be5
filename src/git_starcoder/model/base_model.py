"""Finds a base and looks at it before any work: whether a model can be tuned from it, and what the user should know."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from git_starcoder import registry
from git_starcoder.errors import UsageError
from git_starcoder.model.devices import import_libraries
from git_starcoder.model.weight_files import (
    ADAPTER_FOLDER,
    MODEL_CONFIG,
    WEIGHT_FILES,
    has_weights,
    hint_of_model_inside,
)
from git_starcoder.text.control_tokens import is_chat_model
from git_starcoder.text.tokenizer import TOKENIZER_FILES, TOKENIZER_HINT, Tokenizer, load_tokenizer, summarize_error
from git_starcoder.user_paths import expand_user

CHAT_TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
MERGE_HINT = "--merge writes a model that needs no base"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
DOWNLOAD_PATTERNS = [
    *TOKENIZER_FILES, MODEL_CONFIG, GENERATION_CONFIG, CHAT_TEMPLATE_FILE, "*.safetensors", "*.safetensors.index.json",
]  # fmt: skip
"""Files that are downloaded for a Hugging Face id."""
BASE_HINT = (
    "give the folder of a model (`git starcoder run` writes starcoder_run/model), a name from `git starcoder base "
    "list`, or a Hugging Face id"
)


@dataclass(frozen=True)
class BaseModel:
    """A causal language model with its tokenizer. Everything but its weights was checked."""

    name: str
    """Its name, folder or Hugging Face id, as the user gave it."""
    folder: Path
    config: dict[str, Any]
    """Its `config.json`."""
    tokenizer: Tokenizer
    is_chat_model: bool
    """Whether it was tuned to chat (an Instruct model)."""

    @classmethod
    def open(cls, name: str) -> BaseModel:
        """Find a base, which is downloaded if it is not here, and check all but its weights.

        Raises:
            UsageError: There is none, it is no causal language model, its tokenizer cannot be used, or that has tokens
                of text that the model does not have.
            MissingExtraError: torch or transformers is not installed.
        """
        folder = find_base_folder(name)
        config = read_base_config(folder, name)
        tokenizer = load_tokenizer(folder)
        _require_vocabulary(name, config, tokenizer)
        return cls(name, folder, config, tokenizer, _is_chat_model(folder, tokenizer))

    @property
    def positions(self) -> int | None:
        """The tokens that it reads at once; None if its configuration does not say."""
        return position_count(self.config)

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        spelling = self.tokenizer.control_tokens.get(self.tokenizer.end_id, "")
        notes: list[str] = []
        if self.is_chat_model:
            notes.append(
                f"'{self.name}' is an Instruct model: it was tuned to chat, and texts end with {spelling} here; the "
                "model that it was made from is the better base"
            )
        if self.tokenizer.fim_ids is None:
            notes.append(
                f"'{self.name}' has no fill-in-the-middle tokens: the tuned model only sees what is before the cursor"
            )
        return notes


RUN_FOLDER = "starcoder_run"
"""What `git starcoder run` writes by default. A path in it is never taken for a Hugging Face id."""


def find_base_folder(name: str) -> Path:
    """The folder of a model that has safetensors: a base of the package, or another folder.

    If `name` is neither, it is taken for a Hugging Face id, and the model is downloaded.
    """
    folder = registry.base_folder(name) or expand_user(name)
    if not folder.is_dir():
        if name.split("/")[0] == RUN_FOLDER:
            raise UsageError(f"there is no folder '{name}' here", hint="`git starcoder run` makes one")
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", name):
            raise UsageError(f"there is no folder '{name}'", hint=BASE_HINT)
        folder = _download(name)
    if not (folder / MODEL_CONFIG).is_file():
        what = f"'{name}' is not a model: it has no {MODEL_CONFIG}"
        raise UsageError(what, where=str(folder), hint=hint_of_model_inside(folder) or BASE_HINT)
    if not has_weights(folder):
        if (folder / ADAPTER_FOLDER).is_dir():
            raise UsageError(f"'{name}' has adapters instead of weights", where="base", hint=MERGE_HINT)
        what = f"has no weights ({WEIGHT_FILES[0]})"
        if any(file.suffix in PICKLE_SUFFIXES for file in folder.iterdir()):
            what = "has its weights as pickles, which could run code"
        raise UsageError(f"'{name}' {what}", where="base", hint="only safetensors are read")
    return folder


def _download(name: str) -> Path:
    """The files of a Hugging Face id in the local cache, downloaded if they are not there."""
    import_libraries()
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # the user needs the outcome, not each retry
    snapshot: Any = partial(cast("Any", huggingface_hub).snapshot_download, name, allow_patterns=DOWNLOAD_PATTERNS)
    with suppress(OSError, ValueError):  # not in the cache
        folder = Path(snapshot(local_files_only=True))
        if (folder / MODEL_CONFIG).is_file() and has_weights(folder):
            return folder
    try:
        return Path(snapshot())
    except (OSError, ValueError) as error:
        what = f"model '{name}' is not a folder, not in the Hugging Face cache, and cannot be downloaded"
        raise UsageError(what, hint=BASE_HINT) from error


def read_base_config(folder: Path, name: str) -> dict[str, Any]:
    """Read the configuration of a base: a causal language model without code of its own, which is not quantised.

    Raises:
        UsageError: It is another model, or the configuration cannot be read.
    """
    try:
        values = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
        kind = values["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"the {MODEL_CONFIG} of '{name}' cannot be read: {summarize_error(error)}"
        raise UsageError(what, where="base", hint=BASE_HINT) from error
    _, transformers = import_libraries()
    if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        own_code = "it needs code of its own, which is never run"
        reason = own_code if "auto_map" in values else "no causal language model"
        raise UsageError(f"'{name}' is of the kind {kind}: {reason}", where="base", hint=BASE_HINT)
    if values.get("is_encoder_decoder"):
        what = f"'{name}' is of the kind {kind}: it has an encoder, so it is no causal language model"
        raise UsageError(what, where="base", hint=BASE_HINT)
    if "quantization_config" in values:
        hint = "give the model that it was made from; tune: qlora quantizes it"
        raise UsageError(f"the weights of '{name}' are quantised", where="base", hint=hint)
    return cast("dict[str, Any]", values)


def position_count(values: dict[str, Any]) -> int | None:
    """The tokens that a model reads at once, by its configuration; None if it does not say."""
    text_values: dict[str, Any] = values.get("text_config") or values  # a model of images and text has two parts
    positions = text_values.get("max_position_embeddings", text_values.get("n_positions"))
    return positions if isinstance(positions, int) else None


def require_positions(values: dict[str, Any], name: str, context: int) -> None:
    """Check that a base, given by its configuration, reads rows of `context` tokens; otherwise raise a `UsageError`."""
    positions = position_count(values)
    if positions is not None and positions < context:
        what = f"'{name}' reads {positions:,} tokens, and the rows have up to {context:,}"
        hint = f"build the dataset with --set window.size={positions - positions % 64}"
        raise UsageError(what, where="base", hint=hint)


def _require_vocabulary(name: str, config: dict[str, Any], tokenizer: Tokenizer) -> None:
    """Check that the model has an embedding for each token of text; control tokens can be added."""
    text_config: dict[str, Any] = config.get("text_config") or config
    size = text_config.get("vocab_size")
    if not isinstance(size, int):
        return
    beyond = set(range(size, tokenizer.vocab_size)) - tokenizer.control_tokens.keys()
    if beyond:
        what = f"the vocabulary of the tokenizer of '{name}' is too large: {tokenizer.vocab_size:,} tokens, and the "
        what += f"model has {size:,}"
        raise UsageError(what, where="base", hint="give the folder of a model with its own tokenizer")


def _is_chat_model(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether the files of a model say that it was tuned to chat."""
    config = _read_values(folder / TOKENIZER_CONFIG)
    template = folder / CHAT_TEMPLATE_FILE
    chat_template = template.read_text(encoding="utf-8", errors="replace") if template.is_file() else ""
    named: Any = config.get("eos_token")
    named_end = str(cast("dict[str, Any]", named).get("content", "") if isinstance(named, dict) else named or "")
    stops: Any = _read_values(folder / GENERATION_CONFIG).get("eos_token_id")
    stop_ids = cast("list[Any]", stops) if isinstance(stops, list) else [stops]
    return is_chat_model(
        named_end,
        tokenizer.control_tokens.get(tokenizer.end_id, ""),
        chat_template or json.dumps(config.get("chat_template") or "", ensure_ascii=False).strip('"'),
        [tokenizer.control_tokens[number] for number in stop_ids if number in tokenizer.control_tokens],
    )


def _read_values(file: Path) -> dict[str, Any]:
    """The content of a JSON file of a model; nothing if there is no such file.

    Raises:
        UsageError: It cannot be read.
    """
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        what = f"{file.name} cannot be read: {summarize_error(error)}"
        raise UsageError(what, where=str(file.parent), hint=TOKENIZER_HINT) from error
