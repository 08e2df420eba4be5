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
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from git_starcoder.hashing.arrays import run_offsets, run_positions
from git_starcoder.hashing.near_duplicates import band_keys, band_shape, find_keepers
from git_starcoder.hashing.texts import WindowShingles
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.protocols import Failure
from git_starcoder.records import SPLITS, Change, Role, cache_groups, printable_path
from git_starcoder.row_layout import BASE
from git_starcoder.stages.order import split_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.hashing.near_duplicates import Keepers
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import DedupOptions
    from git_starcoder.records import Windows

    RowIndexes = NDArray[np.int64]

GROUPS_PER_SKETCH_TASK = 32
"""Cache groups of samples whose windows are sketched in one task."""
SKETCH_TIMEOUT_SECONDS = 120.0
"""Time limit of a task. Its work is limited by its bytes; this is for hangs."""
TOKENS_PER_COMPARISON = 1 << 20
"""Tokens that are compared at a time, which bounds the memory for copies of them."""
ROLE_PREFERENCE: tuple[Role, ...] = get_args(Role)
"""Roles from the most to the least worth keeping."""


def drop_duplicates(build: BuildState, options: DedupOptions, windows: Windows) -> Windows:
    """The windows that repeat no other, in the same order.

    A copy of a row of another split is a leak and is dropped even if the recipe keeps exact copies.
    """
    with build.count_step("dedup", len(windows)) as step:
        order = preference_order(windows)
        split = split_numbers(windows)
        keeper = find_exact_copies(windows, order)
        if not options.exact:
            keeper[split[keeper] == split] = -1
        similarity = np.where(keeper < 0, 0.0, 1.0)
        is_near = np.zeros(len(windows), dtype=np.bool_)
        if options.near is not None:
            rows = order[keeper[order] < 0]
            near_keeper, near_similarity = _find_near_copies(build, windows, rows, options.near, step)
            # A copy of a row that is itself dropped as near gets the keeper of that row.
            original = np.where(keeper < 0, np.arange(len(windows)), keeper)
            is_near = near_keeper[original] >= 0
            keeper = np.where(is_near, near_keeper[original], keeper)
            similarity = np.where(is_near, near_similarity[original], similarity)
        dropped = np.flatnonzero(keeper >= 0)
        kept = keeper[dropped]
        reasons = np.select([split[dropped] != split[kept], is_near[dropped]], ["leak", "near"], "exact").tolist()
        rows_of_drops = zip(_row_names(windows, dropped), _row_names(windows, kept), strict=True)
        values: list[float] = similarity[dropped].tolist()
        for ((name, _), (stays, technique)), reason, value in zip(rows_of_drops, reasons, values, strict=True):
            step.drop(name, reason, f"{printable_path(stays)} ({technique}), similarity {value:.3f}")
        step.keep(len(windows) - len(dropped))
        return windows.take(keeper < 0)


def task_prefix_lengths(windows: Windows) -> NDArray[np.int32]:
    """The tokens of each row's context prefix that belong to its content, shape (windows,).

    The header of a file does not: a text under two paths is one text.
    """
    is_base = np.array([sample.technique == BASE for sample in windows.samples], dtype=bool)
    return np.where(is_base[windows.sample_index], np.int32(0), windows.prefix_length)


def preference_order(windows: Windows) -> RowIndexes:
    """All rows, those to keep before those to drop. It is a total order that does not depend on the order of rows."""
    keys: list[tuple[int, bool, int, int, str, str, str]] = []
    for sample in windows.samples:
        file, technique = sample.origin, sample.technique
        split, role = SPLITS.index(file.split), ROLE_PREFERENCE.index(file.role)
        keys.append((split, technique != BASE, role, -file.changed_at, file.path, technique, sample.id))
    rank = np.empty(len(keys), dtype=np.int64)
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(keys))
    # np.lexsort sorts by its last key first.
    return np.lexsort(
        (windows.mask_stop, windows.mask_start, windows.sample_offset, windows.size, rank[windows.sample_index])
    )


def find_exact_copies(windows: Windows, order: RowIndexes) -> RowIndexes:
    """For each row the first row in `order` with the same content, or -1 if it is the first itself.

    Rows with equal keys are compared token by token, because keys may collide. Each round compares all rows of a key
    with the first of them; those that differ are left for the next round.
    """
    keeper = np.full(len(windows), -1, dtype=np.int64)
    pending = order[np.argsort(windows.content_key[order], kind="stable")]
    while len(pending):
        keys = windows.content_key[pending]
        first = pending[np.searchsorted(keys, keys)]  # keys [3, 3, 5] -> the rows at [0, 0, 2]
        others = first != pending
        pending, first = pending[others], first[others]
        is_same = are_equal(windows, first, pending)
        keeper[pending[is_same]] = first[is_same]
        pending = pending[~is_same]
    return keeper


