"""The table of a repository's rows: what the dedup step compares rows by. Tables of several repositories are joined."""

from __future__ import annotations

from dataclasses import dataclass, fields
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from git_starcoder.hashing.arrays import JoinedArray, run_offsets
from git_starcoder.hashing.bands import band_keys, band_shape
from git_starcoder.hashing.texts import WindowShingles
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.protocols import Failure
from git_starcoder.records import SPLITS, Change, Role, cache_groups, dataset_path
from git_starcoder.row_layout import BASE
from git_starcoder.stages.order import split_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState
    from git_starcoder.memo import Inputs
    from git_starcoder.records import Sample, Windows

    RowIndexes = NDArray[np.int64]

GROUPS_PER_SKETCH_TASK = 32
"""Cache groups of samples whose windows are sketched in one task."""
SKETCH_TIMEOUT_SECONDS = 120.0
"""Time limit of a task. Its work is limited by its bytes; this is for hangs."""
ROLE_PREFERENCE: tuple[Role, ...] = get_args(Role)
"""Roles from the most to the least worth keeping."""


@dataclass(frozen=True, slots=True)
class RowColumns:
    """What rows are compared by. Each array has shape (rows,); places are indexes into the tokens."""

    content_key: NDArray[np.uint64]
    size: NDArray[np.int32]
    token_start: NDArray[np.int64]
    """Where the text of the row begins."""
    length: NDArray[np.int32]
    """Tokens of the text."""
    prefix_start: NDArray[np.int64]
    """Where the context prefix begins."""
    prefix_length: NDArray[np.int32]
    """Tokens of the context prefix that belong to the content of the row; see `task_prefix_lengths`."""
    compared_start: NDArray[np.int64]
    """Where the tokens begin that near-duplicates are searched by. A change is compared with its prefix."""
    compared_length: NDArray[np.int32]
    mask_start: NDArray[np.int32]
    mask_stop: NDArray[np.int32]
    task: NDArray[np.uint64]
    """What the row asks of a model; zeros if near-duplicates are not searched. See `_task_numbers`."""
    sample: NDArray[np.int32]
    """The index of the sample."""
    split: NDArray[np.int8]
    tier: NDArray[np.int8]
    """How much the row is worth keeping, 0 the most, by split, technique and role."""
    preference: NDArray[np.int32]
    """The place of the row in the order of preference of its repository."""


class RowTable(NamedTuple):
    """The rows of one repository."""

    name: str
    """The name of the repository; empty if the dataset has only this one."""
    tokens: NDArray[Any]
    rows: RowColumns
    bucket_keys: NDArray[np.uint64]
    """The keys of the near-duplicate buckets of each row, shape (rows, bands); zeros for an exact copy."""
    paths: list[str]
    """The path of each sample."""
    techniques: list[str]
    """The technique of each sample."""

    def sample_name(self, sample: int) -> str:
        """The path of a sample in the dataset."""
        return dataset_path(self.name, self.paths[sample])


class JoinedRows(NamedTuple):
    """The rows of several repositories, numbered one repository after another."""

    tables: Sequence[RowTable]
    first_row: list[int]
    """The number of the first row of each repository, and of all rows."""
    first_sample: list[int]
    tokens: NDArray[Any] | JoinedArray
    """The tokens of all repositories, one after another."""
    rows: RowColumns
    """Places and samples are counted over all repositories."""
    table_of_row: NDArray[np.int64]

    @classmethod
    def from_tables(cls, tables: Sequence[RowTable]) -> JoinedRows:
        """Join the tables of repositories. A single table is used as it is."""
        first_row = run_offsets(_lengths([table.rows.size for table in tables])).tolist()
        first_sample = run_offsets(_lengths([table.paths for table in tables])).tolist()
        table_of_row = np.repeat(np.arange(len(tables)), np.diff(first_row))
        if len(tables) == 1:
            return cls(tables, first_row, first_sample, tables[0].tokens, tables[0].rows, table_of_row)
        tokens = JoinedArray([table.tokens for table in tables])
        offsets: dict[str, NDArray[Any]] = dict.fromkeys(
            ("token_start", "prefix_start", "compared_start"), tokens.offsets[:-1]
        )
        offsets["sample"] = np.array(first_sample[:-1], dtype=np.int32)
        columns: dict[str, NDArray[Any]] = {}
        for field in fields(RowColumns):
            parts = [np.asarray(getattr(table.rows, field.name)) for table in tables]
            if field.name in offsets:
                parts = [part + offset for part, offset in zip(parts, offsets[field.name].tolist(), strict=True)]
            columns[field.name] = np.concatenate(parts)
        return cls(tables, first_row, first_sample, tokens, RowColumns(**columns), table_of_row)

    def shingles(self, rows: RowIndexes) -> WindowShingles:
        """The shingles of some rows."""
        return shingles_of(self.tokens, self.rows, rows)

    def preference_order(self) -> RowIndexes:
        """All rows, those to keep before those to drop: by tier, then by repository. It depends only on the rows."""
        return np.lexsort((self.rows.preference, self.table_of_row, self.rows.tier))

    def names(self, rows: RowIndexes) -> Iterator[tuple[str, str]]:
        """The path of each row in the dataset with its content key, and its technique."""
        keys: list[int] = self.rows.content_key[rows].tolist()
        indexes: list[int] = self.table_of_row[rows].tolist()
        samples: list[int] = self.rows.sample[rows].tolist()
        for index, sample, key in zip(indexes, samples, keys, strict=True):
            table, own_sample = self.tables[index], sample - self.first_sample[index]
            yield f"{table.sample_name(own_sample)}#{key:016x}", table.techniques[own_sample]


