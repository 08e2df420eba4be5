"""The weigh step: how often a trainer should draw each row, by the role and age of its file.

A weight is the product of a factor for the role, a factor for the age, and a factor for rows made from changes. It is a
column: rows are not copied. Ages are counted from the newest commit, not from the clock. For trainers that cannot weigh
rows, `copy_counts` and `spread_copies` turn the weights of training rows into copies when rows are written.
"""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.records import SPLITS, Change
from git_starcoder.stages.order import shuffle_keys, split_numbers
from git_starcoder.weight_rules import age_factor, age_in_days, repository_factor, role_factor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.git.objects import Repo
    from git_starcoder.recipe import RepositoryOptions, WeighOptions
    from git_starcoder.records import Windows

WEIGHT_UNITS = 10_000
"""Units per weight of 1: weights are written with four decimals."""


def weigh_windows(build: BuildState, options: WeighOptions, repo: Repo, windows: Windows) -> Windows:
    """The same windows with their `weight`."""
    with build.count_step("weigh", len(windows)) as step:
        weights = [
            role_factor(origin.role, options.core, options.utility, options.test)
            * age_factor(age_in_days(origin.changed_at, repo.committed_at), options.recent, options.old)
            * (options.evolution if isinstance(origin, Change) else 1.0)
            for origin in (sample.origin for sample in windows.samples)
        ]
        step.keep(len(windows))
        return windows.with_columns(weight=np.array(weights, dtype=np.float64)[windows.sample_index])


def weigh_repository(options: RepositoryOptions, windows: Windows) -> tuple[Windows, float]:
    """The windows of one of many repositories with the factor of this repository in their `weight`, and the factor."""
    training = windows.weight[split_numbers(windows) == SPLITS.index("train")]
    factor = repository_factor(options.weights, options.temperature, fsum(training.tolist()))
    return windows.with_columns(weight=windows.weight * factor), factor


def copy_counts(weight: NDArray[np.float64], key: NDArray[np.uint64], seed: int) -> NDArray[np.int64]:
    """How often each row is written: its weight, rounded down or up, shape (rows,).

    Of the rows of one weight as many are rounded up as their fractions add up to: of 1,000 rows of weight 1.3, 300 are
    written twice. Which ones follows from their content keys and the seed (systematic resampling; Kitagawa, 1996).
    """
    order = np.lexsort((shuffle_keys(key, seed), weight))
    units = np.rint(weight[order] * WEIGHT_UNITS).astype(np.int64)
    # Weights [1.3, 1.3, 1.3] end at [1.8, 3.1, 4.4], counted from 0.5: whole parts [1, 3, 4] -> counts [1, 2, 1].
    ends = np.cumsum(units) + WEIGHT_UNITS // 2
    counts = np.empty(len(weight), dtype=np.int64)
    counts[order] = ends // WEIGHT_UNITS - (ends - units) // WEIGHT_UNITS
    return counts


def spread_copies(counts: NDArray[np.int64], stage: NDArray[np.int8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The row of each line of the file, and which of its copies it is, from 0; both of shape (lines,).

    The first copy of a row keeps the row's place in its stage. The others follow at equal distances; a copy that would
    pass the end of the stage continues at its beginning. If a stage has more rows than any of them has copies, no two
    copies are neighbours.

    Args:
        counts: How often each row is written, shape (rows,).
        stage: The stage of each row, ascending, shape (rows,).

    """
    # Counts [2, 1] -> row [0, 0, 1], copy [0, 1, 0].
    row = np.repeat(np.arange(len(counts)), counts)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    stage_begin = np.searchsorted(stage, stage)
    stage_size = np.searchsorted(stage, stage, side="right") - stage_begin
    place = ((np.arange(len(counts)) - stage_begin) / stage_size)[row] + copy / counts[row]
    order = np.lexsort((row, copy, place % 1.0, stage[row]))
    return row[order], copy[order]
