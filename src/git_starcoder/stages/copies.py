"""Weights as copies, for trainers that cannot weigh: the one place where a row is in a file more than once.

Only training rows are copied, and only where the recipe asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.stages.order import mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

UNIT = 10_000
"""Weights have four decimals where they are written."""


def times(weight: NDArray[np.float64], key: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    """How often each row is written: its weight, rounded down or up, shape (rows,).

    By systematic resampling (Kitagawa, 1996) in the order of the weights, and of the contents scrambled by the seed: of
    the rows of one weight so many are rounded up as their fractions come to.
    """
    order = np.lexsort((mix(key, seed), weight))
    units = np.rint(weight[order] * UNIT).astype(np.int64)
    ends = np.cumsum(units) + UNIT // 2
    found = np.empty(len(weight), dtype=np.int64)
    found[order] = ends // UNIT - (ends - units) // UNIT
    return found


def spread(times: NDArray[np.int64], stage: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row of each line and which of its copies it is, from 0; both of shape (lines,).

    `stage` of each row rises. The first copy keeps the row's place among those of its stage, and the others lie behind
    it at equal distances; what passes the end of the stage goes on at its beginning. Where a stage has more rows than
    any of them has copies, no two copies are neighbours.
    """
    row = np.repeat(np.arange(len(times)), times)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(times) - times, times)
    first = np.searchsorted(stage, stage)
    size = np.searchsorted(stage, stage, side="right") - first
    place = ((np.arange(len(times)) - first) / size)[row] + copy / times[row]
    order = np.lexsort((row, copy, place % 1.0, stage[row]))
    return row[order], copy[order]