def _lengths(parts: Sequence[Any]) -> NDArray[np.int64]:
    return np.array([len(part) for part in parts], dtype=np.int64)


def shingles_of(tokens: NDArray[Any] | JoinedArray, columns: RowColumns, rows: RowIndexes) -> WindowShingles:
    """The shingles of some rows."""
    return WindowShingles(tokens, columns.compared_start[rows], columns.compared_length[rows], columns.task[rows])


def describe_columns(windows: Windows, *, is_near_wanted: bool) -> RowColumns:
    """What the windows of one repository are compared by."""
    of_sample = np.array([isinstance(sample.origin, Change) for sample in windows.samples], dtype=bool)
    is_change = of_sample[windows.sample_index]
    prefix_start = windows.prefix_starts[windows.sample_index]
    tier, preference = _preferences(windows)
    return RowColumns(
        content_key=windows.content_key,
        size=windows.size,
        token_start=windows.token_start,
        length=windows.length,
        prefix_start=prefix_start,
        prefix_length=task_prefix_lengths(windows),
        compared_start=np.where(is_change, prefix_start, windows.token_start),
        compared_length=windows.length + np.where(is_change, windows.prefix_length, np.int32(0)),
        mask_start=windows.mask_start,
        mask_stop=windows.mask_stop,
        task=_task_numbers(windows, is_change) if is_near_wanted else np.zeros(len(windows), dtype=np.uint64),
        sample=windows.sample_index,
        split=split_numbers(windows),
        tier=tier,
        preference=preference,
    )


def task_prefix_lengths(windows: Windows) -> NDArray[np.int32]:
    """The tokens of each row's context prefix that belong to its content, shape (windows,).

    The header of a file does not: a text under two paths is one text.
    """
    is_base = np.array([sample.technique == BASE for sample in windows.samples], dtype=bool)
    return np.where(is_base[windows.sample_index], np.int32(0), windows.prefix_length)


def partial_sample_key(sample: Sample) -> int:
    """A number of 64 bits that only the rows of this sample have, if only a part of it is scored; else 0.

    Such rows repeat training rows, because a changed file has lines that it had before. They are not dropped for it.
    """
    return int(sample.id[:16], 16) if sample.scored_spans else 0


