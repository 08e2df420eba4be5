"""Token healing: a cursor inside a token is moved back to where the token begins, and what is written must fit.

Text before a cursor is divided into tokens differently from the same text with what follows it: `retu` may be two
tokens and `return` one. A model that never saw `return` divided like that does not know how to go on. So the last
tokens before the cursor are taken back, and the first ones that are written must begin with their text.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.text.tokenizer import Tokenizer

MAX_HEALED_TOKENS = 3
"""The most tokens that are taken back. Each may cost a pass through the network."""


class HealedEnd(NamedTuple):
    """The end of a text that was taken back."""

    tokens: int
    """How many tokens."""
    text: bytes
    """Their text, with which the continuation must begin."""


class TokenTable:
    """The tokens of a tokenizer that stand for text, sorted by their bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        texts = tokenizer.token_bytes
        if texts is None:  # not byte-level: no token says which bytes it stands for, and nothing is healed
            texts = np.empty(0, dtype=np.object_)
        control = tokenizer.control_tokens
        entries = sorted((text, token) for token, text in enumerate(texts.tolist()) if text and token not in control)
        self._texts = [text for text, _ in entries]
        self._tokens = np.array([token for _, token in entries], dtype=np.int64)
        self._token_of = dict(entries)
        self._bytes = texts
        self._vocab_size = tokenizer.vocab_size

    def take_back(self, tokens: Sequence[int]) -> HealedEnd:
        """Decide how many of the last tokens of a text are taken back: as many as may be the beginning of one token."""
        healed, text = HealedEnd(0, b""), b""
        for count in range(1, min(MAX_HEALED_TOKENS, len(tokens)) + 1) if len(self._texts) else ():
            text = self._bytes[tokens[-count]] + text
            low, high = self._range_of(text)
            if high - low > (text in self._token_of):
                healed = HealedEnd(count, text)
        return healed

    def fitting(self, text: bytes) -> NDArray[np.bool_]:
        """Say which tokens may come next if the text that follows begins with `text`, shape (vocabulary,)."""
        allowed = np.zeros(self._vocab_size, dtype=np.bool_)
        low, high = self._range_of(text)
        allowed[self._tokens[low:high]] = True
        for length in range(1, len(text)):
            if (token := self._token_of.get(text[:length])) is not None:
                allowed[token] = True
        return allowed

    def _range_of(self, text: bytes) -> tuple[int, int]:
        """Where the tokens are that begin with a text."""
        low = bisect_left(self._texts, text)
        after = text.rstrip(b"\xff")  # the first text after all that begin with this one
        high = len(self._texts) if not after else bisect_left(self._texts, after[:-1] + bytes([after[-1] + 1]))
        return low, high
