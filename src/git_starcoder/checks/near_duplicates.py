"""No row is nearly another."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.checks import ORDER, OfSamples, Skip
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_semantic_deduplication",)
SHINGLE = 5
SALTS = (
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F,
    0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3,
)  # fmt: skip
"""Of as many permutations."""
AGREED = 7
"""Rows that are the same under so many are compared: of those 0.975 alike 98 in 100, of those half alike 4."""
HALF = len(SALTS) // 2
FIELDS = ("place", "start", "length", "kind")
"""Of a row: 4 × its number, and its split; where it begins in its sample; tokens of text; a hash of its size and task,
for only rows of one kind are compared."""
SHORT = 64
"""Bytes of a task that many rows may have, as none."""
BATCH = 1 << 16
"""Tokens that are hashed together, about."""
AT_ONCE = 256
"""Pairs that are compared at a time."""
NEIGHBOURS = 8
"""Rows of equal hashes that each is compared with."""


class Spans(NamedTuple):
    """Rows as parts of texts: where the shingles of each begin and end, shape (rows,), in the tokens of all."""

    tokens: NDArray[np.int32]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]


class Pairs(NamedTuple):
    """Pairs of rows, by their numbers, and the tokens of each row."""

    rows: list[tuple[int, int]]
    texts: dict[int, NDArray[np.int32]]


class Check(OfSamples):
    """A finding for each row that is nearly a row of another text; the figure is how many are and may be.

    Similarity is Jaccard's, of sets of five tokens that follow one another. The build's search finds a pair exactly at
    the recipe's threshold in 99 of 100 cases, so what lies between the threshold and half the way from there to 1 is
    counted and what lies above is found. MinHash (Broder, 1997) proposes the pairs, and each is compared exactly.
    """

    beside = True

    def __init__(self, given: Given) -> None:
        super().__init__(given)
        self._threshold = given.recipe.dedup.near
        if self._threshold is None:
            self.figure = Skip("the recipe keeps near-duplicates: it drops equal rows only")
        self._rows: dict[str, array[int]] = {}
        """Of each sample its rows, as `FIELDS` numbers each."""
        self._kinds: dict[tuple[int, bytes], int] = {}

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Remember where their texts lie."""
        last = ORDER.index(split)
        for row, said in zip(block.rows, block.metadata, strict=True):
            if row.added.problem:
                continue
            length, context, hole, task = said["length"], said.get("context", 0), said.get("hole"), b""
            if hole:
                task = row.token_ids[length - 1 - (hole[1] - hole[0]) : length - 1].tobytes()
            elif said["augmentation_type"] == "git_diff":
                task = b"change"
            elif context:
                task = row.token_ids[:context].tobytes()
            if (rows := self._rows.get(said["sample"])) is None:
                rows = self._rows[said["sample"]] = array("Q")
            text = length - context - (4 if hole else 0)
            rows.extend((4 * row.index + last, said["token_start"], text, self._kind(said["window_size"], task)))
        return ()

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
        seen, samples, minima = self._minima()
        names = list(self._rows)
        alike = certain = 0
        limit = self._threshold or 1.0

        def tokens(row: int) -> NDArray[np.int32]:
            sample = self._samples.by_id[names[samples[row]]]
            _, start, length, _ = seen[row].tolist()
            text = sample.tokens[start : start + length]
            return np.concatenate((sample.context_prefix, text)) if sample.metadata.get("is_evolution") else text

        pairs = _proposed(minima, samples)
        some = [pairs[begin : begin + AT_ONCE] for begin in range(0, len(pairs), AT_ONCE)]
        texts = ({row: tokens(row) for row in sorted({*chain.from_iterable(each)})} for each in some)
        asked = (Pairs(each, text) for each, text in zip(some, texts, strict=True))
        similarities = chain.from_iterable(self._given.answers(jaccard, asked))
        for (left, right), similarity in zip(pairs, similarities, strict=True):
            if similarity == 1 and np.array_equal(tokens(left), tokens(right)):
                continue  # which `duplicates` finds
            alike += similarity >= limit
            if similarity >= (1 + limit) / 2:
                certain += 1
                keeper, row = sorted((int(seen[left, 0]), int(seen[right, 0])), key=lambda at: (at % 4, at))
                yield Finding("near_duplicates", self._at(row), f"{similarity:.3f} like {self._at(keeper)}")
        self.figure = f"{alike} of {len(seen):,} rows are {limit:g} like another, {certain} are {(1 + limit) / 2:g}"

    def _minima(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """All rows with shingles as `FIELDS`, the number of the sample of each, and its least hash under each salt."""
        seen = [np.empty((0, len(FIELDS)), dtype=np.int64)]
        samples = [np.empty(0, dtype=np.int64)]

        def spans() -> Iterator[Spans]:
            for batch in self._batches():
                rows = np.concatenate([np.frombuffer(self._rows[name], np.int64) for _, name, _ in batch])
                rows = rows.reshape(-1, len(FIELDS))
                counts = [len(self._rows[name]) // len(FIELDS) for _, name, _ in batch]
                sizes = np.array([len(text) for *_, text in batch], dtype=np.int64)
                begin = np.cumsum(sizes) - sizes
                last = begin + np.maximum(0, sizes - SHINGLE + 1)  # beyond it shingles are of two texts
                start = np.repeat(begin, counts) + rows[:, 1]
                stop = np.minimum(np.repeat(last, counts), start + rows[:, 2] - SHINGLE + 1)
                fit = start < stop
                seen.append(rows[fit])
                samples.append(np.repeat([number for number, *_ in batch], counts)[fit])
                yield Spans(np.concatenate([text for *_, text in batch]), start[fit], stop[fit])

        minima = [np.empty((0, len(SALTS)), dtype=np.uint32), *self._given.answers(least, spans())]
        rows = np.concatenate(seen)
        return rows, np.concatenate(samples), np.concatenate(minima) ^ rows[:, 3:].astype(np.uint32)

    def _batches(self) -> Iterator[list[tuple[int, str, NDArray[np.int32]]]]:
        """Samples, some at a time: number, id and text."""
        batch: list[tuple[int, str, NDArray[np.int32]]] = []
        size = 0
        for number, name in enumerate(self._rows):
            sample = self._samples.by_id[name]
            batch.append((number, name, sample.tokens[: sample.length]))
            size += sample.length
            if size >= BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _at(self, here: int) -> str:
        return self._dataset.row_location(ORDER[here % 4], here // 4)


def least(spans: Spans) -> NDArray[np.uint32]:
    """The least hash of each span under each salt, shape (spans, salts). For worker processes, too."""
    hashes = (_shingles(spans.tokens) >> np.uint64(32)).astype(np.uint32)
    hashes = np.append(hashes, np.zeros(SHINGLE, np.uint32))
    found = np.empty((len(spans.start), len(SALTS)), dtype=np.uint32)
    edges = np.column_stack((spans.start, spans.stop)).ravel()
    for column, salt in enumerate(SALTS if len(edges) else ()):
        found[:, column] = np.minimum.reduceat(hashes * np.uint32(salt & 0xFFFFFFFF), edges)[::2]
    return found


def jaccard(pairs: Pairs) -> list[float]:
    """How alike the shingles of the texts of each pair are, 0 to 1. For worker processes, too."""
    hashes = _shingles(np.concatenate(list(pairs.texts.values())))
    sets: dict[int, NDArray[np.uint64]] = {}
    begin = 0
    for row, text in pairs.texts.items():
        sets[row] = _distinct(hashes[begin : begin + max(0, len(text) - SHINGLE + 1)])
        begin += len(text)
    found: list[float] = []
    for left, right in pairs.rows:
        both = np.sort(np.concatenate((sets[left], sets[right])))
        common = int(np.count_nonzero(both[1:] == both[:-1]))
        found.append(common / max(1, len(both) - common))
    return found


def _proposed(minima: NDArray[np.uint32], samples: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of rows of different samples that are the same under most permutations.

    Where at most one of eight differs, the first four are the same or the last four are.
    """
    codes: list[NDArray[np.int64]] = []
    for columns in (minima[:, :HALF], minima[:, HALF:]):
        keys = np.zeros(len(columns), dtype=np.uint64)
        for column in columns.T:
            keys = (keys ^ (keys >> np.uint64(32))) * np.uint64(SALTS[0]) + column
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        for distance in range(1, NEIGHBOURS + 1):
            same = np.flatnonzero(ordered[distance:] == ordered[:-distance])
            left, right = order[same], order[same + distance]
            apart = samples[left] != samples[right]
            left, right = left[apart], right[apart]
            alike = (minima[left] == minima[right]).sum(axis=1) >= AGREED
            codes.append(np.minimum(left[alike], right[alike]) * len(samples) + np.maximum(left[alike], right[alike]))
    return [divmod(code, len(samples)) for code in _distinct(np.concatenate(codes)).tolist()]


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
