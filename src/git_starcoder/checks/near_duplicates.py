"""No row is nearly another."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.checks import ORDER, OfSamples, Skip
from git_starcoder.rows import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks import Checked, Given
    from git_starcoder.rows import Split

SEEDS = ("test_semantic_deduplication",)
SHINGLE = 5
SALTS = (
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F,
    0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3,
)  # fmt: skip
"""Of as many permutations."""
AGREED = 7
"""Rows that are the same under so many are compared: of those 0.975 alike 98 in 100, of those half alike 4."""
SHORT = 64
"""Bytes of a task that many rows may have, as none."""
BATCH = 1 << 17
"""Tokens that are hashed together, about."""
REMEMBERED = 512
"""Rows whose shingles are kept at hand: pairs come sorted."""
NEIGHBOURS = 8
"""Rows of equal hashes that each is compared with."""


class Seen(NamedTuple):
    """A row, as one number each."""

    place: int
    """4 × its number, and its split."""
    start: int
    """In its sample, tokens."""
    length: int
    """Tokens of text."""
    kind: int
    """A hash of its size and task: only rows of one kind are compared."""


class Check(OfSamples):
    """A finding for each row that is nearly a row of another text; the figure is how many are and may be.

    Similarity is Jaccard's, of sets of five tokens that follow one another. The build's search finds a pair exactly at
    the recipe's threshold in 99 of 100 cases, so what lies between the threshold and half the way from there to 1 is
    counted and what lies above is found. MinHash (Broder, 1997) proposes the pairs, and each is compared exactly.
    """

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._threshold = given.recipe.dedup.near
        if self._threshold is None:
            self.figure = Skip("the recipe keeps near-duplicates: it drops equal rows only")
        self._rows: dict[str, list[Seen]] = {}
        self._kinds: dict[tuple[int, bytes], int] = {}

    def row(self, split: Split, row: Checked) -> Iterator[Finding]:
        """Remember where its text lies."""
        said = row.metadata
        hole, context = said.get("hole"), row.uncounted
        if hole:
            task = row.ids[said["length"] - 1 - (hole[1] - hole[0]) : said["length"] - 1].tobytes()
        else:
            task = row.ids[:context].tobytes() if said["augmentation_type"] != "git_diff" else b"change"
        text = said["length"] - context - (4 if hole else 0)
        seen = Seen(
            4 * row.number + ORDER.index(split), said["token_start"], text, self._kind(said["window_size"], task)
        )
        self._rows.setdefault(said["sample"], []).append(seen)
        yield from ()

    def _kind(self, size: int, task: bytes) -> int:
        known = self._kinds.get((size, task))
        if known is None:
            digest = blake2b(b"%d " % size + task, digest_size=8).digest()
            known = int.from_bytes(digest, "little")
            if len(task) < SHORT:
                self._kinds[size, task] = known
        return known

    def end(self) -> Iterator[Finding]:
        """Propose pairs, and compare them."""
        places, samples, minima = self._minima()
        alike = certain = 0
        limit = self._threshold or 1.0

        @lru_cache(REMEMBERED)
        def shingles(row: int) -> NDArray[np.uint64]:
            return _distinct(_shingles(self._of_row(*places[row])))

        for left, right in _proposed(minima, samples):
            similarity = _jaccard(shingles(left), shingles(right))
            if similarity == 1 and np.array_equal(self._of_row(*places[left]), self._of_row(*places[right])):
                continue  # which `duplicates` finds
            alike += similarity >= limit
            if similarity >= (1 + limit) / 2:
                certain += 1
                keeper, row = sorted((places[left][1].place, places[right][1].place), key=lambda at: (at % 4, at))
                yield Finding("near_duplicates", self._at(row), f"{similarity:.3f} like {self._at(keeper)}")
        self.figure = f"{alike} of {len(places):,} rows are {limit:g} like another, {certain} are {(1 + limit) / 2:g}"

    def _minima(self) -> tuple[list[tuple[str, Seen]], NDArray[np.int64], NDArray[np.uint64]]:
        """All rows, the number of the sample of each, and its least hash under each permutation."""
        places: list[tuple[str, Seen]] = []
        samples: list[int] = []
        minima: list[NDArray[np.uint64]] = []
        for batch in self._batches():
            tokens = np.concatenate([text for *_, text in batch])
            hashes = _shingles(tokens)
            hashes = np.append(hashes ^ (hashes >> np.uint64(31)), np.zeros(SHINGLE, np.uint64))
            rows: list[tuple[str, Seen]] = []
            spans: list[int] = []
            begin = 0
            for number, name, text in batch:
                last = begin + max(0, len(text) - SHINGLE + 1)  # beyond it shingles are of two texts
                for seen in self._rows[name]:
                    start = begin + max(0, seen.start)
                    stop = min(last, begin + seen.start + seen.length - SHINGLE + 1)
                    if start < stop:
                        rows.append((name, seen))
                        spans += (start, stop)
                        samples.append(number)
                begin += len(text)
            if not rows:
                continue
            kinds = np.array([seen.kind for _, seen in rows], dtype=np.uint64)
            least = np.empty((len(rows), len(SALTS)), dtype=np.uint64)
            for column, salt in enumerate(SALTS):
                least[:, column] = np.minimum.reduceat(hashes * np.uint64(salt), spans)[::2] ^ kinds
            places += rows
            minima.append(least)
        every = np.concatenate(minima) if minima else np.empty((0, len(SALTS)), dtype=np.uint64)
        return places, np.array(samples, dtype=np.int64), every

    def _batches(self) -> Iterator[list[tuple[int, str, NDArray[np.int32]]]]:
        """Samples that have rows, some at a time: number, id and text."""
        batch: list[tuple[int, str, NDArray[np.int32]]] = []
        size = 0
        for number, name in enumerate(self._rows):
            if sample := self._samples.of.get(name):
                batch.append((number, name, sample.tokens[: sample.stop]))
                size += sample.stop
            if size >= BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _of_row(self, name: str, seen: Seen) -> NDArray[Any]:
        sample = self._samples.of[name]
        text = sample.tokens[seen.start : seen.start + seen.length]
        return np.concatenate((sample.head, text)) if sample.about.get("is_evolution") else text

    def _at(self, here: int) -> str:
        return self._dataset.place(ORDER[here % 4], here // 4)


def _proposed(minima: NDArray[np.uint64], samples: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of rows of different samples that are neighbours under some two permutations and the same under most."""
    codes: list[NDArray[np.int64]] = []
    for column in range(0, len(SALTS), 2):
        columns = minima[:, column : column + 2]
        order = np.lexsort((columns[:, 1], columns[:, 0]))
        for distance in range(1, NEIGHBOURS + 1):
            left, right = order[:-distance], order[distance:]
            apart = (columns[left] == columns[right]).all(axis=1) & (samples[left] != samples[right])
            left, right = left[apart], right[apart]
            alike = (minima[left] == minima[right]).sum(axis=1) >= AGREED
            left, right = left[alike], right[alike]
            codes.append(np.minimum(left, right) * len(samples) + np.maximum(left, right))
    every = _distinct(np.concatenate(codes)) if codes else np.empty(0, np.int64)
    return [divmod(code, len(samples)) for code in every.tolist()]


def _jaccard(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> float:
    """Of two sets that are each sorted."""
    either = len(_distinct(np.concatenate((left, right))))
    return (len(left) + len(right) - either) / max(1, either)


def _distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Each value once, sorted: for short arrays several times as fast as `np.unique`."""
    ordered = np.sort(values)
    return ordered[np.concatenate((np.ones(min(1, len(ordered)), dtype=bool), ordered[1:] != ordered[:-1]))]


def _shingles(tokens: NDArray[Any]) -> NDArray[np.uint64]:
    """A hash of each five tokens that follow one another, shape (max(0, tokens - 4),)."""
    spread = (tokens.astype(np.int64).astype(np.uint64) + np.uint64(1)) * np.uint64(SALTS[0])
    count = max(0, len(tokens) - SHINGLE + 1)
    hashes = np.zeros(count, dtype=np.uint64)
    for place in range(SHINGLE):
        hashes = hashes * np.uint64(SALTS[1]) + spread[place : place + count]
        hashes ^= hashes >> np.uint64(29)
    return hashes
