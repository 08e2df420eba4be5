"""Order: the place of each row in its file. The order is total, so bytes do not depend on how they were made.

The curriculum (Bengio et al., 2009) has three stages with as many rows each: simple, complex, whole systems, by the
difficulty of the file. Inside a stage rows are shuffled, because neighbours of one file in one batch teach little.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.rows import SPLITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.recipe import Order
    from git_starcoder.rows import Windows
    from git_starcoder.run import Run

STAGES = 3


def run(run: Run, options: Order, windows: Windows) -> Windows:
    """Windows in, the same windows in the order of the files (train, val, test) with their `rank` out."""
    with run.step("order", len(windows)) as step:
        split = np.array([SPLITS.index(sample.unit.split) for sample in windows.samples], dtype=np.int8)[windows.sample]
        stage = np.zeros(len(windows), dtype=np.int8)
        if options.by == "curriculum":
            for number in range(len(SPLITS)):
                stage[split == number] = stages(windows.difficulty[split == number], windows.key[split == number])
        shuffled = mix(windows.key, run.seed)
        order = np.lexsort((windows.start, windows.sample, shuffled, stage, split))
        windows = windows.take(order)
        sizes = np.bincount(split, minlength=len(SPLITS))
        step.keep(len(windows))
        return windows.with_columns(rank=np.concatenate([np.arange(size, dtype=np.int64) for size in sizes]))


def stages(difficulty: NDArray[np.float64], key: NDArray[np.uint64]) -> NDArray[np.int8]:
    """The curriculum stage of each row, 0 to 2: equal thirds by difficulty, ties by content."""
    place = np.empty(len(difficulty), dtype=np.int64)
    place[np.lexsort((key, difficulty))] = np.arange(len(difficulty))
    return (place * STAGES // max(1, len(difficulty))).astype(np.int8)


def mix(key: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys scrambled by the seed (the finaliser of SplitMix64, Steele et al., 2014)."""
    salt = np.uint64(int.from_bytes(blake2b(f"order\0{seed}".encode(), digest_size=8).digest()))
    mixed = key ^ salt
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
