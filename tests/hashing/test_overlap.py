"""Runs that files have in common, counted by hand and by the module."""

from __future__ import annotations

import numpy as np
import pytest

from git_starcoder.hashing.arrays import RUN_TOKENS, run_hashes
from git_starcoder.hashing.overlap import FileRuns, RunIndex, sample_hashes


def tokens(seed, count):
    return np.random.default_rng(seed).integers(0, 4096, count)


def windows(values):
    return [tuple(values[at : at + RUN_TOKENS].tolist()) for at in range(len(values) - RUN_TOKENS + 1)]


def test_equal_runs_and_no_others_have_equal_hashes():
    values = np.concatenate((tokens(1, 100), tokens(2, 50), tokens(1, 100)))
    number = {}
    expected = [number.setdefault(window, len(number)) for window in windows(values)]
    found = {}
    assert [found.setdefault(value, len(found)) for value in run_hashes(values).tolist()] == expected
    assert len(number) < len(expected)


@pytest.mark.parametrize("count", [0, 1, RUN_TOKENS - 1, RUN_TOKENS])
def test_short_texts_have_few_runs(count):
    assert len(run_hashes(tokens(3, count))) == max(0, count - RUN_TOKENS + 1)


def test_a_sample_takes_the_same_runs_of_every_text():
    some = tokens(4, 5000)
    whole = sample_hashes(run_hashes(np.concatenate((tokens(5, 3000), some))), 8)
    part = sample_hashes(run_hashes(some), 8)
    assert len(part) == pytest.approx(5000 / 8, rel=0.2)
    assert set(part.tolist()) < set(whole.tolist())
    assert np.array_equal(sample_hashes(run_hashes(some), 1), np.unique(run_hashes(some)))


def test_the_overlap_is_the_share_of_different_runs():
    shared, own = tokens(6, 200), tokens(7, 300)
    held = np.concatenate((shared, own))
    learned = np.concatenate((tokens(8, 100), shared))
    pieces = [
        FileRuns(0, sample_hashes(run_hashes(held), 1), True),
        FileRuns(1, sample_hashes(run_hashes(learned), 1), False),
    ]
    expected = len(set(windows(held)) & set(windows(learned))) / len(set(windows(held)))
    every = RunIndex.from_files(pieces)
    out = np.array([True, False])
    assert every.overlap_share(out) == pytest.approx(expected)
    assert every.overlap_share(out, every.find_runs(run_hashes(own))) == pytest.approx(
        expected + len(windows(own)) / len(set(windows(held)))
    )
    assert every.overlap_share(np.array([False, False])) == 0.0


def test_the_floor_is_of_files_at_random():
    common = tokens(9, 100)
    pieces = [
        FileRuns(at, sample_hashes(run_hashes(np.concatenate((tokens(10 + at, 300), common))), 1), True)
        for at in range(40)
    ]
    out = np.arange(40) < 6
    floor = RunIndex.from_files(pieces).random_overlap_shares(out, 5, np.arange(40))
    assert len(floor) == 5
    expected = (100 - RUN_TOKENS + 1) / (
        6 * (300) + 100 - RUN_TOKENS + 1
    )  # the common part once, and of each file its own
    assert all(share == pytest.approx(expected, rel=0.05) for share in floor)
    assert floor == RunIndex.from_files(pieces).random_overlap_shares(out, 5, np.arange(40))


def test_one_file_has_no_floor():
    assert RunIndex.from_files([]).overlap_share(np.empty(0, bool)) == 0.0
    assert RunIndex.from_files([]).random_overlap_shares(np.empty(0, bool), 3, np.empty(0, np.int64)) == []
