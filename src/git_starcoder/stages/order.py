"""Order: the place of each row in its file. The order is total, so bytes do not depend on how they were made.

The curriculum (Bengio et al., 2009) has three stages: simple, complex, whole systems, by the difficulty of the file. Of
windows of one size each stage has a third; of several sizes the first stage has half of the smallest and a sixth of the
largest, and the last the other way round. Inside a stage rows are shuffled, because neighbours of one file in one batch
teach little; so every stage shows all sizes from its first lines on.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.records import SPLITS
from git_starcoder.text.hashes import mixed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.recipe import OrderOptions
    from git_starcoder.records import Windows

STAGES = 3
MIDDLE = 1 / 3
"""Share of the rows of any size that are in the middle stage."""
FIRST = 1 / 2, 1 / 6
"""Share of those in the first stage, of the smallest size and of the largest; of the only size it is a third."""


def order_windows(build: BuildState, options: OrderOptions, windows: Windows) -> Windows:
    """Windows in, the same windows in the order of the files (train, val, test) with their `stage` out."""
    with build.count_step("order", len(windows)) as step:
        of_sample = np.array([SPLITS.index(sample.origin.split) for sample in windows.samples], dtype=np.int8)
        split = of_sample[windows.sample_index]
        stage = np.zeros(len(windows), dtype=np.int8)
        if options.by == "curriculum":
            sizes = sorted(set(windows.size.tolist()))
            for number, size in enumerate(sizes):
                share = np.interp(number / (len(sizes) - 1) if len(sizes) > 1 else 0.5, (0, 1), FIRST)
                for part in range(len(SPLITS)):
                    rows = np.flatnonzero((split == part) & (windows.size == size))
                    stage[rows] = stages(windows.difficulty[rows], windows.content_key[rows], float(share))
        shuffled = mix(windows.content_key, build.seed)
        ties = windows.sample_offset, windows.size, windows.sample_index, shuffled
        order = np.lexsort((*ties, _spread(windows, shuffled, stage, split), stage, split))
        windows = windows.take(order)
        step.keep(len(windows))
        return windows.with_columns(stage=stage[order])


def _spread(
    windows: Windows, shuffled: NDArray[np.uint64], stage: NDArray[np.int8], split: NDArray[np.int8]
) -> NDArray[np.float64]:
    """Where each row comes in its stage, 0 to 1: shuffled, but the rows of each technique at equal distances.

    So whoever looks at the first rows of a file sees every technique, also a rare one.
    """
    names = {name: number for number, name in enumerate(sorted({sample.technique for sample in windows.samples}))}
    technique = np.array([names[sample.technique] for sample in windows.samples], dtype=np.int64)[windows.sample_index]
    strata = (split.astype(np.int64) * STAGES + stage) * len(names) + technique
    order = np.lexsort((shuffled, strata))
    begin = np.searchsorted(strata[order], strata[order])
    count = np.bincount(strata, minlength=1)[strata[order]]
    place = np.empty(len(windows), dtype=np.float64)
    place[order] = (np.arange(len(windows)) - begin + shuffled[order] / 2.0**64) / count
    return place


def stages(difficulty: NDArray[np.float64], key: NDArray[np.uint64], first: float = MIDDLE) -> NDArray[np.int8]:
    """The curriculum stage of each row, 0 to 2, by difficulty and then content; `first` of them, a share, are in 0."""
    place = np.empty(len(difficulty), dtype=np.int64)
    place[np.lexsort((key, difficulty))] = np.arange(len(difficulty))
    edges = np.round(np.array([first, first + MIDDLE]) * len(difficulty))
    return np.searchsorted(edges, place, side="right").astype(np.int8)


def mix(key: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Keys scrambled by the seed."""
    salt = np.uint64(int.from_bytes(blake2b(f"order\0{seed}".encode(), digest_size=8).digest()))
    return mixed(key ^ salt)
