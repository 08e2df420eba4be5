"""Learning a byte-level BPE with GPT-2's split (Sennrich et al., 2016; Radford et al., 2019)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.text import fast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Merges = list[tuple[str, str]]

SEPARATOR = b"\xff"
"""Between texts handed over as one: a byte that UTF-8 never has."""
LONGEST_WORD = 256
"""Longer words, in bytes, teach nothing, and a megabyte of one character would take a learner ten seconds and more."""
LEAST_USES = 2
"""A pair is merged if it occurs this often: learning what occurs once is memorising."""


def _byte_characters() -> str:
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


BYTES = _byte_characters()
"""The character that stands for each byte in a byte-level vocabulary (GPT-2's table)."""


def learn(texts: Sequence[bytes], special: Sequence[str], vocab_size: int) -> dict[str, Any]:
    """The content of the `tokenizer.json` learned from UTF-8 texts, with `vocab_size` entries or fewer.

    Ids: the special tokens, the 256 bytes, the merges in the order learned. It depends on nothing but the arguments.
    """
    texts = learnable(texts)
    definition = _define(special, _merges_fast(texts, vocab_size - len(special)))
    # gigatoken finds the merges that `tokenizers` finds while there are pairs, and then goes on with pairs that do not
    # occur. If the newest token is used as often as a merge must be, it did not get there: counts only ever fall.
    if not _is_used(definition, vocab_size - 1, texts):
        definition = _define(special, _merges_exact(texts, special, vocab_size))
    return definition


def learnable(texts: Sequence[bytes]) -> list[bytes]:
    """The texts, cut where a word is too long to learn from."""
    import gigatoken
    from gigatoken.gigatoken_rs import pretokenized_counts

    def longest(data: bytes) -> int:
        return max((len(word) for word, _ in pretokenized_counts(data, SEPARATOR)), default=0)

    kept: list[bytes] = []
    with fast.quiet():
        if longest(SEPARATOR.join(texts)) <= LONGEST_WORD:
            return list(texts)
        for text in texts:
            if longest(text) > LONGEST_WORD:
                words = (word if len(word) <= LONGEST_WORD else SEPARATOR for word in gigatoken.pretokenizer(text))
                kept.extend(b"".join(words).split(SEPARATOR))
            else:
                kept.append(text)
    return kept


def define(vocab: Mapping[str, int], merges: Merges, added: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
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


def control(number: int, token: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of `added_tokens` for a control token."""
    flags = {flag: bool(token.get(flag, False)) for flag in ("single_word", "lstrip", "rstrip", "normalized")}
    return {"id": number, "content": token["content"], **flags, "special": True}


def _define(special: Sequence[str], merges: Merges) -> dict[str, Any]:
    vocab = {token: number for number, token in enumerate((*special, *BYTES))}
    for left, right in merges:
        vocab.setdefault(left + right, len(vocab))
    return define(vocab, merges, [control(number, {"content": token}) for number, token in enumerate(special)])


def _merges_fast(texts: Sequence[bytes], size: int) -> Merges:
    import gigatoken

    with fast.quiet():
        _, merges = gigatoken.train_bpe(SEPARATOR.join(texts), size, [], separator=SEPARATOR)
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
        min_frequency=LEAST_USES,
        special_tokens=list(special),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator((text.decode() for text in texts), trainer)
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]


def _characters(data: bytes) -> str:
    return "".join(map(BYTES.__getitem__, data))


def _is_used(definition: dict[str, Any], token: int, texts: Sequence[bytes]) -> bool:
    """Whether the texts have a token as often as a pair must occur to be merged."""
    encode = fast.encoder(definition)
    uses = 0
    for text in texts:
        uses += 0 if encode is None else np.count_nonzero(encode(text) == token)
        if uses >= LEAST_USES:
            return True
    return False
