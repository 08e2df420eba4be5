"""Hashes of runs of tokens that overlap, all from one pass over the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.text.shingles import Powers

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 1 << 17
"""Tokens where the runs begin that are looked at together: 1 MiB, which a cache holds."""


def hashes(tokens: NDArray[Any], first: NDArray[Any], length: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each run `tokens[first : first + length]`. Equal runs have equal hashes; who must know compares them.

    It is a polynomial of the tokens modulo 2^64 (Karp and Rabin, 1987), found by prefix sums.
    """
    result = np.empty(len(first), dtype=np.uint64)
    order = np.argsort(first, kind="stable")
    begin, end = first[order].astype(np.int64), (first + length)[order].astype(np.int64)
    powers = Powers()
    at = 0
    while at < len(order):
        low = int(begin[at])
        stop = int(np.searchsorted(begin, low + CHUNK))
        high = int(end[at:stop].max())
        powers.reach(high - low)
        terms = mixed(tokens[low:high].astype(np.uint64) + np.uint64(1)) * powers.up[: high - low]
        prefix = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(terms, dtype=np.uint64)))
        inside = begin[at:stop] - low
        # A run at the very end that is empty begins behind the last power.
        scale = powers.down[np.minimum(inside, max(0, high - low - 1))] if high > low else np.uint64(1)
        result[order[at:stop]] = (prefix[end[at:stop] - low] - prefix[inside]) * scale
        at = stop
    return result


def mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Numbers scrambled one by one (the finaliser of SplitMix64, Steele et al., 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def find_sorted(these: NDArray[Any], others: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each of these stands among `others`, which are sorted, and whether it does; shape (these,) each."""
    place = np.searchsorted(others, these)
    if not len(others):
        return place, np.zeros(len(these), dtype=bool)
    return place, others.take(place, mode="clip") == these
