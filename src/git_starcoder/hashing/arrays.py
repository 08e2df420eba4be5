"""Array helpers (runs of elements in flat arrays, sorted arrays, connected components), and hashes of token runs.

Hashes of many overlapping runs are computed in one pass over the data. Their values decide which samples are dropped or
held out, so a change of any hash function changes datasets. Equal runs have equal hashes; different runs may in theory
share one.

- `shingle_hashes`: runs of one short length, at every position;
- `run_hashes`: runs of 32 tokens, at every position;
- `range_hashes`: runs of any lengths and at any positions, of tokens;
- `polynomial_hashes`: the same for values that are in memory as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)

SHINGLE_TOKENS = 5
"""Tokens per shingle."""
RUN_TOKENS = 32
"""Tokens per run of `run_hashes`: long enough that files share one only by copying or convention. A power of two."""
CHUNK_TOKENS = 1 << 17
"""Start positions that `range_hashes` handles at a time: arrays of 1 MiB, which fit in a cache."""

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_FACTOR = np.uint64(0xD1342543DE82EF95)
_tables = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64)


class JoinedArray:
    """Several arrays of one type that are indexed as if they were one; nothing is copied before it is asked for."""

    def __init__(self, parts: Sequence[NDArray[Any]]) -> None:
        """Join arrays of shape (elements,), at least one."""
        self.parts = parts
        self.offsets = run_offsets(np.array([len(part) for part in parts], dtype=np.int64))
        """Where each part begins, and the length of all."""

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[Any]:
        """The elements of a slice without a step, or at some places."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            first, last = np.searchsorted(self.offsets, (start, stop), side="right") - 1
            edges = zip(self.parts[first : last + 1], self.offsets[first:].tolist(), strict=False)
            pieces = [part[max(0, start - begin) : max(0, stop - begin)] for part, begin in edges]
            return pieces[0] if len(pieces) == 1 else np.concatenate([*pieces, self.parts[0][:0]])
        part = np.searchsorted(self.offsets, index, side="right") - 1
        elements = np.empty(len(index), dtype=self.parts[0].dtype)
        for number, members in members_by_value(part):
            elements[members] = self.parts[number][index[members] - self.offsets[number]]
        return elements


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


def members_by_value(values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each different value, ascending, with the indexes of the elements that have it, ascending.

    The values [7, 4, 7] give (4, [1]) and (7, [0, 2]). A search for each value would cost their number times as much.
    """
    order = np.argsort(values, kind="stable")
    starts = equal_run_starts(values[order])
    numbers: list[int] = values[order[starts]].tolist()
    yield from zip(numbers, np.split(order, starts[1:]), strict=False)  # of no values, there is one empty part


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

    The component of each member is named by its smallest member; `np.arange(count)` to begin with. The components
    [0, 1, 2, 3] with the pairs (1, 3) and (3, 2) become [0, 1, 1, 1].
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


def mix_bits(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scramble each number on its own (the finaliser of SplitMix64, Steele et al., 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shingle_hashes(tokens: NDArray[np.uint64], size: int = SHINGLE_TOKENS) -> NDArray[np.uint64]:
    """A hash of every `size` consecutive tokens, shape (max(0, tokens - size + 1),)."""
    mixed = (tokens + np.uint64(1)) * _FACTOR  # spreads small numbers over 64 bits, so that sums rarely collide
    mixed ^= mixed >> np.uint64(32)
    count = max(0, len(mixed) - size + 1)
    hashes = mixed[:count] * _FACTOR
    for shift in range(1, size):
        hashes += mixed[shift : count + shift]
        hashes *= _FACTOR
    hashes ^= hashes >> np.uint64(32)
    return hashes


def run_hashes(tokens: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of every 32 consecutive tokens, shape (max(0, tokens - 31),)."""
    hashes = tokens.astype(np.uint64) * np.uint64(_BASE)
    hashes ^= hashes >> np.uint64(29)
    width = 1
    while width < RUN_TOKENS:  # two adjacent runs of `width` tokens make one of twice the width: 1, 2, 4, 8, 16, 32
        hashes = hashes[:-width] * np.uint64(0xBF58476D1CE4E5B9) + hashes[width:]
        hashes ^= hashes >> np.uint64(31)
        width *= 2
    return hashes


def range_hashes(tokens: NDArray[Any], starts: NDArray[Any], lengths: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each run `tokens[start : start + length]`. `tokens` may be a memory map; it is read in chunks."""
    hashes = np.empty(len(starts), dtype=np.uint64)
    order = np.argsort(starts, kind="stable")
    begin, end = starts[order].astype(np.int64), (starts + lengths)[order].astype(np.int64)
    first = 0
    while first < len(order):
        low = int(begin[first])
        stop = int(np.searchsorted(begin, low + CHUNK_TOKENS))
        high = int(end[first:stop].max())
        values = mix_bits(tokens[low:high].astype(np.uint64) + np.uint64(1))
        hashes[order[first:stop]] = polynomial_hashes(values, begin[first:stop] - low, end[first:stop] - low)
        first = stop
    return hashes


def polynomial_hashes(
    values: NDArray[np.uint64], starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> NDArray[np.uint64]:
    """A polynomial hash of each run `values[start:stop]`, modulo 2^64 (Karp and Rabin, 1987).

    Values should be positive: a zero at the end of a run would not change its hash.
    """
    # With base b, prefix[i] = v[0] + v[1] b + ... + v[i-1] b^(i-1). So the run from 2 to 4 has the hash
    # (prefix[4] - prefix[2]) / b^2 = v[2] + v[3] b, wherever it stands.
    powers, inverse_powers = _power_tables(len(values) + 1)
    prefix = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=prefix[1:])
    return (prefix[stops] - prefix[starts]) * inverse_powers[starts]


def _power_tables(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """At least `count` powers of the polynomial's base and of its inverse, modulo 2^64; the tables grow on demand."""
    global _tables
    tables = _tables
    if count > len(tables[0]):
        powers = np.ones((2, 1 << (count - 1).bit_length()), dtype=np.uint64)
        powers[:, 1:] = np.array([[_BASE], [pow(_BASE, -1, 1 << 64)]], dtype=np.uint64)
        np.multiply.accumulate(powers, axis=1, out=powers)
        tables = _tables = powers[0], powers[1]  # one assignment, so that other threads see both tables or neither
    return tables
