"""Cuts long sequences into windows in which every token is scored once, with the most text before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from numpy.typing import NDArray


MAX_HEADER_SHARE = 3 / 4
"""The share of the context that a header may take, with the other files that are shown in it. The rest is text."""


class ScoredWindows(NamedTuple):
    """Windows of sequences, in which every token that is to be scored is new once."""

    tokens: list[NDArray[Any]]
    owners: list[int]
    """The sequence of each window."""
    new_counts: list[int]
    """The number of tokens at the end of each window that are new."""
    sequence_count: int

    def join(self, values: Iterable[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Return for each sequence the values of its scored tokens; `values` has those of each window."""
        found: list[list[NDArray[np.float32]]] = [[] for _ in range(self.sequence_count)]
        for owner, count, window in zip(self.owners, self.new_counts, values, strict=True):
            found[owner].append(window[-count:])
        return [np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32) for parts in found]


def scored_windows(
    sequences: Sequence[NDArray[Any]], first_scored: Sequence[int], headers: Sequence[NDArray[Any]], context: int,
    end_token: int, parts: int,
) -> ScoredWindows:  # fmt: skip
    """Cut sequences of any length into windows for a network; see `protocols.LanguageModel.sequence_bits`.

    Windows as long as the context move forward by a part of it. Four parts cost four times as much as one, and are
    close to a full context for every token.
    """
    windows = ScoredWindows([], [], [], len(sequences))
    nothing = np.zeros(0, dtype=np.int64)
    shown = zip(sequences, first_scored, headers or [nothing] * len(sequences), strict=True)
    for index, (tokens, first, whole_header) in enumerate(shown):
        header = whole_header[: int(context * MAX_HEADER_SHARE)]
        room = context - len(header)
        done = first
        for start in range(0, len(tokens), max(1, room // parts)):
            stop = min(len(tokens), start + room + 1)
            if stop > done:
                begins_file = start == 0 and tokens[0] == end_token
                windows.tokens.append(np.insert(tokens[start:stop], int(begins_file), header))
                windows.owners.append(index)
                windows.new_counts.append(stop - done)
                done = stop
    return windows