def _preferences(windows: Windows) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """The `tier` and the `preference` of each window. The order is total and does not depend on the order of rows."""
    tiers: list[int] = []
    keys: list[tuple[int, int, str, str, str]] = []
    for sample in windows.samples:
        file, technique = sample.origin, sample.technique
        place = SPLITS.index(file.split), technique != BASE, ROLE_PREFERENCE.index(file.role)
        tiers.append((place[0] * 2 + place[1]) * len(ROLE_PREFERENCE) + place[2])
        keys.append((tiers[-1], -file.changed_at, file.path, technique, sample.id))
    rank = np.empty(len(keys), dtype=np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    # np.lexsort sorts by its last key first.
    order = np.lexsort(
        (windows.mask_stop, windows.mask_start, windows.sample_offset, windows.size, rank[windows.sample_index])
    )
    preference = np.empty(len(order), dtype=np.int32)
    preference[order] = np.arange(len(order))
    return np.array(tiers, dtype=np.int8)[windows.sample_index], preference


def _task_numbers(windows: Windows, is_change: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A number for what each row asks of a model. Only rows with the same number are compared.

    It is 0 for a plain row, with or without a header, and for a change, which is compared with its prefix; for a masked
    row it is a hash of its masked tokens, for another row with a prefix a hash of its prefix, and for a row of a sample
    of which only a part is scored its `partial_sample_key`.
    """
    tasks = np.zeros(len(windows), dtype=np.uint64)
    prefix_starts = windows.prefix_starts[windows.sample_index]
    has_prefix = task_prefix_lengths(windows) > 0
    first = np.where(has_prefix, prefix_starts, windows.token_start + windows.mask_start)
    stop = np.where(has_prefix, prefix_starts + windows.prefix_length, windows.token_start + windows.mask_stop)
    for row in np.flatnonzero((windows.mask_start >= 0) | has_prefix & ~is_change).tolist():
        data = np.asarray(windows.tokens[first[row] : stop[row]], dtype="<u4").tobytes()
        tasks[row] = int.from_bytes(blake2b(data, digest_size=8).digest())
    own = np.array([partial_sample_key(sample) for sample in windows.samples], dtype=np.uint64)[windows.sample_index]
    return np.where(own > 0, own, tasks)


def cached_bucket_keys(
    build: BuildState, windows: Windows, columns: RowColumns, rows: RowIndexes, threshold: float
) -> NDArray[np.uint64]:
    """The keys of the near-duplicate buckets of some rows: from the cache or from workers.

    The rows of one cache group of samples are one entry of the cache. The result has shape (windows, bands), with zeros
    for all other rows.
    """
    memo: Memo[bytes] = Memo(build.cache, "buckets", bytes)
    shingles = shingles_of(windows.tokens, columns, rows)
    group_sizes = [len(group) for group in cache_groups(windows.samples)]
    group_of_sample = np.repeat(np.arange(len(group_sizes)), group_sizes)
    group_of_row = group_of_sample[windows.sample_index[rows]]
    order = np.argsort(group_of_row, kind="stable")
    edges = np.flatnonzero(np.diff(group_of_row[order])) + 1  # groups [4, 4, 7] -> edges [2]
    groups = np.split(order, edges) if len(rows) else []
    width = band_shape(threshold)[0]

    def key(group: RowIndexes) -> Inputs:
        return (f"{threshold}", windows.content_key[rows[group]].tobytes(), shingles.salt[group].tobytes())

    def compute(missing: list[RowIndexes]) -> Iterator[bytes]:
        parts = list(batch_by_size(missing, lambda _: 1, GROUPS_PER_SKETCH_TASK))
        tasks = ((_windows_of_task(shingles, part), threshold) for part in parts)
        answers = build.engine.map(sketch_windows, tasks, limit=SKETCH_TIMEOUT_SECONDS)
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, Failure):
                answer = sketch_windows((_windows_of_task(shingles, part), threshold))
            ends = np.cumsum([8 * width * len(group) for group in part]).tolist()  # a key has 8 bytes
            yield from (answer[begin:end] for begin, end in pairwise([0, *ends]))

    found = np.zeros((len(windows), width), dtype=np.uint64)
    if groups:
        keys = b"".join(memo.map(groups, key, compute))
        found[rows[order]] = np.frombuffer(keys, dtype="<u8").reshape(len(rows), -1)
    return found


def _windows_of_task(shingles: WindowShingles, groups: Sequence[RowIndexes]) -> WindowShingles:
    """The windows of some groups, one group after another, with only the tokens that they need."""
    tokens: list[NDArray[Any]] = []
    first_in_task: list[RowIndexes] = []
    token_count = 0
    for rows in groups:
        first, stop = shingles.first[rows], shingles.first[rows] + shingles.length[rows]
        low = int(first.min())
        tokens.append(np.asarray(shingles.tokens[low : int(stop.max())]))
        first_in_task.append(first - low + token_count)
        token_count += len(tokens[-1])
    rows = np.concatenate(groups)
    return WindowShingles(
        np.concatenate(tokens), np.concatenate(first_in_task), shingles.length[rows], shingles.salt[rows]
    )


def sketch_windows(task: tuple[WindowShingles, float]) -> bytes:
    """The bucket keys of windows at a threshold, window by window, as little-endian uint64. Runs in a worker."""
    return band_keys(*task).astype("<u8").tobytes()
