"""Writes a tokenizer into a GGUF file, so that llama.cpp gives a text the ids that it has here.

llama.cpp does not read the regular expressions by which a tokenizer splits a text into words. It has its own, each with
a name. A tokenizer for which there is no equal one is refused.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.errors import UsageError
from git_starcoder.text.tokenizer import BYTE_CHARACTERS

if TYPE_CHECKING:
    from git_starcoder.text.tokenizer import Tokenizer


class PreTokenizer(NamedTuple):
    """A way of splitting a text into words that llama.cpp has."""

    name: str
    """Its name in llama.cpp (`tokenizer.ggml.pre`)."""
    ignore_merges: bool = False
    """Whether a word that is a token is taken as it is, even if no merges lead to it."""


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_QWEN_WORDS = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LLAMA_WORDS = _QWEN_WORDS.replace(r"\p{N}|", r"\p{N}{1,3}|")
_BYTES = ("ByteLevel", False, False)
_BYTES_OF_WORDS = ("ByteLevel", False, True)
PRE_TOKENIZERS: dict[tuple[Any, ...], PreTokenizer] = {
    (_BYTES_OF_WORDS,): PreTokenizer("gpt-2"),  # those that we learn
    (("Digits", True), _BYTES_OF_WORDS): PreTokenizer("smollm"),
    (("Split", _QWEN_WORDS, "Isolated", False), _BYTES): PreTokenizer("qwen2"),
    (("Split", _LLAMA_WORDS, "Isolated", False), _BYTES): PreTokenizer("llama-bpe", ignore_merges=True),
}
"""By what `tokenizer.json` says, as `_steps` writes it. The words are equal but for two exceptions: characters that are
new in Unicode 16 are no letters or digits to llama.cpp; and in the last two, `'ſ` (an apostrophe and a long s) is a
contraction, but not in llama.cpp."""
CONTROL_KEYS = {"FIM_PAD_ID": "<fim_pad>", "FIM_REP_ID": "<repo_name>", "FIM_SEP_ID": "<file_sep>"}
"""Names of llama.cpp for control tokens, besides those of the three of fill-in-the-middle."""


def find_pre_tokenizer(tokenizer: Tokenizer) -> PreTokenizer:
    """Find what splits texts in llama.cpp as this tokenizer does.

    Raises:
        UsageError: There is none, or the tokenizer does something else that llama.cpp does not.
    """
    definition = tokenizer.definition
    model = cast("dict[str, Any]", definition["model"])
    normalizer = cast("dict[str, Any]", definition.get("normalizer") or {})
    found = PRE_TOKENIZERS.get(_steps(definition.get("pre_tokenizer") or {}))
    affixes = model.get("continuing_subword_prefix") or model.get("end_of_word_suffix")
    added = cast("list[dict[str, Any]]", definition.get("added_tokens") or [])
    reasons = {
        "it is no byte-level BPE": model["type"] != "BPE" or model.get("byte_fallback") or affixes,
        "some bytes have no token": not set(BYTE_CHARACTERS) <= tokenizer.vocabulary.keys(),
        f"it normalises text ({normalizer.get('type')})": normalizer.get("type", "NFC") != "NFC",
        "it has tokens for runs of white space": any(not token["special"] for token in added),
        "it splits text into words in a way of its own": found is None,
        "it ignores merges, or llama.cpp does": found and found.ignore_merges != bool(model.get("ignore_merges")),
    }
    if reason := next((reason for reason, applies in reasons.items() if applies), ""):
        raise UsageError(f"llama.cpp has no equal of this tokenizer: {reason}", where="tokenizer.json")
    return cast("PreTokenizer", found)


def _steps(pre_tokenizer: dict[str, Any]) -> tuple[tuple[Any, ...], ...]:
    """What a pre-tokenizer does, one step after another, without settings that do not change the tokens."""
    kind = pre_tokenizer.get("type")
    if kind == "Sequence":
        return tuple(step for each in pre_tokenizer["pretokenizers"] for step in _steps(each))
    if kind == "ByteLevel":
        return ((kind, pre_tokenizer["add_prefix_space"], pre_tokenizer.get("use_regex", True)),)
    if kind == "Split":
        pattern = pre_tokenizer["pattern"].get("Regex")
        return ((kind, pattern, pre_tokenizer["behavior"], pre_tokenizer["invert"]),)
    if kind == "Digits":
        return ((kind, pre_tokenizer["individual_digits"]),)
    return ((kind, json.dumps(pre_tokenizer, sort_keys=True)),)


def add_tokenizer(
    writer: Any, library: Any, tokenizer: Tokenizer, pre_tokenizer: PreTokenizer, vocab_size: int
) -> list[str]:
    """Write a tokenizer into the file of a model with `vocab_size` embeddings; return notes for the user."""
    kinds = library.TokenType
    # A blank is in no token of a byte-level vocabulary, so these names are free.
    tokens = [f"<unused {number}>" for number in range(vocab_size)]
    types = [kinds.UNUSED] * vocab_size
    for token, number in tokenizer.vocabulary.items():
        tokens[number] = token
        types[number] = kinds.CONTROL if number in tokenizer.control_tokens else kinds.NORMAL
    merges: list[Any] = tokenizer.definition["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer.name)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([pair if isinstance(pair, str) else " ".join(pair) for pair in merges])
    # Every text of the training begins with the token at the end of another one, and prompts say so themselves. Only
    # where the base was trained with a token for the beginning, each prompt gets it.
    writer.add_bos_token_id(tokenizer.end_id if tokenizer.begin_id is None else tokenizer.begin_id)
    writer.add_add_bos_token(tokenizer.begin_id is not None)
    writer.add_eos_token_id(tokenizer.end_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    for key, number in _control_ids(tokenizer).items():
        writer.add_uint32(getattr(library.Keys.Tokenizer, key), number)
    if tokenizer.definition.get("normalizer"):
        return ["llama.cpp does not normalise text: characters that Unicode composes otherwise (NFC) get other tokens"]
    return []


def _control_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The ids of the control tokens that llama.cpp builds prompts of, as far as the tokenizer has them."""
    prefix, middle, suffix = tokenizer.fim_ids or (None, None, None)
    found = {"FIM_PRE_ID": prefix, "FIM_MID_ID": middle, "FIM_SUF_ID": suffix}
    for key, name in CONTROL_KEYS.items():
        ids = tokenizer.control_token_ids(name)
        found[key] = ids[0] if len(ids) == 1 and ids[0] in tokenizer.control_tokens else None
    return {key: number for key, number in found.items() if number is not None}
