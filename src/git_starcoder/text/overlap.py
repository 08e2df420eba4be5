"""Runs of tokens that files have in common, and how many there would be if files were held out at random.

Code repeats itself (licences, imports, boilerplate), so some runs of a held-out file stand in training in any honest
split. What is honest, whole files held out at random say: the floor.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.text.hashes import find_sorted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RUN = 32
"""Tokens."""


class Piece(NamedTuple):
    """Runs of one file."""

    file: int
    hashes: NDArray[np.uint64]
    asked: bool
    """Whether they are held out with the file, or only learned from with it."""


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of files that are asked for, by number, and who has them. All of one pair have the same shape."""

    hashes: NDArray[np.uint64]
    """Sorted, each once; the place of a run is its number."""
    asked: tuple[NDArray[np.int64], NDArray[np.int32]]
    """Run and file, where the file asks for it."""
    shown: tuple[NDArray[np.int64], NDArray[np.int32]]
    """Run and file, where the file or a variation of it has it."""

    @classmethod
    def of(cls, pieces: Sequence[Piece]) -> Runs:
        """The runs of some pieces."""
        asked, asking = _joined([piece for piece in pieces if piece.asked])
        shown, showing = _joined(pieces)
        hashes = np.sort(asked)
        hashes = hashes[np.diff(hashes, prepend=~hashes[:1]) != 0]
        place, known = find_sorted(shown, hashes)
        return cls(hashes, (np.searchsorted(hashes, asked), asking), (place[known], showing[known]))

    def among(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The numbers of the runs that are among some others, which may have them several times."""
        place, known = find_sorted(hashes, self.hashes)
        return place[known]

    def overlap(self, held: NDArray[np.bool_], *more: NDArray[np.int64]) -> float:
        """The share of the runs of held-out files that others have, or `more`; `held` has shape (files,).

        Each different run counts once. 0 where nothing is held out.
        """
        wanted, met = (np.zeros(len(self.hashes), dtype=bool) for _ in range(2))
        wanted[self.asked[0][held[self.asked[1]]]] = True
        met[self.shown[0][~held[self.shown[1]]]] = True
        for runs_too in more:
            met[runs_too] = True
        return float(np.count_nonzero(wanted & met) / max(1, np.count_nonzero(wanted)))

    def floor(self, held: NDArray[np.bool_], draws: int, unit: NDArray[np.int64]) -> list[float]:
        """The overlap of as many files, about, that are held out at random, some times; [] where none can be.

        Files of the same `unit`, shape (files,), are held out together: copies of each other would be no chance.
        """
        sizes = np.bincount(self.asked[1], minlength=len(held))
        room = int(sizes[held].sum())
        members = [np.flatnonzero(unit == one) for one in np.unique(unit[sizes > 0])]
        weight = [int(sizes[files].sum()) for files in members]
        found: list[float] = []
        for seed in range(draws):
            chosen, left = np.zeros(len(held), dtype=bool), room
            order = list(range(len(members)))
            Random(seed).shuffle(order)  # noqa: S311 - not for secrets
            for number in order:
                if weight[number] <= left:
                    chosen[members[number]] = True
                    left -= weight[number]
            if chosen.any():
                found.append(self.overlap(chosen))
        return found


def runs(tokens: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each run of 32 tokens; shape (max(0, tokens - 31),)."""
    hashes = tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    hashes ^= hashes >> np.uint64(29)
    width = 1
    while width < RUN:  # two neighbouring runs of `width` tokens make one of twice as many
        hashes = hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9) + hashes[width:]
        hashes ^= hashes >> np.uint64(31)
        width *= 2
    return hashes


def sampled(hashes: NDArray[np.uint64], rate: int) -> NDArray[np.uint64]:
    """One run in `rate`, a power of two, by its hash: the same ones in every file; each once."""
    chosen = np.sort(hashes[(hashes >> np.uint64(20)) & np.uint64(rate - 1) == 0])
    return chosen[np.diff(chosen, prepend=~chosen[:1]) != 0]


def _joined(pieces: Sequence[Piece]) -> tuple[NDArray[np.uint64], NDArray[np.int32]]:
    """Runs and their files."""
    hashes = np.concatenate([np.empty(0, dtype=np.uint64), *(piece.hashes for piece in pieces)])
    files = np.array([piece.file for piece in pieces], dtype=np.int32)
    return hashes, np.repeat(files, [len(piece.hashes) for piece in pieces])
