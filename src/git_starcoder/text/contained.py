"""Containment: documents much of which stands in one other document, however long that is (Broder, 1997).

A book printed on one page holds each of its chapters, and no chapter is similar to it. Jaccard similarity misses such
a pair; here it counts what share of the smaller one's shingles the larger one has. Shingles that many documents have,
licence headers above all, say nothing about a pair and are left out of the count.

What a shingle is decides which copies are found. Five tokens that follow one another find text that was moved; three
words of a line (`text.lines`) find text that had something added to every line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.text.shingles import TextShingles

COMMON = 16
"""A shingle in more documents than this is boilerplate."""
LEAST = 16
"""Sampled shingles that a document must have to be looked at. The standard error of a share is then 0.125 at most."""


class Contained(NamedTuple):
    """Pairs, sorted: much of `part` stands in `whole`. All arrays have shape (pairs,)."""

    part: NDArray[np.int64]
    whole: NDArray[np.int64]
    share: NDArray[np.float64]


def contained(shingles: TextShingles, threshold: float, rate: int) -> Contained:
    """Pairs of documents where at least `threshold` of the one's sampled shingles stand in the other.

    One shingle in `rate` is looked at, chosen by its hash: the same ones in every document.
    """
    hashes, document = _sample(shingles, rate)
    order = np.lexsort((document, hashes))
    hashes, document = hashes[order], document[order]
    edges = np.concatenate(([0], np.flatnonzero(hashes[1:] != hashes[:-1]) + 1, [len(hashes)]))
    count = np.diff(edges)
    rare = np.repeat(count <= COMMON, count)  # no shingle at all makes one run of none
    size = np.bincount(document[rare], minlength=len(shingles.sizes()))
    codes = [np.empty(0, dtype=np.int64)]
    for times in range(2, COMMON + 1):
        begin = edges[:-1][count == times]
        members = document[begin[:, None] + np.arange(times)]
        left, right = np.triu_indices(times, 1)
        codes.append((members[:, left] * len(size) + members[:, right]).ravel())
    every = np.sort(np.concatenate(codes))  # np.unique hashes, which is slower by far
    begin = np.flatnonzero(np.concatenate(([True], every[1:] != every[:-1]))[: len(every)])
    code, shared = every[begin], np.diff(np.concatenate((begin, [len(every)])))
    low, high = code // max(1, len(size)), code % max(1, len(size))
    part, whole = np.concatenate((low, high)), np.concatenate((high, low))
    share = np.concatenate((shared, shared)) / np.maximum(size[part], 1)
    found = np.flatnonzero((share >= threshold) & (size[part] >= LEAST))
    found = found[np.lexsort((whole[found], part[found]))]
    return Contained(part[found], whole[found], share[found])


def _sample(shingles: TextShingles, rate: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The sampled shingles of all documents, each once per document, and whose each is."""
    chosen = np.flatnonzero(shingles.flat % np.uint64(rate) == 0)
    hashes = shingles.flat[chosen]
    document = np.searchsorted(shingles.offsets, chosen, side="right") - 1
    order = np.lexsort((hashes, document))
    hashes, document = hashes[order], document[order]
    again = (hashes[1:] == hashes[:-1]) & (document[1:] == document[:-1])
    first = np.flatnonzero(np.concatenate(([True], ~again))[: len(hashes)])
    return hashes[first], document[first]
