"""Reading a Hugging Face tokenizer from a folder, the local cache or the hub."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.errors import UsageError
from git_starcoder.text import bpe
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

ROLES = ("eos_token", "pad_token", "bos_token", "unk_token", "sep_token", "cls_token", "mask_token")
FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
UNLIMITED = int(1e30)
"""What Hugging Face writes as `model_max_length` where there is no limit."""
HINT = "`learn` needs no network; else a folder with tokenizer.json, or a Hugging Face id"


class Pretrained(NamedTuple):
    """What the files of a tokenizer say."""

    definition: dict[str, Any]
    """The content of `tokenizer.json`, every control token marked `special`."""
    roles: dict[str, str]
    """Role (`eos_token`, …) → token."""
    limit: int
    """`model_max_length`, in tokens."""


def read(name: str | Path) -> Pretrained:
    """The tokenizer of a folder, or of a Hugging Face id.

    Raises:
        UsageError: there is none, it cannot be had offline, or its files are not what they should be.
    """
    folder = expand_user(name)
    if not str(name) or not folder.is_dir():
        if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", str(name)):
            raise UsageError(f"no tokenizer folder '{name}'", where="tokenizer", hint=HINT)
        folder = _from_hub(str(name))
    try:
        files = {file: (folder / file).read_text(encoding="utf-8") for file in FILES if (folder / file).is_file()}
        config = json.loads(files.get("tokenizer_config.json", "{}"))
        roles = _roles(config) | _roles(json.loads(files.get("special_tokens_map.json", "{}")))
        definition = _definition(files, roles)
        limit = int(config.get("model_max_length") or UNLIMITED)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # unreadable, or JSON of another shape
        raise UsageError(
            f"tokenizer '{name}' cannot be read: {one_line(error)}", where="tokenizer", hint=HINT
        ) from error
    return Pretrained(definition, {role: token["content"] for role, token in roles.items()}, limit)


def one_line(error: Exception) -> str:
    """The message of an error, for a sentence."""
    return " ".join(str(error).split())[:200]


def _from_hub(name: str) -> Path:
    """The folder of a Hugging Face id in the local cache, downloaded if it is not there."""
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.utils import disable_progress_bars, logging

    disable_progress_bars()
    logging.set_verbosity_error()  # its retries are not the user's concern; the outcome is

    def snapshot(*, offline: bool) -> Path:
        download = cast("Callable[..., str]", huggingface_hub.snapshot_download)  # pyright: ignore[reportUnknownMemberType]
        return Path(download(name, allow_patterns=list(FILES), local_files_only=offline))

    try:
        folder = snapshot(offline=True)
        if (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file():
            return folder
    except (OSError, EntryNotFoundError):
        pass  # not in the cache
    except ValueError as error:
        raise UsageError(f"'{name}' is no Hugging Face id", where="tokenizer", hint=HINT) from error
    try:
        return snapshot(offline=False)
    except (OSError, ValueError, EntryNotFoundError) as error:
        what = f"tokenizer '{name}' is no folder, not in the Hugging Face cache, and cannot be downloaded"
        raise UsageError(what, where=one_line(error), hint=HINT) from error


def _roles(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Role → token with its flags."""
    found = {role: values[role] for role in ROLES if values.get(role)}
    return {role: {"content": token} if isinstance(token, str) else token for role, token in found.items()}


def _definition(files: Mapping[str, str], roles: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The content of `tokenizer.json`, or one made of `vocab.json` and `merges.txt`, as GPT-2 and RoBERTa have them."""
    definition: dict[str, Any]
    if "tokenizer.json" in files:
        definition = json.loads(files["tokenizer.json"])
    elif "vocab.json" in files and "merges.txt" in files:
        vocab: dict[str, int] = json.loads(files["vocab.json"])
        lines = [line for line in files["merges.txt"].split("\n") if line and not line.startswith("#version")]
        merges = [(left, right) for left, _, right in (line.rstrip("\r").partition(" ") for line in lines)]
        tokens = {token["content"]: token for token in roles.values() if token["content"] in vocab}
        added = [bpe.control(vocab[content], token) for content, token in tokens.items()]
        definition = bpe.define(vocab, merges, sorted(added, key=lambda token: token["id"]))
    else:
        raise ValueError("it has neither tokenizer.json nor vocab.json with merges.txt")
    definition |= {"truncation": None, "padding": None}
    if "dropout" in definition["model"]:
        definition["model"]["dropout"] = None  # encoding is not a matter of chance
    controls: list[dict[str, Any]] = definition.get("added_tokens") or []
    for token in controls:
        # Some tokenizers have control tokens that are not called special (Qwen's <|fim_prefix|>), and those would be
        # found in text. Runs of white space are the added tokens that are meant to be.
        token["special"] = bool(token["content"].strip())
    return definition
