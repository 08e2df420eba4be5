"""The order step: gives each row its place in its file. The order is total, so it depends on nothing but the rows.

The curriculum (Bengio et al., 2009) has three stages: simple, complex, whole systems, by the difficulty of the file. If
all windows have one size, each stage gets a third of them. Of several sizes, the first stage gets half of the smallest
and a sixth of the largest windows, and the last stage the other way round. Inside a stage rows are shuffled, because
neighbours from one file in one batch teach little; so every stage has all sizes from its first rows on.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.hashing.arrays import mix_bits
from git_starcoder.records import SPLITS
from git_starcoder.row_layout import CURRICULUM_STAGES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.recipe import OrderOptions
    from git_starcoder.records import Windows

MIDDLE_SHARE = 1 / 3
"""Share of the rows of each size that are in the middle stage."""
FIRST_STAGE_SHARES = 1 / 2, 1 / 6
"""Share of the rows in the first stage, of the smallest size and of the largest. Of a single size it is the mean."""


def order_windows(build: BuildState, options: OrderOptions, windows: Windows) -> Windows:
    """The windows in the order of the files (train, val, test), with their `stage`."""
    with build.count_step("order", len(windows)) as step:
        split = split_numbers(windows)
        stage = np.zeros(len(windows), dtype=np.int8)
        if options.by == "curriculum":
            sizes = sorted(set(windows.size.tolist()))
            for number, size in enumerate(sizes):
                position = number / (len(sizes) - 1) if len(sizes) > 1 else 0.5
                share = float(np.interp(position, (0, 1), FIRST_STAGE_SHARES))
                for split_number in range(len(SPLITS)):
                    rows = np.flatnonzero((split == split_number) & (windows.size == size))
                    stage[rows] = curriculum_stages(windows.difficulty[rows], windows.content_key[rows], share)
        shuffled = shuffle_keys(windows.content_key, build.seed)
        tie_breakers = windows.sample_offset, windows.size, windows.sample_index, shuffled
        # np.lexsort sorts by its last key first: split, stage, place in the stage, then the tie-breakers.
        order = np.lexsort((*tie_breakers, _places_in_stage(windows, shuffled, stage, split), stage, split))
        windows = windows.take(order)
        step.keep(len(windows))
        return windows.with_columns(stage=stage[order])


def split_numbers(windows: Windows) -> NDArray[np.int8]:
    """The split of each window as an index into `SPLITS`, shape (windows,)."""
    of_sample = np.array([SPLITS.index(sample.origin.split) for sample in windows.samples], dtype=np.int8)
    return of_sample[windows.sample_index]


def _places_in_stage(
    windows: Windows, shuffled: NDArray[np.uint64], stage: NDArray[np.int8], split: NDArray[np.int8]
) -> NDArray[np.float64]:
    """The place of each row in its stage, 0 to 1: shuffled, but the rows of each technique at equal distances.

    So the first rows of a file show every technique, even a rare one. A technique with four rows in a stage has one in
    each quarter of it.
    """
    numbers = {name: number for number, name in enumerate(sorted({sample.technique for sample in windows.samples}))}
    of_sample = np.array([numbers[sample.technique] for sample in windows.samples], dtype=np.int64)
    stratum = (split.astype(np.int64) * CURRICULUM_STAGES + stage) * len(numbers) + of_sample[windows.sample_index]
    order = np.lexsort((shuffled, stratum))
    # Strata in order [4, 4, 4, 7, 7] -> begin [0, 0, 0, 3, 3], count [3, 3, 3, 2, 2].
    begin = np.searchsorted(stratum[order], stratum[order])
    count = np.bincount(stratum, minlength=1)[stratum[order]]
    place = np.empty(len(windows), dtype=np.float64)
    place[order] = (np.arange(len(windows)) - begin + shuffled[order] / 2.0**64) / count
    return place


def curriculum_stages(
    difficulty: NDArray[np.float64], key: NDArray[np.uint64], first_share: float = MIDDLE_SHARE
) -> NDArray[np.int8]:
    """The stage of each row, 0 to 2, by difficulty and then by content key. A share `first_share` is in stage 0."""
    place = np.empty(len(difficulty), dtype=np.int64)
    place[np.lexsort((key, difficulty))] = np.arange(len(difficulty))
    edges = np.round(np.array([first_share, first_share + MIDDLE_SHARE]) * len(difficulty))
    return np.searchsorted(edges, place, side="right").astype(np.int8)


def shuffle_keys(key: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Other keys in place of content keys: sorting by them shuffles rows, in a way that the seed decides."""
    salt = np.uint64(int.from_bytes(blake2b(f"order\0{seed}".encode(), digest_size=8).digest()))
    return mix_bits(key ^ salt)
