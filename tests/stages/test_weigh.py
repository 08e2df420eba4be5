from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.stages.weigh import copy_counts, spread_copies


def keys(count):
    return np.random.default_rng(7).integers(0, 1 << 63, size=count, dtype=np.uint64)


@given(st.lists(st.floats(0.01, 9.0), min_size=1, max_size=50), st.integers(0, 3))
def test_each_row_comes_as_often_as_it_weighs_rounded_down_or_up(weights, seed):
    weight = np.round(np.array(weights), 4)
    found = copy_counts(weight, keys(len(weight)), seed)
    assert (found >= np.floor(weight + 1e-9)).all()
    assert (found <= np.ceil(weight - 1e-9)).all()
    assert abs(found.sum() - weight.sum()) < 1.001


def test_of_the_rows_of_one_weight_the_fraction_is_rounded_up():
    weight = np.repeat([0.3, 1.95, 3.0], 1000)
    found = copy_counts(weight, keys(3000), 0)
    assert Counter(found[:1000].tolist()) == {0: 700, 1: 300}
    assert Counter(found[1000:2000].tolist()) == {2: 950, 1: 50}
    assert set(found[2000:].tolist()) == {3}


def test_which_rows_it_is_follows_from_content_and_seed_and_not_from_order():
    key, weight = keys(500), np.full(500, 0.3)
    chosen = set(key[copy_counts(weight, key, 0) == 1].tolist())
    order = np.random.default_rng(1).permutation(500)
    assert set(key[order][copy_counts(weight, key[order], 0) == 1].tolist()) == chosen
    assert set(key[copy_counts(weight, key, 1) == 1].tolist()) != chosen


@given(st.lists(st.lists(st.integers(1, 4), min_size=5, max_size=12), min_size=1, max_size=3))
def test_copies_stay_in_their_stage_and_apart(counts):
    count = np.array([one for stage in counts for one in stage])
    stage = np.repeat(np.arange(len(counts), dtype=np.int8), [len(stage) for stage in counts])
    row, copy = spread_copies(count, stage)
    assert Counter(row.tolist()) == dict(enumerate(count.tolist()))
    assert stage[row].tolist() == sorted(stage[row].tolist())
    assert all(one != other for one, other in pairwise(row.tolist()))
    for number, many in enumerate(count.tolist()):
        assert sorted(copy[row == number].tolist()) == list(range(many))


def test_rows_without_copies_keep_their_order():
    row, copy = spread_copies(np.ones(9, dtype=np.int64), np.zeros(9, dtype=np.int8))
    assert row.tolist() == list(range(9))
    assert not copy.any()
