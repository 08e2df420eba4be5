"""Hashes of runs of tokens or bytes, computed for many overlapping runs in one pass over the data.

The values decide which samples are dropped or held out, so a change of any function here changes datasets. Equal runs
have equal hashes; different runs may in theory share one.

- `shingle_hashes`: runs of one short length, at every position;
- `run_hashes`: runs of 32 tokens, at every position;
- `range_hashes`: runs of any lengths and at any positions, of tokens;
- `polynomial_hashes`: the same for values that are in memory as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHINGLE_TOKENS = 5
"""Tokens per shingle."""
RUN_TOKENS = 32
"""Tokens per run of `run_hashes`: long enough that files share one only by copying or convention. A power of two."""
CHUNK_TOKENS = 1 << 17
"""Start positions that `range_hashes` handles at a time: arrays of 1 MiB, which fit in a cache."""

_BASE = 0x9E3779B97F4A7C15  # odd, so it has an inverse modulo 2^64
_FACTOR = np.uint64(0xD1342543DE82EF95)


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
    powers, inverse_powers = _POWERS.up_to(len(values) + 1)
    prefix = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values * powers[: len(values)], out=prefix[1:])
    return (prefix[stops] - prefix[starts]) * inverse_powers[starts]


class _PowerTable:
    """Powers of the polynomial's base and of its inverse, modulo 2^64; the tables grow on demand."""

    def __init__(self) -> None:
        self._tables = (np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.uint64))

    def up_to(self, count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """Tables of at least `count` powers each."""
        tables = self._tables
        if count > len(tables[0]):
            size = 1 << (count - 1).bit_length()
            tables = _powers(_BASE, size), _powers(pow(_BASE, -1, 1 << 64), size)
            self._tables = tables  # one assignment, so that other threads see both tables or neither
        return tables


def _powers(base: int, count: int) -> NDArray[np.uint64]:
    powers = np.full(count, base, dtype=np.uint64)
    powers[0] = 1
    return np.multiply.accumulate(powers)


_POWERS = _PowerTable()