def are_equal(windows: Windows, left: RowIndexes, right: RowIndexes) -> NDArray[np.bool_]:
    """Whether the rows of each pair would be written with the same tokens, apart from headers; shape (pairs,)."""
    is_same = np.ones(len(left), dtype=np.bool_)
    prefix_length = task_prefix_lengths(windows)
    for column in (windows.length, windows.size, prefix_length, windows.mask_start, windows.mask_stop):
        is_same &= column[left] == column[right]
    prefix_starts = windows.prefix_starts[windows.sample_index]
    for first, length in ((prefix_starts, prefix_length), (windows.token_start, windows.length)):
        pairs = np.flatnonzero(is_same)
        is_same[pairs] = _are_runs_equal(windows.tokens, first[left[pairs]], first[right[pairs]], length[left[pairs]])
    return is_same


def _are_runs_equal(
    tokens: NDArray[Any], left: RowIndexes, right: RowIndexes, length: NDArray[Any]
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
    build: BuildState, windows: Windows, rows: RowIndexes, threshold: float, step: StepCounts
) -> tuple[RowIndexes, NDArray[np.float64]]:
    """The near-duplicate keeper of each window and their similarity, or -1 and 0; both of shape (windows,).

    `rows` are the windows to search, in order of preference.
    """
    of_sample = np.array([isinstance(sample.origin, Change) for sample in windows.samples], dtype=bool)
    is_change = of_sample[windows.sample_index]
    # The text of a change is compared together with its prefix, which lies before it.
    first = np.where(is_change, windows.prefix_starts[windows.sample_index], windows.token_start)
    length = windows.length.astype(np.int64) + np.where(is_change, windows.prefix_length, 0)
    tasks = _task_numbers(windows, is_change)

    def shingles_of(some_rows: RowIndexes) -> WindowShingles:
        return WindowShingles(windows.tokens, first[some_rows], length[some_rows], tasks[some_rows])

    keys = _cached_bucket_keys(build, windows, rows, shingles_of(rows), threshold)

    def search_size(size: int) -> tuple[RowIndexes, Keepers]:
        has_size = windows.size[rows] == size
        some_rows = rows[has_size]
        are_spared = partial(_do_overlap, windows, some_rows)
        return some_rows, find_keepers(shingles_of(some_rows), threshold, are_spared, keys[has_size])

    keeper, similarity = np.full(len(windows), -1, dtype=np.int64), np.zeros(len(windows))
    step.figures["near_compared"] = step.figures["near_limited"] = 0
    with ThreadPoolExecutor(build.engine.jobs) as threads:  # numpy lets them run at the same time
        for some_rows, found in threads.map(search_size, sorted(set(windows.size.tolist()))):
            step.figures["near_compared"] += found.compared
            step.figures["near_limited"] += found.limited
            keeper[some_rows] = np.where(found.keeper < 0, -1, some_rows[found.keeper])
            similarity[some_rows] = found.similarity
    return keeper, similarity


def _cached_bucket_keys(
    build: BuildState, windows: Windows, rows: RowIndexes, shingles: WindowShingles, threshold: float
) -> NDArray[np.uint64]:
    """The keys of the near-duplicate buckets of some rows, shape (rows, bands): from the cache or from workers.

    The rows of one cache group of samples are one entry of the cache. `shingles` are those of `rows`.
    """
    memo: Memo[bytes] = Memo(build.cache, "buckets", bytes)
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

    found = np.zeros((len(rows), width), dtype=np.uint64)
    if groups:
        keys = b"".join(memo.map(groups, key, compute))
        found[order] = np.frombuffer(keys, dtype="<u8").reshape(len(rows), -1)
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


def _do_overlap(windows: Windows, rows: RowIndexes, left: RowIndexes, right: RowIndexes) -> NDArray[np.bool_]:
    """Whether the rows of each pair, given as indexes into `rows`, are windows of one text that overlap."""
    one, other = rows[left], rows[right]
    begin = np.maximum(windows.token_start[one], windows.token_start[other])
    end = np.minimum(windows.token_start[one] + windows.length[one], windows.token_start[other] + windows.length[other])
    return (windows.sample_index[one] == windows.sample_index[other]) & (begin < end)


def _task_numbers(windows: Windows, is_change: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A number for what each row asks of a model. Only rows with the same number are compared.

    It is 0 for a plain row, with or without a header, and for a change, which is compared with its prefix; for a masked
    row it is a hash of its masked tokens, for another row with a prefix a hash of its prefix.
    """
    tasks = np.zeros(len(windows), dtype=np.uint64)
    prefix_starts = windows.prefix_starts[windows.sample_index]
    has_prefix = task_prefix_lengths(windows) > 0
    first = np.where(has_prefix, prefix_starts, windows.token_start + windows.mask_start)
    stop = np.where(has_prefix, prefix_starts + windows.prefix_length, windows.token_start + windows.mask_stop)
    for row in np.flatnonzero((windows.mask_start >= 0) | has_prefix & ~is_change).tolist():
        data = np.asarray(windows.tokens[first[row] : stop[row]], dtype="<u4").tobytes()
        tasks[row] = int.from_bytes(blake2b(data, digest_size=8).digest())
    return tasks


def _row_names(windows: Windows, rows: RowIndexes) -> Iterator[tuple[str, str]]:
    """The names of rows in drops, and their techniques."""
    keys: list[int] = windows.content_key[rows].tolist()
    sample_indexes: list[int] = windows.sample_index[rows].tolist()
    for key, index in zip(keys, sample_indexes, strict=True):
        sample = windows.samples[index]
        yield f"{sample.origin.path}#{key:016x}", sample.technique
