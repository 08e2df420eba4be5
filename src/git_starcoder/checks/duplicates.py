"""Checks for repeated rows: exact duplicates and near-duplicates."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.checks.base import READING_ORDER, Check, sample_batches
from git_starcoder.hashing.arrays import SHINGLE_TOKENS, shingle_hashes, sorted_unique
from git_starcoder.row_layout import BASE, FIM_SENTINELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.records import Finding, Split

    Spans = tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]
    """Rows as spans of one array of tokens: the tokens, and the first and the end of each row's shingles, (rows,)."""

MINHASH_FACTORS = np.array(
    [0x7F4A7C15, 0x1CE4E5B9, 0x133111EB, 0x6659FD93, 0x78BD642F, 0xA0B428DB, 0x9C88C6E3, 0x75CC374D], dtype=np.uint32
)
"""Odd numbers: multiplying 32-bit hashes by one of them permutes them. One minimum is kept for each permutation."""
MIN_EQUAL_MINIMA = 7
"""Rows that have so many of the 8 minima in common are compared. Pairs with a similarity of 0.975 are found in 98 of
100 cases, and pairs with a similarity of 0.5 are compared in 4 of 100."""
SPAN_COLUMNS = ("code", "start", "length", "kind")
"""What is remembered of a row: its code, 4 times its number in the split plus the index of the split in
`READING_ORDER`; where its text begins in its sample and how long it is, in tokens; and a hash of its window size and
its task. Only rows of one kind are compared."""
MAX_SHARED_TASK_BYTES = 64
"""The hashes of shorter tasks are remembered, because many rows have no task or the same short one."""
PAIRS_PER_TASK = 256
"""Pairs of rows that a worker compares at a time."""
COMPARED_NEIGHBOURS = 8
"""Rows with equal hashes that each row is compared with."""
KEY_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class DuplicatesCheck(Check):
    """Reports each row with the same tokens as an earlier row. The figure is the number of different rows.

    The headers of files are not compared. If the recipe keeps repeated rows, only those of two splits are reported.
    Where the recipe copies training rows by their weight, each row must be there as often as it says.
    """

    name = "duplicates"
    promise = (
        "No two rows (of two splits, if `dedup.exact` is false) have the same tokens, "
        "except for headers and the unscored text of files that commits changed."
    )

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._keeps_repeats = not context.recipe.dedup.exact
        self._first_code: dict[bytes, int] = {}
        """Hash of a row's tokens → code of the first such row."""
        self._missing_copies: dict[bytes, set[int]] = {}

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Compare each row with the rows before it."""
        split_index = READING_ORDER.index(split)
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            code = 4 * row.index + split_index
            if "scored" in metadata:  # a changed file repeats what it had before
                continue
            first_code = self._first_code.setdefault(row.content_hash, code)
            if first_code == code and (copies := metadata.get("copies", 1)) > 1:
                self._missing_copies[row.content_hash] = set(range(copies))
            missing = self._missing_copies.get(row.content_hash, ())
            if missing and (copy := metadata.get("copy", 0)) in missing:
                self._missing_copies[row.content_hash].remove(copy)
            elif first_code != code and not (self._keeps_repeats and first_code % 4 == split_index):
                yield self.row_finding(split, row, f"the same tokens as {_row_place(self.dataset, first_code)}")

    def finish(self) -> Iterator[Finding]:
        """Report copies that are missing."""
        for content, copies in self._missing_copies.items():
            if copies:
                place = _row_place(self.dataset, self._first_code[content])
                yield self.finding(place, f"{len(copies)} of its copies are not there")
        self.figure = f"{len(self._first_code):,} of {self.context.row_counts.total():,} rows are unique"


class NearDuplicatesCheck(Check):
    """Reports each row that is nearly a row of another sample. The figure is the number of near-duplicates.

    Similarity is the Jaccard similarity of sets of five consecutive tokens. The build finds pairs exactly at the
    recipe's threshold in 99 of 100 cases, so pairs up to half the way from there to 1 are only counted, and pairs above
    are findings. MinHash (Broder, 1997) proposes the pairs; then each is compared exactly.
    """

    name = "near_duplicates"
    promise = "No row is a near-duplicate of another row, by the threshold of the recipe."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        if context.recipe.dedup.near is None:
            self.skip_reason = "the recipe keeps near-duplicates: it drops equal rows only"
        self._rows_of_sample: dict[str, array[int]] = {}
        """Sample id → for each of its rows the numbers of `SPAN_COLUMNS`, one row after the other."""
        self._known_kinds: dict[tuple[int, bytes], int] = {}

    def check_block(self, split: Split, block: RowBlock) -> None:
        """Remember where the text of each row lies in its sample."""
        split_index = READING_ORDER.index(split)
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            if row.added.problem:
                continue
            if (rows := self._rows_of_sample.get(metadata["sample"])) is None:
                rows = self._rows_of_sample[metadata["sample"]] = array("Q")
            control_count = FIM_SENTINELS if "hole" in metadata else 0
            text_length = metadata["length"] - metadata.get("context", 0) - control_count
            kind = self._kind(metadata["window_size"], _task_bytes(row))
            rows.extend((4 * row.index + split_index, metadata["token_start"], text_length, kind))

    def finish(self) -> Iterator[Finding]:
        """Propose pairs of rows and compare them."""
        rows, samples, minima = self._collect_minima()
        sample_ids = list(self._rows_of_sample)
        threshold = self.context.recipe.dedup.near or 1.0
        finding_threshold = (1 + threshold) / 2
        near_count = finding_count = 0

        def row_tokens(row: int) -> NDArray[np.int32]:
            sample = self.samples.by_id[sample_ids[samples[row]]]
            _, start, length, _ = rows[row].tolist()
            text = sample.tokens[start : start + length]
            return np.concatenate((sample.context_prefix, text)) if sample.metadata.get("is_evolution") else text

        pairs = propose_pairs(minima, samples)
        batches = [pairs[first : first + PAIRS_PER_TASK] for first in range(0, len(pairs), PAIRS_PER_TASK)]
        tasks = ((batch, {row: row_tokens(row) for row in sorted({*chain.from_iterable(batch)})}) for batch in batches)
        similarities = chain.from_iterable(self.context.run_safe_tasks(jaccard_similarities, tasks))
        for (left, right), similarity in zip(pairs, similarities, strict=True):
            if similarity == 1 and np.array_equal(row_tokens(left), row_tokens(right)):
                continue  # an exact duplicate, which `duplicates` reports
            near_count += similarity >= threshold
            if similarity >= finding_threshold:
                finding_count += 1
                codes = int(rows[left, 0]), int(rows[right, 0])
                first, second = sorted(codes, key=lambda code: (code % 4, code // 4))  # as they are read
                problem = f"{similarity:.3f} like {_row_place(self.dataset, first)}"
                yield self.finding(_row_place(self.dataset, second), problem)
        near = f"{near_count} of {len(rows):,} rows are {threshold:g} like another"
        self.figure = f"{near}, {finding_count} are {finding_threshold:g}"

    def _kind(self, window_size: int, task: bytes) -> int:
        known = self._known_kinds.get((window_size, task))
        if known is None:
            known = int.from_bytes(blake2b(b"%d " % window_size + task, digest_size=8).digest(), "little")
            if len(task) < MAX_SHARED_TASK_BYTES:
                self._known_kinds[window_size, task] = known
        return known

    def _collect_minima(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint32]]:
        """All rows that have a shingle: their numbers, the index of the sample of each, and its minima.

        The numbers are those of `SPAN_COLUMNS`, shape (rows, 4). The minima, shape (rows, 8), are mixed with the row's
        kind, so that only rows of one kind can be equal.
        """
        kept_rows = [np.empty((0, len(SPAN_COLUMNS)), dtype=np.int64)]
        kept_samples = [np.empty(0, dtype=np.int64)]

        def tasks() -> Iterator[Spans]:
            first_index = 0
            for batch in sample_batches(self.samples.by_id[sample_id] for sample_id in self._rows_of_sample):
                arrays = [np.frombuffer(self._rows_of_sample[sample.id], np.int64) for sample in batch]
                rows = np.concatenate(arrays).reshape(-1, len(SPAN_COLUMNS))
                row_counts = [len(values) // len(SPAN_COLUMNS) for values in arrays]
                sizes = np.array([sample.length for sample in batch], dtype=np.int64)
                # The texts are joined. Texts of 9 and 6 tokens begin at 0 and 9; the shingles of the first end at 5,
                # because later ones would reach into the second.
                text_start = np.cumsum(sizes) - sizes
                text_stop = text_start + np.maximum(0, sizes - SHINGLE_TOKENS + 1)
                start = np.repeat(text_start, row_counts) + rows[:, 1]
                stop = np.minimum(np.repeat(text_stop, row_counts), start + rows[:, 2] - SHINGLE_TOKENS + 1)
                has_shingle = start < stop
                kept_rows.append(rows[has_shingle])
                indices = np.arange(first_index, first_index + len(batch))
                kept_samples.append(np.repeat(indices, row_counts)[has_shingle])
                first_index += len(batch)
                tokens = np.concatenate([sample.tokens[: sample.length] for sample in batch])
                yield tokens, start[has_shingle], stop[has_shingle]

        no_minima = np.empty((0, len(MINHASH_FACTORS)), dtype=np.uint32)
        minima = np.concatenate([no_minima, *self.context.run_safe_tasks(row_minima, tasks())])
        rows = np.concatenate(kept_rows)
        return rows, np.concatenate(kept_samples), minima ^ rows[:, 3:].astype(np.uint32)


def _row_place(dataset: Dataset, code: int) -> str:
    return dataset.row_location(READING_ORDER[code % 4], code // 4)


def _task_bytes(row: BulkRow) -> bytes:
    """What tells the task of a row from that of another row with the same text.

    It is the masked middle, or the context prefix; the prefix of a diff is compared as text instead, and the header of
    a file does not count.
    """
    metadata = row.metadata
    if "scored" in metadata:
        return str(metadata["sample"]).encode()  # a changed file repeats what it had before
    length, hole = metadata["length"], metadata.get("hole")
    if hole:
        return row.token_ids[length - 1 - (hole[1] - hole[0]) : length - 1].tobytes()
    if metadata["augmentation_type"] == "git_diff":
        return b"change"
    if metadata["augmentation_type"] == BASE:
        return b""
    context = metadata.get("context", 0)
    return row.token_ids[:context].tobytes() if context else b""


def row_minima(spans: Spans) -> NDArray[np.uint32]:
    """The smallest shingle hash of each row under each permutation, shape (rows, 8). Runs in workers, too."""
    tokens, start, stop = spans
    hashes = (shingle_hashes(tokens.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)
    hashes = np.append(hashes, np.zeros(SHINGLE_TOKENS, np.uint32))
    minima = np.empty((len(start), len(MINHASH_FACTORS)), dtype=np.uint32)
    # `reduceat` gives one minimum from each edge to the next, so every second one is that of a row: the edges
    # [0, 5, 3, 8] of two rows give minima of [0, 5), of no row, of [3, 8), and of the rest.
    edges = np.column_stack((start, stop)).ravel()
    for column, factor in enumerate(MINHASH_FACTORS if len(edges) else ()):
        minima[:, column] = np.minimum.reduceat(hashes * factor, edges)[::2]
    return minima


def jaccard_similarities(task: tuple[list[tuple[int, int]], dict[int, NDArray[np.int32]]]) -> list[float]:
    """The Jaccard similarity, 0 to 1, of each pair of rows, given pairs and tokens of rows. Runs in workers, too."""
    pairs, texts = task
    hashes = shingle_hashes(np.concatenate(list(texts.values())).astype(np.uint64))
    sets: dict[int, NDArray[np.uint64]] = {}
    start = 0
    for row, text in texts.items():
        sets[row] = sorted_unique(hashes[start : start + max(0, len(text) - SHINGLE_TOKENS + 1)])
        start += len(text)
    similarities: list[float] = []
    for left, right in pairs:
        both = np.sort(np.concatenate((sets[left], sets[right])))
        common = int(np.count_nonzero(both[1:] == both[:-1]))
        similarities.append(common / max(1, len(both) - common))
    return similarities


def propose_pairs(minima: NDArray[np.uint32], samples: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Find pairs of rows of different samples that have at least 7 of 8 minima in common.

    If at most one of eight differs, the first four are equal or the last four are. So rows are sorted by a hash of each
    half, and rows with equal hashes are compared with their neighbours.
    """
    half = minima.shape[1] // 2
    codes: list[NDArray[np.int64]] = []
    for columns in (minima[:, :half], minima[:, half:]):
        keys = np.zeros(len(columns), dtype=np.uint64)
        for column in columns.T:
            keys = (keys ^ (keys >> np.uint64(32))) * KEY_FACTOR + column
        order = np.argsort(keys, kind="stable")
        sorted_keys = keys[order]
        for distance in range(1, COMPARED_NEIGHBOURS + 1):
            same_key = np.flatnonzero(sorted_keys[distance:] == sorted_keys[:-distance])
            left, right = order[same_key], order[same_key + distance]
            differ = samples[left] != samples[right]
            left, right = left[differ], right[differ]
            is_near = (minima[left] == minima[right]).sum(axis=1) >= MIN_EQUAL_MINIMA
            left, right = left[is_near], right[is_near]
            codes.append(np.minimum(left, right) * len(samples) + np.maximum(left, right))
    return [divmod(code, len(samples)) for code in sorted_unique(np.concatenate(codes)).tolist()]
