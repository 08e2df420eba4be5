"""Looks at a base before any work: whether a model can be tuned from it, and what the user should know about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import UsageError
from git_starcoder.model.loading import find_base_folder, position_count, read_base_config
from git_starcoder.text.control_tokens import is_chat_model
from git_starcoder.text.tokenizer import TOKENIZER_HINT, Tokenizer, load_tokenizer, summarize_error

if TYPE_CHECKING:
    from pathlib import Path

CHAT_TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"


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
