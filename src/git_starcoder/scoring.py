"""Scores a language model on held-out text: bits per document, and means over files with confidence intervals."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.protocols import LanguageModel

BOOTSTRAP_DRAWS = 2000
"""Resamples for an interval: enough that its ends move by far less than its width from seed to seed."""


class Estimate(NamedTuple):
    """A mean over files."""

    value: float
    low: float | None
    """The 95 % confidence interval over files; None if the spread is unknown, as for a single file."""
    high: float | None
    files: int


def document_bits(
    model: LanguageModel, documents: Sequence[Document], end: int, *, parts: int = 4
) -> NDArray[np.float64]:
    """Return the bits that a model needs to predict each document, shape (documents,).

    Every token is scored once; the first follows the end-of-text token `end`, as in training. Windows as long as the
    model's context move forward by a part of it, and only the tokens that are new in a window count. With four parts,
    each token is predicted from at least three quarters of the context, or from all text before it. That costs four
    times as much as one part, and is close to a full context for every token.
    """
    windows: list[NDArray[np.int64]] = []
    owners: list[int] = []  # which document each window is from
    new_counts: list[int] = []
    stride = max(1, model.context // parts)
    for index, document in enumerate(documents):
        tokens = np.concatenate(([end], document.tokens)).astype(np.int64)
        done = 1
        for start in range(0, len(tokens), stride):
            stop = min(len(tokens), start + model.context + 1)
            if stop > done:
                windows.append(tokens[start:stop])
                owners.append(index)
                new_counts.append(stop - done)
                done = stop
    total = np.zeros(len(documents))
    for index, new_count, bits in zip(owners, new_counts, model.token_bits(windows), strict=True):
        total[index] += bits[-new_count:].sum(dtype=np.float64)
    return total


def mean_over_files(
    paths: Sequence[str], numerators: Sequence[Any] | NDArray[Any], denominators: Any, seed: int
) -> Estimate:
    """Return the sum of `numerators` over the sum of `denominators`, with a confidence interval over files.

    `paths` names the file of each number: all three have the same length. Numbers are summed per file first, because
    parts of one file are not independent.

    Raises:
        DatasetError: A numerator is not a finite number.

    """
    if not np.isfinite(numerators).all():
        hint = "its training went wrong: train it again, with a smaller learning rate"
        raise DatasetError("the model's predictions are not numbers", where="eval", hint=hint)
    files = {path: index for index, path in enumerate(dict.fromkeys(paths))}
    owners = np.array([files[path] for path in paths], dtype=np.int64)
    above, below = (
        np.bincount(owners, np.asarray(numbers, dtype=np.float64), len(files)) for numbers in (numerators, denominators)
    )
    return Estimate(*bootstrap_ratio(above, below, seed), len(files))


def bootstrap_ratio(
    numerators: NDArray[Any], denominators: NDArray[Any], seed: int
) -> tuple[float, float | None, float | None]:
    """Return sum over sum, and the ends of its 95 % interval from a bootstrap over files. Both have shape (files,).

    A bootstrap over few files underestimates the spread. So its quantiles are those of the expanded percentile interval
    (Hesterberg, 2015, "What Teachers Should Know About the Bootstrap"), which widens it as Student's t widens the
    normal interval: for two or three files the ends are the extremes. One file has no interval.
    """
    value = float(numerators.sum() / denominators.sum())
    files = len(numerators)
    if files < 2:
        return value, None, None
    drawn = np.random.default_rng(seed).integers(0, files, (BOOTSTRAP_DRAWS, files))
    totals = denominators[drawn].sum(axis=1)
    quantile = _expanded_quantile(files)
    ratios = numerators[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(ratios, (quantile, 1 - quantile))
    return value, float(low), float(high)


def _expanded_quantile(files: int) -> float:
    """Return the lower quantile of the expanded percentile interval; it nears 0.025 for many files."""
    normal = NormalDist()
    z, degrees = normal.inv_cdf(0.975), files - 1
    # Student's t by Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    return normal.cdf(-sqrt(files / degrees) * t)
