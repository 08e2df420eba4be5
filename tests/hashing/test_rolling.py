"""Hashes of runs agree with the runs themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.hashing import arrays as module
from git_starcoder.hashing.arrays import range_hashes

TOKENS = np.array([1, 2, 1, 2, 0, 0, 1, 2, 1, 2, 0, 0, 0, 65535, 3], dtype=np.uint16)
run = st.integers(0, len(TOKENS)).flatmap(lambda a: st.integers(a, len(TOKENS)).map(lambda b: (a, b - a)))


@given(st.lists(run, max_size=8))
def test_two_runs_have_one_hash_where_they_are_the_same(runs):
    first, length = (np.array([one[side] for one in runs], dtype=np.int64) for side in (0, 1))
    found = range_hashes(TOKENS, first, length).tolist()
    shown = [tuple(TOKENS[a : a + n].tolist()) for a, n in runs]
    assert [a == b for a in found for b in found] == [a == b for a in shown for b in shown]


def test_chunks_do_not_matter(monkeypatch):
    tokens = np.random.default_rng(0).integers(0, 500, 4000).astype(np.uint16)
    first = np.arange(0, 3900, 7)[::-1]
    length = np.full(len(first), 100)
    expected = range_hashes(tokens, first, length)
    monkeypatch.setattr(module, "CHUNK_TOKENS", 64)
    assert np.array_equal(range_hashes(tokens, first, length), expected)
    assert len(set(expected.tolist())) == len(first)
