"""Counts which tokens follow which in the file that is being written, so that predictions adapt to it.

The counts are those of `contexts.OrderCounts`, learned token by token with update exclusion (Moffat, 1990): a token
counts in a shorter context only if it is new in the next longer one. That gives the same continuation counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from git_starcoder.memory.contexts import OrderCounts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_FILE_ORDER = 10
"""The longest context, in tokens. A file has few long repetitions, and every order costs time."""


@dataclass(slots=True)
class TokenCounts:
    """The counts of the tokens after one context."""

    of_token: dict[int, int] = field(default_factory=dict[int, int])
    total: int = 0
    ones: int = 0
    twos: int = 0
    more: int = 0
    largest: int = 0
    places: list[int] = field(default_factory=list[int])
    """Where in `FileCounts.tokens` the tokens after this context stand that were counted, the newest last."""

    def add(self, token: int) -> bool:
        """Count a token once more, and return whether it was known."""
        count = self.of_token.get(token, 0) + 1
        self.of_token[token] = count
        self.total += 1
        self.largest = max(self.largest, count)
        self.ones += (count == 1) - (count == 2)
        self.twos += (count == 2) - (count == 3)
        self.more += count == 3
        return count > 1

    def remove(self, token: int) -> bool:
        """Take back the newest `add`, which was of this token, and return whether the token is still known."""
        count = self.of_token.pop(token)
        self.total -= 1
        self.ones -= (count == 1) - (count == 2)
        self.twos -= (count == 2) - (count == 3)
        self.more -= count == 3
        if count > 1:
            self.of_token[token] = count - 1
        self.largest = max(self.of_token.values(), default=0)
        self.places.pop()
        return count > 1


class FileCounts:
    """The counts of a file, from its beginning to the token that was added last, and of texts that were read before."""

    def __init__(self, end_token: int) -> None:
        self.history = [end_token]
        """The tokens of the file, which begin with the end of the text before."""
        self.tokens = [end_token]
        """The tokens of the texts before and of the file."""
        self._end_token = end_token
        self._by_context: dict[tuple[int, ...], TokenCounts] = {}

    def begin_text(self) -> None:
        """Begin another text. What was counted stays."""
        self.history = [self._end_token]
        self.tokens.append(self._end_token)

    def known_contexts(self) -> list[TokenCounts]:
        """Return the counts after the last tokens: order 0, 1, and so on, up to the longest known context."""
        found: list[TokenCounts] = []
        for context in self._contexts():
            if (counts := self._by_context.get(context)) is None:
                break
            found.append(counts)
        return found

    def add(self, token: int) -> None:
        """Learn the next token of the file."""
        for context in reversed(self._contexts()):
            counts = self._by_context.get(context)
            if counts is None:
                counts = self._by_context[context] = TokenCounts()
            counts.places.append(len(self.tokens))
            if counts.add(token):
                break
        self.history.append(token)
        self.tokens.append(token)

    def forget(self, count: int) -> None:
        """Take back the last tokens of the file, as if they had never been added."""
        for _ in range(count):
            token = self.history.pop()
            self.tokens.pop()
            for context in reversed(self._contexts()):
                counts = self._by_context[context]
                is_known = counts.remove(token)
                if not counts.total:
                    del self._by_context[context]
                if is_known:
                    break

    def _contexts(self) -> list[tuple[int, ...]]:
        longest = tuple(self.history[-MAX_FILE_ORDER:])
        return [longest[len(longest) - order :] for order in range(len(longest) + 1)]


def file_counts(tokens: NDArray[np.integer], end_token: int) -> OrderCounts:
    """Count the tokens of a file before each of its tokens, shape (tokens, MAX_FILE_ORDER + 1)."""
    result = OrderCounts.zeros(len(tokens), MAX_FILE_ORDER + 1)
    file = FileCounts(end_token)
    for place, token in enumerate(tokens.tolist()):
        known = file.known_contexts()
        for order, counts in enumerate(known):
            values = (
                counts.of_token.get(token, 0),
                counts.total,
                counts.ones,
                counts.twos,
                counts.more,
                counts.largest,
            )
            for array, value in zip(result, (*values, len(file.history)), strict=True):
                array[place, order] = value
        file.add(token)
    return result
