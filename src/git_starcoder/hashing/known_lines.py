"""Which lines are known from other texts, and runs of such lines: text that was moved or copied from there.

A single known line says little, because people write such lines again and again. Several in a row were not written
again by chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import find_sorted, sorted_unique
from git_starcoder.hashing.texts import HashedLines, LineIndex

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MIN_ORIGIN_LINES = 3
"""Lines from which on a text is long enough to tell where it comes from."""


class KnownLines(NamedTuple):
    """The lines that training knows, among some that are asked about."""

    hashes: NDArray[np.uint64]
    """Hashes of the known lines, sorted."""

    @classmethod
    def find(cls, asked: HashedLines, known: Iterable[HashedLines]) -> KnownLines:
        """Find which of the lines that are long enough to tell where they come from are among others."""
        index = LineIndex.from_lines(asked)
        is_known = np.zeros(len(index), dtype=bool)
        for lines in known:
            is_known[index.find_in(lines).entry] = True
        return cls(index.line_hashes[is_known])

    @classmethod
    def of(cls, lines: HashedLines) -> KnownLines:
        """All lines that are long enough to tell where they come from."""
        return cls(sorted_unique(lines.long_lines().line_hashes()))

    def and_those_of(self, other: KnownLines) -> KnownLines:
        """The lines that either knows."""
        return KnownLines(sorted_unique(np.concatenate((self.hashes, other.hashes))))

    def without(self, other: KnownLines) -> KnownLines:
        """The lines that this knows and the other does not."""
        return KnownLines(np.setdiff1d(self.hashes, other.hashes, assume_unique=True))

    def mark(self, lines: HashedLines) -> list[bool | None]:
        """Whether each of some lines, given as a text each, is known; None if it is too short to tell."""
        long_lines = lines.long_lines()
        found = iter(find_sorted(long_lines.line_hashes(), self.hashes)[1].tolist())
        return [next(found) if count else None for count in long_lines.line_counts.tolist()]

    def mark_runs(self, lines: HashedLines) -> list[bool]:
        """Whether each of some consecutive lines, given as a text each, is in a run of known ones.

        A run has at least `MIN_ORIGIN_LINES` known lines. Lines between and beside them that are too short to tell
        where they come from belong to it.
        """
        is_known = self.mark(lines)
        is_in_run = [False] * len(is_known)
        first = 0
        for stop, known in enumerate([*is_known, False]):
            if known is False:
                if is_known[first:stop].count(True) >= MIN_ORIGIN_LINES:
                    is_in_run[first:stop] = [True] * (stop - first)
                first = stop + 1
        return is_in_run
