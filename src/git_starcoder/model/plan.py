"""The plan: which rows every step trains on, decided before the first step by the rows' contents and a seed alone.

A stage is a share of the training: one, or the three of a curriculum, which follow the order of the file and are
equally long. Within a stage, rows are drawn pass after pass without end, because a budget of time does not say how
many steps there will be. A row of weight `w` is drawn `w` times per pass by systematic resampling (Kitagawa, 1996), and
its remainder is carried on to the next pass: after any number of passes a row was drawn as often as its weight says,
rounded down or up, so none is starved and none is repeated beyond its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

STAGES = 3
"""Of a curriculum."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The order of the rows of a run. Arrays have shape (rows,), in the order of the file."""

    keys: NDArray[np.uint64]
    """Hash of the row's content."""
    lengths: NDArray[np.int64]
    """Tokens of the row."""
    weights: NDArray[np.float64]
    """How often the row is drawn, compared with the others."""
    seed: int
    batch: int
    """Tokens of a step, at least, where rows end."""
    curriculum: bool = False

    @property
    def sha(self) -> str:
        """Hash of everything that decides the plan."""
        digest = blake2b(digest_size=16)
        for column in (self.keys, self.lengths, self.weights):
            digest.update(np.ascontiguousarray(column).tobytes())
        digest.update(f"{self.seed} {self.batch} {self.curriculum}".encode())
        return digest.hexdigest()

    @property
    def stages(self) -> int:
        """How many stages the training has."""
        return STAGES if self.curriculum else 1

    def rows(self, stage: int) -> NDArray[np.int64]:
        """The rows of a stage. Stages carry equal weight in tokens, so equal times keep the shares of all rows."""
        mass = self.weights * self.lengths
        begins = np.cumsum(mass) - mass
        found = np.flatnonzero(begins * self.stages // mass.sum() == stage)
        if len(found):
            return found
        # One row spans the whole stage.
        return np.flatnonzero(begins <= mass.sum() * stage / self.stages)[-1:]

    def order(self, stage: int, number: int) -> NDArray[np.int64]:
        """The rows of one pass (from 0) over a stage, each as often as this pass draws it, shuffled."""
        rows = self.rows(stage)
        share = self.weights[rows] / self.weights[rows].mean()
        start = np.random.default_rng((self.seed, stage)).random()
        phase = (np.cumsum(share) - share + start) % 1.0
        times = np.floor(phase + share * (number + 1)) - np.floor(phase + share * number)
        drawn = np.repeat(rows, times.astype(np.int64))
        random = np.random.default_rng((self.seed, stage, number))
        by_content = np.argsort(self.keys[drawn], kind="stable")
        return drawn[by_content][random.permutation(len(drawn))]

    def steps(self, stage: int) -> Iterator[NDArray[np.int64]]:
        """The rows of every step of a stage, without end: consecutive slices of its passes."""
        number = 0
        waiting = np.zeros(0, dtype=np.int64)
        while True:
            waiting = np.concatenate((waiting, self.order(stage, number)))
            number += 1
            ends = np.cumsum(self.lengths[waiting])
            begin = done = 0
            while ends[-1] - done >= self.batch:
                stop = int(np.searchsorted(ends, done + self.batch)) + 1
                yield waiting[begin:stop]
                begin, done = stop, int(ends[stop - 1])
            waiting = waiting[begin:]
