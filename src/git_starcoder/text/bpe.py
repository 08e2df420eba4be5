"""Byte-level BPE: learning a tokenizer's definition, and gigatoken, the library that encodes and learns fast.

The tokenizer splits text into words as GPT-2's does and learns merges within words (Sennrich et al., 2016; Radford et
al., 2019). gigatoken is many times faster than `tokenizers`, but young: its output is silenced here, and its results
are verified by the callers.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from numpy.typing import NDArray

Merges = list[tuple[str, str]]

TEXT_SEPARATOR = b"\xff"
"""Separates texts that are passed to gigatoken as one: a byte that UTF-8 never contains."""
MAX_WORD_BYTES = 256
"""Bytes of the longest word that is learned from. Longer ones teach nothing, and a megabyte of one character would take
ten seconds and more."""
MIN_PAIR_COUNT = 2
"""A pair is merged if it occurs at least this often: learning what occurs once is memorising."""


def _byte_characters() -> str:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTE_CHARACTERS = _byte_characters()
"""The character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""


def learn_bpe(texts: Sequence[bytes], special: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """Learn a tokenizer from UTF-8 texts. The result depends on nothing but the arguments.

    Returns:
        The content of a `tokenizer.json` with at most `vocab_size` entries. The ids are, in this order: the special
        tokens, the 256 bytes, the merges in the order learned.
    """
    texts = drop_long_words(texts)
    definition = _learned_definition(special, _merges_fast(texts, vocab_size - len(special)))
    # gigatoken finds the same merges as `tokenizers` while there are pairs, and then continues with pairs that do not
    # occur. Counts only ever fall, so if the newest token is used often enough to be merged, all tokens are.
    if not _is_used(definition, vocab_size - 1, texts):
        definition = _learned_definition(special, _merges_exact(texts, special, vocab_size))
    return definition


def drop_long_words(texts: Sequence[bytes]) -> list[bytes]:
    """The texts without words that are too long to learn from; a text is cut at such a word."""
    import gigatoken
    from gigatoken.gigatoken_rs import pretokenized_counts

    def longest_word(data: bytes) -> int:
        return max((len(word) for word, _ in pretokenized_counts(data, TEXT_SEPARATOR)), default=0)

    result: list[bytes] = []
    with silence_output():
        if longest_word(TEXT_SEPARATOR.join(texts)) <= MAX_WORD_BYTES:
            return list(texts)
        for text in texts:
            if longest_word(text) > MAX_WORD_BYTES:
                words = gigatoken.pretokenizer(text)
                short_words = (word if len(word) <= MAX_WORD_BYTES else TEXT_SEPARATOR for word in words)
                result.extend(b"".join(short_words).split(TEXT_SEPARATOR))
            else:
                result.append(text)
    return result


def bpe_definition(vocab: Mapping[str, int], merges: Merges, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of the `tokenizer.json` of a byte-level BPE."""
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
        "vocab": vocab, "merges": merges,
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level, "model": model,
    }  # fmt: skip


def control_token_entry(number: int, token: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of a control token in `added_tokens`."""
    flags = {flag: bool(token.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"id": number, "content": token["content"], **flags, "special": True}


def _learned_definition(special: Sequence[str], merges: Merges) -> dict[str, Any]:
    vocab = {token: number for number, token in enumerate((*special, *BYTE_CHARACTERS))}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    entries = [control_token_entry(number, {"content": token}) for number, token in enumerate(special)]
    return bpe_definition(vocab, merges, entries)


def _merges_fast(texts: Sequence[bytes], size: int) -> Merges:
    import gigatoken

    with silence_output():
        _, merges = gigatoken.train_bpe(TEXT_SEPARATOR.join(texts), size, [], separator=TEXT_SEPARATOR)
    return [(_characters(left), _characters(right)) for left, right in merges]


def _merges_exact(texts: Sequence[bytes], special: Sequence[str], vocab_size: int) -> Merges:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    learner = Tokenizer(BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=list(special),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator((text.decode() for text in texts), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _characters(data: bytes) -> str:
    return "".join(map(BYTE_CHARACTERS.__getitem__, data))


def _is_used(definition: dict[str, Any], token: int, texts: Sequence[bytes]) -> bool:
    """Whether a token occurs in the texts at least `MIN_PAIR_COUNT` times."""
    encode = fast_encoder(definition)
    uses = 0
    for text in texts:
        uses += 0 if encode is None else np.count_nonzero(encode(text) == token)
        if uses >= MIN_PAIR_COUNT:
            return True
    return False


def fast_encoder(definition: dict[str, Any]) -> Callable[[bytes], NDArray[np.uint32]] | None:
    """The encoder of gigatoken for a `tokenizer.json` without its control tokens; None if gigatoken cannot load it.

    The definition is passed in memory: given a path that does not exist, gigatoken would ask the network.
    """
    import gigatoken

    tokens: list[dict[str, Any]] = definition.get("added_tokens") or []
    added = [token for token in tokens if not token["special"]]
    try:
        with silence_output():
            return gigatoken.Tokenizer.from_json(json.dumps(definition | {"added_tokens": added})).encode
    except BaseException as error:
        if not is_gigatoken_failure(error):
            raise
        return None


def is_gigatoken_failure(error: BaseException) -> bool:
    """Whether it is an ordinary exception, or a panic in Rust, which is a bare BaseException."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def silence_output() -> Generator[None]:
    """Discard what gigatoken prints to file descriptors 1 and 2, past Python."""
    for file in (sys.stdout, sys.stderr):
        if file is not None:  # pyright: ignore[reportUnnecessaryComparison] - None where it was closed before the start
            file.flush()
    saved: list[tuple[int, int]] = []
    with Path(os.devnull).open("wb") as nowhere:
        for stream in (1, 2):
            try:
                saved.append((stream, os.dup(stream)))
            except OSError:  # closed by the parent process, so there is nothing to silence
                continue
            os.dup2(nowhere.fileno(), stream)
        try:
            yield
        finally:
            for stream, copy in saved:
                os.dup2(copy, stream)
                os.close(copy)
