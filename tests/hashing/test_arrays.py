"""Array helpers agree with plain Python and with the examples in their docstrings."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.hashing.arrays import (
    JoinedArray,
    chunk_slices,
    connect_components,
    equal_run_starts,
    find_sorted,
    members_by_value,
    run_offsets,
    run_positions,
    sorted_unique,
)

numbers = st.lists(st.integers(0, 9), max_size=30).map(lambda values: np.array(values, dtype=np.int64))


def test_the_examples_of_the_docstrings():
    assert run_offsets(np.array([3, 2])).tolist() == [0, 3, 5]
    assert run_positions(np.array([10, 40]), np.array([0, 3, 5])).tolist() == [10, 11, 12, 40, 41]
    assert equal_run_starts(np.array([4, 4, 7, 9, 9])).tolist() == [0, 2, 3]
    assert list(chunk_slices(np.array([3, 4, 9, 1]), 8)) == [slice(0, 2), slice(2, 3), slice(3, 4)]
    assert connect_components(np.arange(4), np.array([1, 3]), np.array([3, 2])).tolist() == [0, 1, 1, 1]


@given(numbers, numbers)
def test_sorted_arrays(values, others):
    ordered = sorted_unique(others)
    assert ordered.tolist() == sorted(set(others.tolist()))
    index, is_found = find_sorted(values, ordered)
    assert is_found.tolist() == [value in ordered.tolist() for value in values.tolist()]
    assert ordered[index[is_found]].tolist() == values[is_found].tolist()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20).map(sorted))
def test_runs_of_equal_rows(rows):
    columns = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    lengths = [len([*group]) for _, group in groupby(rows)]
    assert equal_run_starts(*columns).tolist() == np.cumsum([0, *lengths])[:-1].tolist()


@given(numbers, st.integers(1, 20))
def test_chunks_are_consecutive_and_within_the_limit(sizes, limit):
    chunks = list(chunk_slices(sizes, limit))
    assert [chunk.start for chunk in chunks] == [0, *(chunk.stop for chunk in chunks)][: len(chunks)]
    assert sum(chunk.stop - chunk.start for chunk in chunks) == len(sizes)
    for chunk in chunks:
        assert sizes[chunk].sum() <= limit or chunk.stop - chunk.start == 1
    for chunk, after in pairwise(chunks):
        assert sizes[chunk].sum() + sizes[after.start] > limit


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_components_are_those_of_a_plain_search(pairs):
    names = list(range(10))
    for left, right in pairs:
        old, new = sorted((names[left], names[right]), reverse=True)
        names = [new if name == old else name for name in names]
    left, right = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    assert connect_components(np.arange(10), left, right).tolist() == names


@given(numbers)
def test_members_by_value(values):
    found = [(value, members.tolist()) for value, members in members_by_value(values)]
    assert found == [(value, np.flatnonzero(values == value).tolist()) for value in sorted(set(values.tolist()))]


@given(st.lists(numbers, min_size=1, max_size=5), st.data())
def test_a_joined_array_is_indexed_like_one_array(parts, data):
    joined, whole = JoinedArray(parts), np.concatenate(parts)
    edges = st.integers(0, len(whole))
    start, stop = data.draw(edges), data.draw(edges)
    assert joined[start:stop].tolist() == whole[start:stop].tolist()
    places = np.array(
        data.draw(st.lists(st.integers(0, max(0, len(whole) - 1)), max_size=9)) if len(whole) else [], int
    )
    assert joined[places].tolist() == whole[places].tolist()
