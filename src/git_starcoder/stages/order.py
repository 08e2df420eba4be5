"""Order: the place of each row in its file. The order is total, so bytes do not depend on how they were made.

The curriculum (Bengio et al., 2009) has three stages with as many rows each: simple, complex, whole systems, by the
difficulty of the file and the size of the window. Inside a stage rows are shuffled, because neighbours of one file in
one batch teach little; so every stage has windows of several sizes.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.rows import SPLITS
from git_starcoder.text.hashes import mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.recipe import Order
    from git_starcoder.rows import Windows
    from git_starcoder.run import Run

STAGES = 3
SIZE = 0.5
"""What the largest window adds to the difficulty, which is 0 to 1."""


def run(run: Run, options: Order, windows: Windows) -> Windows:
    """Windows in, the same windows in the order of the files (train, val, test) with their `rank` out."""
    with run.step("order", len(windows)) as step:
        of_sample = np.array([SPLITS.index(sample.origin.split) for sample in windows.samples], dtype=np.int8)
        split = of_sample[windows.sample]
        stage = np.zeros(len(windows), dtype=np.int8)
        if options.by == "curriculum":
            place = np.searchsorted(np.unique(windows.size), windows.size) / max(1, len(np.unique(windows.size)) - 1)
            score = windows.difficulty + SIZE * place
            for number in range(len(SPLITS)):
                stage[split == number] = stages(score[split == number], windows.key[split == number])
        shuffled = mix(windows.key, run.seed)
        order = np.lexsort((windows.start, windows.size, windows.sample, shuffled, stage, split))
        windows = windows.take(order)
        sizes = np.bincount(split, minlength=len(SPLITS))
        step.keep(len(windows))
        return windows.with_columns(rank=np.concatenate([np.arange(size, dtype=np.int64) for size in sizes]))


def stages(score: NDArray[np.float64], key: NDArray[np.uint64]) -> NDArray[np.int8]:
    """The curriculum stage of each row, 0 to 2: equal thirds by score, ties by content."""
    place = np.empty(len(score), dtype=np.int64)
    place[np.lexsort((key, score))] = np.arange(len(score))
    return (place * STAGES // max(1, len(score))).astype(np.int8)


def mix(key: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys scrambled by the seed."""
    salt = np.uint64(int.from_bytes(blake2b(f"order\0{seed}".encode(), digest_size=8).digest()))
    return mixed(key ^ salt)
