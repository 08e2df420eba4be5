"""Lines of texts as hashes, to see which lines of one text stand in another.

A line is what is between line breaks, less white space at its ends. Short ones (`}`, `return None`) say nothing about
where they come from and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.text.shingles import hashed, offsets_of, polynomials

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from git_starcoder.text.shingles import Powers

LEAST = 20
"""Bytes of the shortest line that counts."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The lines of texts."""

    flat: NDArray[np.uint64]
    """Hashes, those of the first text first, shape (lines,)."""
    offsets: NDArray[np.int64]
    """Where those of each text begin, shape (texts + 1,)."""

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Lines:
        """Hash the lines of each text."""
        return cls(*hashed(texts, _hash))

    def sizes(self) -> NDArray[np.int64]:
        """Lines of each text, shape (texts,)."""
        return np.diff(self.offsets)

    def stand_in(self, others: NDArray[np.uint64]) -> NDArray[np.int64]:
        """How many lines of each text are among `others`, which are sorted; shape (texts,)."""
        place = np.searchsorted(others, self.flat)
        hits = (
            others[np.minimum(place, len(others) - 1)] == self.flat if len(others) else np.zeros(len(self.flat), bool)
        )
        return np.diff(offsets_of(hits.astype(np.int64))[self.offsets])


def only_in(these: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The lines among `these` that are not among `others`, sorted, each once."""
    mine, known = np.sort(these), np.sort(others)
    mine = mine[np.concatenate(([True], mine[1:] != mine[:-1]))[: len(mine)]]
    return mine[np.searchsorted(known, mine, side="left") == np.searchsorted(known, mine, side="right")]


def _hash(texts: list[bytes], powers: Powers) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of the lines of some texts, and how many each has.

    A hash is a polynomial of the line's bytes modulo 2^64, found by prefix sums, and scrambled.
    """
    data = np.frombuffer(b"\n".join((*texts, b"\n")), dtype=np.uint8)
    powers.reach(len(data))
    ends = np.flatnonzero(data == 0x0A)
    begins = np.concatenate(([0], ends[:-1] + 1))
    ink = np.flatnonzero(data > 0x20)
    first, last = np.searchsorted(ink, begins), np.searchsorted(ink, ends)
    solid = np.flatnonzero(first < last)
    start, stop = ink[first[solid]], ink[last[solid] - 1] + 1
    start, stop = start[stop - start >= LEAST], stop[stop - start >= LEAST]
    line = polynomials(data, start, stop, powers)
    line ^= line >> np.uint64(32)
    text = np.searchsorted(np.cumsum([len(text) + 1 for text in texts], dtype=np.int64), start, side="right")
    return line, np.bincount(text, minlength=len(texts)).astype(np.int64)
