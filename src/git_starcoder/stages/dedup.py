"""The dedup step: drops rows that repeat another row, and held-out rows that nearly repeat a training row.

Rows are taken in order of preference: train before val before test, a file's own text before its variations, core
before other roles, newer before older, then by path. A row that repeats an earlier one is dropped, and the drop names
the row that stays, its keeper: as `exact` or `near` if both have the same split, as `leak` if they do not.

Near-duplicates are searched among rows of one size and one task: plain rows among plain rows, masked rows among those
that mask the same tokens, changes among changes, rows with a context prefix among those with the same prefix. Windows
that overlap in one text are alike because the recipe wants it, and are not compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import members_by_value, run_offsets, run_positions
from git_starcoder.hashing.near_duplicates import find_keepers
from git_starcoder.records import printable_path
from git_starcoder.stages.row_table import JoinedRows, RowTable, cached_bucket_keys, describe_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.hashing.arrays import JoinedArray
    from git_starcoder.hashing.near_duplicates import Keepers
    from git_starcoder.recipe import DedupOptions
    from git_starcoder.records import Windows
    from git_starcoder.stages.row_table import RowColumns

    RowIndexes = NDArray[np.int64]

TOKENS_PER_COMPARISON = 1 << 20
"""Tokens that are compared at a time, which bounds the memory for copies of them."""


class RowDecisions(NamedTuple):
    """The rows of one repository that repeat another row. All three have one element for each of these rows."""

    rows: RowIndexes
    """Indexes of the rows, ascending."""
    reasons: list[str]
    details: list[str]
    """The row that stays and how similar it is, for people."""


def drop_duplicates(build: BuildState, options: DedupOptions, windows: Windows) -> Windows:
    """The windows that repeat no other, in the same order.

    A copy of a row of another split is a leak and is dropped even if the recipe keeps exact copies.
    """
    with build.count_step("dedup", len(windows)) as step:
        table = describe_rows(build, options, windows)
        [decisions] = join_rows(build, step, options, [table])
        return apply_decisions(step, windows, decisions)


def describe_rows(build: BuildState, options: DedupOptions, windows: Windows, name: str = "") -> RowTable:
    """What the join needs to know of the rows of one repository."""
    columns = describe_columns(windows, is_near_wanted=options.near is not None)
    keys = np.zeros((len(windows), 0), dtype=np.uint64)
    if options.near is not None:
        order = np.argsort(columns.preference)
        # A row that repeats one of its own repository is not searched for near-duplicates.
        rows = order[_find_repeated(windows.tokens, columns, order, options)[order] < 0]
        keys = cached_bucket_keys(build, windows, columns, rows, options.near)
    paths = [sample.origin.path for sample in windows.samples]
    return RowTable(name, windows.tokens, columns, keys, paths, [sample.technique for sample in windows.samples])


def join_rows(
    build: BuildState, step: StepCounts, options: DedupOptions, tables: Sequence[RowTable]
) -> list[RowDecisions]:
    """The rows of each repository that repeat another row.

    `tables` are in the order in which their repositories keep what several of them have.
    """
    joined = JoinedRows.from_tables(tables)
    columns, order = joined.rows, joined.preference_order()
    keeper = _find_repeated(joined.tokens, columns, order, options)
    similarity = np.where(keeper < 0, 0.0, 1.0)
    is_near = np.zeros(len(keeper), dtype=np.bool_)
    if options.near is not None:
        near_keeper, near_similarity = _find_near_copies(build, step, joined, order[keeper[order] < 0], options.near)
        # A copy of a row that is itself dropped as near gets the keeper of that row.
        original = np.where(keeper < 0, np.arange(len(keeper)), keeper)
        is_near = near_keeper[original] >= 0
        keeper = np.where(is_near, near_keeper[original], keeper)
        similarity = np.where(is_near, near_similarity[original], similarity)
    dropped = np.flatnonzero(keeper >= 0)
    kept = keeper[dropped]
    is_leak = columns.split[dropped] != columns.split[kept]
    reasons: list[str] = np.select([is_leak, is_near[dropped]], ["leak", "near"], "exact").tolist()
    details = [
        f"{printable_path(stays)} ({technique}), similarity {value:.3f}"
        for (stays, technique), value in zip(joined.names(kept), similarity[dropped].tolist(), strict=True)
    ]
    cuts = np.searchsorted(dropped, joined.first_row).tolist()
    return [
        RowDecisions(dropped[begin:end] - first, reasons[begin:end], details[begin:end])
        for begin, end, first in zip(cuts, cuts[1:], joined.first_row, strict=False)
    ]


def apply_decisions(step: StepCounts, windows: Windows, decisions: RowDecisions) -> Windows:
    """The windows of one repository that stay after the join."""
    keys = windows.content_key[decisions.rows].tolist()
    samples: list[int] = windows.sample_index[decisions.rows].tolist()
    for key, sample, reason, detail in zip(keys, samples, decisions.reasons, decisions.details, strict=True):
        step.drop(f"{windows.samples[sample].origin.path}#{key:016x}", reason, detail)
    stays = np.ones(len(windows), dtype=np.bool_)
    stays[decisions.rows] = False
    step.keep(len(windows) - len(decisions.rows))
    return windows.take(stays)


def _find_repeated(
    tokens: NDArray[Any] | JoinedArray, rows: RowColumns, order: RowIndexes, options: DedupOptions
) -> RowIndexes:
    """For each row the one that stays in its place because it has the same content, or -1."""
    keeper = find_exact_copies(tokens, rows, order)
    if not options.exact:
        keeper[rows.split[keeper] == rows.split] = -1
    return keeper


def find_exact_copies(tokens: NDArray[Any] | JoinedArray, rows: RowColumns, order: RowIndexes) -> RowIndexes:
    """For each row the first row in `order` with the same content, or -1 if it is the first itself.

    Rows with equal keys are compared token by token, because keys may collide. Each round compares all rows of a key
    with the first of them; those that differ are left for the next round.
    """
    keeper = np.full(len(order), -1, dtype=np.int64)
    pending = order[np.argsort(rows.content_key[order], kind="stable")]
    while len(pending):
        keys = rows.content_key[pending]
        first = pending[np.searchsorted(keys, keys)]  # keys [3, 3, 5] -> the rows at [0, 0, 2]
        others = first != pending
        pending, first = pending[others], first[others]
        is_same = are_equal(tokens, rows, first, pending)
        keeper[pending[is_same]] = first[is_same]
        pending = pending[~is_same]
    return keeper


def are_equal(
    tokens: NDArray[Any] | JoinedArray, rows: RowColumns, left: RowIndexes, right: RowIndexes
) -> NDArray[np.bool_]:
    """Whether the rows of each pair would be written with the same tokens, apart from headers; shape (pairs,)."""
    is_same = np.ones(len(left), dtype=np.bool_)
    for column in (rows.length, rows.size, rows.prefix_length, rows.mask_start, rows.mask_stop):
        is_same &= column[left] == column[right]
    for first, length in ((rows.prefix_start, rows.prefix_length), (rows.token_start, rows.length)):
        pairs = np.flatnonzero(is_same)
        is_same[pairs] = _are_runs_equal(tokens, first[left[pairs]], first[right[pairs]], length[left[pairs]])
    return is_same


def _are_runs_equal(
    tokens: NDArray[Any] | JoinedArray, left: RowIndexes, right: RowIndexes, length: NDArray[Any]
) -> NDArray[np.bool_]:
    """Whether the two runs of tokens of each pair, which have the same length, are the same."""
    is_same = np.ones(len(left), dtype=np.bool_)
    step = max(1, TOKENS_PER_COMPARISON // max(1, int(length.max(initial=0))))
    for start in range(0, len(left), step):
        chunk = slice(start, start + step)
        offsets = run_offsets(length[chunk].astype(np.int64))  # lengths [3, 2] -> offsets [0, 3, 5]
        differs = tokens[run_positions(left[chunk], offsets)] != tokens[run_positions(right[chunk], offsets)]
        # differs [0, 1, 0, 0, 0] -> counts before each token [0, 0, 1, 1, 1, 1], at the offsets [0, 1, 1]: the count
        # grows over the first run, which therefore differs, and not over the second.
        difference_counts = run_offsets(differs.astype(np.int64))
        is_same[chunk] = difference_counts[offsets[1:]] == difference_counts[offsets[:-1]]
    return is_same


def _find_near_copies(
    build: BuildState, step: StepCounts, joined: JoinedRows, rows: RowIndexes, threshold: float
) -> tuple[RowIndexes, NDArray[np.float64]]:
    """The near-duplicate keeper of each row and their similarity, or -1 and 0; both of shape (all rows,).

    `rows` are those to search, in order of preference.
    """
    size = joined.rows.size[rows]

    def search_size(wanted: int) -> tuple[RowIndexes, Keepers]:
        some_rows = rows[size == wanted]
        keys = np.empty((len(some_rows), joined.tables[0].bucket_keys.shape[1]), dtype=np.uint64)
        for index, own in members_by_value(joined.table_of_row[some_rows]):
            keys[own] = joined.tables[index].bucket_keys[some_rows[own] - joined.first_row[index]]
        are_spared = partial(_do_overlap, joined.rows, some_rows)
        return some_rows, find_keepers(joined.shingles(some_rows), threshold, are_spared, keys)

    keeper, similarity = np.full(len(joined.table_of_row), -1, dtype=np.int64), np.zeros(len(joined.table_of_row))
    step.figures["near_compared"] = step.figures["near_limited"] = 0
    with ThreadPoolExecutor(build.engine.jobs) as threads:  # numpy lets them run at the same time
        for some_rows, found in threads.map(search_size, sorted(set(joined.rows.size.tolist()))):
            step.figures["near_compared"] += found.compared
            step.figures["near_limited"] += found.limited
            keeper[some_rows] = np.where(found.keeper < 0, -1, some_rows[found.keeper])
            similarity[some_rows] = found.similarity
    return keeper, similarity


def _do_overlap(columns: RowColumns, rows: RowIndexes, left: RowIndexes, right: RowIndexes) -> NDArray[np.bool_]:
    """Whether the rows of each pair, given as indexes into `rows`, are windows of one text that overlap."""
    one, other = rows[left], rows[right]
    begin = np.maximum(columns.token_start[one], columns.token_start[other])
    end = np.minimum(columns.token_start[one] + columns.length[one], columns.token_start[other] + columns.length[other])
    return (columns.sample[one] == columns.sample[other]) & (begin < end)
