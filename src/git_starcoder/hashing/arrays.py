"""Array helpers for hashing: runs of elements in flat arrays, sorted arrays, and connected components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def run_offsets(lengths: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Where each run begins if runs of these lengths are stored one after another, and where the last one ends.

    Shape (runs + 1,). Lengths [3, 2] give the offsets [0, 3, 5].
    """
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)))


def run_positions(starts: NDArray[np.int64], offsets: NDArray[np.int64]) -> NDArray[np.int64]:
    """The index of every element of runs that begin at `starts` and have the lengths of `offsets`.

    Starts [10, 40] and offsets [0, 3, 5] give the positions [10, 11, 12, 40, 41].
    """
    return np.repeat(starts - offsets[:-1], np.diff(offsets)) + np.arange(int(offsets[-1]))


def equal_run_starts(*columns: NDArray[Any]) -> NDArray[np.int64]:
    """Where each run of equal rows begins. `columns` are those of a sorted table and have the same length.

    The column [4, 4, 7, 9, 9] gives the starts [0, 2, 3].
    """
    is_start = np.zeros(len(columns[0]), dtype=bool)
    is_start[:1] = True
    for column in columns:
        is_start[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(is_start)


def sorted_unique(values: NDArray[Scalar]) -> NDArray[Scalar]:
    """Each value once, sorted. Unlike `np.unique`, this never builds a hash table, so it is faster on most arrays."""
    ordered = np.sort(values)
    return ordered[equal_run_starts(ordered)]


def find_sorted(values: NDArray[Any], ordered: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index of each value in the sorted array `ordered`, and whether it is there. Both have shape (values,)."""
    index = np.searchsorted(ordered, values)
    if not len(ordered):
        return index, np.zeros(len(values), dtype=bool)
    return index, ordered.take(index, mode="clip") == values


def chunk_slices(sizes: NDArray[Any], limit: int) -> Iterator[slice]:
    """Consecutive slices of at least one element each, whose sizes add up to at most `limit` where that is possible.

    Sizes [3, 4, 9, 1] with a limit of 8 give the slices [0:2], [2:3] and [3:4].
    """
    offsets = run_offsets(sizes)
    start = 0
    while start < len(sizes):
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + limit, side="right")) - 1)
        yield slice(start, stop)
        start = stop


def connect_components(
    component: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Merge components whose members `left` and `right` are connected (union-find for arrays of pairs).

    Args:
        component: The component of each member, named by its smallest member; `np.arange(count)` to begin with.
        left: One member of each pair.
        right: The other member of each pair.

    Returns:
        The components afterwards, also named by their smallest members: [0, 1, 2, 3] with the pairs (1, 3) and (3, 2)
        gives [0, 1, 1, 1].
    """
    while True:
        smaller = np.minimum(component[left], component[right])
        merged = component.copy()
        np.minimum.at(merged, component[left], smaller)
        np.minimum.at(merged, component[right], smaller)
        merged = merged[merged[component]]
        if np.array_equal(merged, component):
            return component
        component = merged
