"""Learns a tokenizer from texts: a byte-level BPE.

It splits text into words as GPT-2's does and learns merges within words (Sennrich et al., 2016; Radford et al., 2019).
"""

from __future__ import annotations

import json
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.text.fast_encoding import fast_encoder, silence_output
from git_starcoder.text.tokenizer import BYTE_CHARACTERS, Merges, bpe_definition, control_token_entry

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXT_SEPARATOR = b"\xff"
"""Separates texts that are passed to gigatoken as one: a byte that UTF-8 never contains."""
MAX_WORD_BYTES = 256
"""Bytes of the longest word that is learned from. Longer ones teach nothing, and a megabyte of one character would take
ten seconds and more."""
MIN_PAIR_COUNT = 2
"""A pair is merged if it occurs at least this often: learning what occurs once is memorising."""


def learn_bpe(texts: Sequence[bytes], special: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """Learn a tokenizer from UTF-8 texts. The result depends on nothing but the arguments.

    Returns:
        The content of a `tokenizer.json` with at most `vocab_size` entries. The ids are, in this order: the special
        tokens, the 256 bytes, the merges in the order learned.
    """
    import gigatoken

    texts = drop_long_words(texts)
    with silence_output():
        size = vocab_size - len(special)
        _, pairs = gigatoken.train_bpe(TEXT_SEPARATOR.join(texts), size, [], separator=TEXT_SEPARATOR)
    left, right = ([pair[side].decode("latin-1").translate(BYTE_CHARACTERS) for pair in pairs] for side in (0, 1))
    definition = _learned_definition(special, list(zip(left, right, strict=True)))
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
            if longest_word(text) <= MAX_WORD_BYTES:
                result.append(text)
                continue
            words = (w if len(w) <= MAX_WORD_BYTES else TEXT_SEPARATOR for w in gigatoken.pretokenizer(text))
            result.extend(b"".join(words).split(TEXT_SEPARATOR))
    return result


def _learned_definition(special: Sequence[str], merges: Merges) -> dict[str, Any]:
    vocab = {token: number for number, token in enumerate((*special, *BYTE_CHARACTERS))}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    entries = [control_token_entry(number, {"content": token}) for number, token in enumerate(special)]
    return bpe_definition(vocab, merges, entries)


def _merges_exact(texts: Sequence[bytes], special: Sequence[str], vocab_size: int) -> Merges:
    import tokenizers
    from tokenizers.pre_tokenizers import ByteLevel

    learner = tokenizers.Tokenizer(tokenizers.models.BPE())
    learner.pre_tokenizer = ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=MIN_PAIR_COUNT, special_tokens=list(special),
        initial_alphabet=ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    learner.train_from_iterator((text.decode() for text in texts), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _is_used(definition: dict[str, Any], token: int, texts: Sequence[bytes]) -> bool:
    """Whether a token occurs in the texts at least `MIN_PAIR_COUNT` times."""
    encode = fast_encoder(definition)
    counts = (0 if encode is None else np.count_nonzero(encode(text) == token) for text in texts)
    return any(total >= MIN_PAIR_COUNT for total in accumulate(counts))
