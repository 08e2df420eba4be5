"""Dedup: no row is another's copy, and no held-out row is a near-copy of one that is learned from.

Rows are walked from the best to the least: train before val before test, a text as it is before its variations, core
before other roles, newer before older, then by path. A row that repeats one kept before it is dropped and names its
keeper: as `exact` or `near` within a split, as `leak` across two.

Near-copies are sought among rows of one size and one task: plain rows among plain rows, masked rows among masked rows
that hide the same tokens, changes among changes, rows with a head among those with the same head. Windows of one text
that overlap are alike because the recipe wants it, and are not compared.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import numpy as np

from git_starcoder.memo import Memo
from git_starcoder.protocols import Failure
from git_starcoder.records import SPLITS, Change, Role, cache_groups, printable_path
from git_starcoder.text.near import bands, keepers, keys_of
from git_starcoder.text.shingles import WindowShingles, offsets_of, positions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.recipe import DedupOptions
    from git_starcoder.records import Sample, Windows
    from git_starcoder.text.near import Keepers

    Rows = NDArray[np.int64]

AT_ONCE = 32
"""Families of samples whose windows a worker looks at together."""
SECONDS = 120.0
"""For those. They are bounded by their bytes; this is for a machine that stands still."""
CELLS = 1 << 20
"""Tokens compared at a time."""
ROLES: tuple[Role, ...] = get_args(Role)


def drop_duplicates(build: BuildState, options: DedupOptions, windows: Windows) -> Windows:
    """Windows in, those that repeat no other out, in the same order.

    A copy of a row of another split is a leak and goes even where the recipe keeps exact copies.
    """
    with build.count_step("dedup", len(windows)) as step:
        order = preference(windows)
        of_sample = np.array([SPLITS.index(sample.origin.split) for sample in windows.samples], dtype=np.int8)
        split = of_sample[windows.sample_index]
        keeper = exact(windows, order)
        if not options.exact:
            keeper[split[keeper] == split] = -1
        similarity = np.where(keeper < 0, 0.0, 1.0)
        is_near = np.zeros(len(windows), dtype=np.bool_)
        if options.near is not None:
            near, values = _near(build, windows, order[keeper[order] < 0], options.near, step)
            # Copies of a row that goes itself are near-copies of the row that stays.
            of = np.where(keeper < 0, np.arange(len(windows)), keeper)
            is_near = near[of] >= 0
            keeper, similarity = np.where(is_near, near[of], keeper), np.where(is_near, values[of], similarity)
        dropped = np.flatnonzero(keeper >= 0)
        kept = keeper[dropped]
        reasons = np.select([split[dropped] != split[kept], is_near[dropped]], ["leak", "near"], "exact").tolist()
        told = zip(_names(windows, dropped), _names(windows, kept), reasons, similarity[dropped].tolist(), strict=True)
        for (name, _), (stays, sample), reason, value in told:
            step.drop(name, reason, f"{printable_path(stays)} ({sample.technique}), similarity {value:.3f}")
        step.keep(len(windows) - len(dropped))
        return windows.take(keeper < 0)


def preference(windows: Windows) -> Rows:
    """All rows, the one to be kept before the one to be dropped. A total order that does not depend on theirs."""

    def worth(at: int) -> tuple[int, bool, int, int, str, str, str]:
        sample: Sample = windows.samples[at]
        origin = sample.origin
        split, role = SPLITS.index(origin.split), ROLES.index(origin.role)
        return split, sample.technique != "base", role, -origin.changed_at, origin.path, sample.technique, sample.id

    rank = np.empty(len(windows.samples), dtype=np.int64)
    rank[sorted(range(len(rank)), key=worth)] = np.arange(len(rank))
    return np.lexsort(
        (windows.mask_stop, windows.mask_start, windows.sample_offset, windows.size, rank[windows.sample_index])
    )


def exact(windows: Windows, order: Rows) -> Rows:
    """For each row the first row with the same content, or -1 where it is the first itself.

    Rows of equal key are compared token by token: a key may lie.
    """
    keeper = np.full(len(windows), -1, dtype=np.int64)
    pending = order[np.argsort(windows.content_key[order], kind="stable")]
    while len(pending):
        keys = windows.content_key[pending]
        first = pending[np.searchsorted(keys, keys)]
        others = first != pending
        pending, first = pending[others], first[others]
        same = equal(windows, first, pending)
        keeper[pending[same]] = first[same]
        pending = pending[~same]
    return keeper


def equal(windows: Windows, left: Rows, right: Rows) -> NDArray[np.bool_]:
    """Whether the rows of each pair would be written with the same tokens."""
    same = np.ones(len(left), dtype=np.bool_)
    for column in (windows.length, windows.size, windows.prefix_length, windows.mask_start, windows.mask_stop):
        same &= column[left] == column[right]
    heads = windows.prefix_starts[windows.sample_index]
    for first, length in ((heads, windows.prefix_length), (windows.token_start, windows.length)):
        pairs = np.flatnonzero(same)
        same[pairs] = _alike(windows.tokens, first[left[pairs]], first[right[pairs]], length[left[pairs]])
    return same


def _alike(tokens: NDArray[Any], left: Rows, right: Rows, length: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the runs of tokens of each pair, which are equally long, are the same."""
    same = np.ones(len(left), dtype=np.bool_)
    step = max(1, CELLS // max(1, int(length.max(initial=0))))
    for start in range(0, len(left), step):
        chunk = slice(start, start + step)
        offsets = offsets_of(length[chunk].astype(np.int64))
        unlike = tokens[positions(left[chunk], offsets)] != tokens[positions(right[chunk], offsets)]
        counts = offsets_of(unlike.astype(np.int64))
        same[chunk] = counts[offsets[1:]] == counts[offsets[:-1]]
    return same


def _near(
    build: BuildState, windows: Windows, rows: Rows, threshold: float, step: StepCounts
) -> tuple[Rows, NDArray[np.float64]]:
    """For each of all rows its keeper and their similarity, or -1 and 0; `rows` are those to look at, best first."""
    # What a change made is compared with its head, which lies before it.
    changes = np.array([isinstance(sample.origin, Change) for sample in windows.samples], dtype=bool)[
        windows.sample_index
    ]
    first = np.where(changes, windows.prefix_starts[windows.sample_index], windows.token_start)
    length = windows.length.astype(np.int64) + np.where(changes, windows.prefix_length, 0)
    tasks = _tasks(windows, changes)
    keeper, similarity = np.full(len(windows), -1, dtype=np.int64), np.zeros(len(windows))
    step.figures["near_compared"] = step.figures["near_limited"] = 0
    keys = _keys(
        build, windows, rows, WindowShingles(windows.tokens, first[rows], length[rows], tasks[rows]), threshold
    )

    def of_size(size: int) -> tuple[Rows, Keepers]:
        mine = windows.size[rows] == size
        some = rows[mine]
        shingles = WindowShingles(windows.tokens, first[some], length[some], tasks[some])
        return some, keepers(shingles, threshold, partial(_overlap, windows, some), keys[mine])

    with ThreadPoolExecutor(build.engine.jobs) as threads:  # numpy lets them run side by side
        for some, found in threads.map(of_size, sorted(set(windows.size.tolist()))):
            step.figures["near_compared"] += found.compared
            step.figures["near_limited"] += found.limited
            keeper[some] = np.where(found.keeper < 0, -1, some[found.keeper])
            similarity[some] = found.similarity
    return keeper, similarity


def _keys(
    build: BuildState, windows: Windows, rows: Rows, shingles: WindowShingles, threshold: float
) -> NDArray[np.uint64]:
    """The keys of the buckets of some rows, shape (rows, bands): as an earlier build found them, or as workers do.

    Those of a family of samples are asked for together.
    """
    memo: Memo[bytes] = Memo(build.cache, "buckets", bytes)
    sizes = [len(family) for family in cache_groups(windows.samples)]
    of_sample = np.repeat(np.arange(len(sizes)), sizes)
    order = np.argsort(of_sample[windows.sample_index[rows]], kind="stable")
    edges = np.flatnonzero(np.diff(of_sample[windows.sample_index[rows[order]]])) + 1
    groups = np.split(order, edges) if len(rows) else []
    inputs = [
        (f"{threshold}", windows.content_key[rows[group]].tobytes(), shingles.salt[group].tobytes()) for group in groups
    ]
    known = memo.get(inputs)
    unknown = [at for at, keys in enumerate(known) if keys is None]
    parts = [unknown[first : first + AT_ONCE] for first in range(0, len(unknown), AT_ONCE)]
    tasks = (_sketch(shingles, [groups[at] for at in part], threshold) for part in parts)
    width = bands(threshold)[0]
    for part, answer in zip(parts, build.engine.map(sketch, tasks, limit=SECONDS), strict=True):
        keys = (
            sketch(_sketch(shingles, [groups[at] for at in part], threshold)) if isinstance(answer, Failure) else answer
        )
        ends = np.cumsum([8 * width * len(groups[at]) for at in part]).tolist()
        for at, begin, end in zip(part, [0, *ends], ends, strict=False):
            known[at] = keys[begin:end]
        memo.put([(inputs[at], known[at] or b"") for at in part])
    found = np.zeros((len(rows), width), dtype=np.uint64)
    if groups:
        found[order] = np.frombuffer(b"".join(keys for keys in known if keys), dtype="<u8").reshape(len(rows), -1)
    return found


class Sketch(NamedTuple):
    """Windows whose buckets are asked for, and the tokens that they are made of."""

    tokens: NDArray[Any]
    first: NDArray[np.int64]
    length: NDArray[np.int64]
    salt: NDArray[np.uint64]
    threshold: float


def _sketch(shingles: WindowShingles, groups: Sequence[Rows], threshold: float) -> Sketch:
    """The windows of some groups, one behind another."""
    tokens: list[NDArray[Any]] = []
    moved: list[Rows] = []
    done = 0
    for rows in groups:
        first, stop = shingles.first[rows], shingles.first[rows] + shingles.length[rows]
        low = int(first.min())
        tokens.append(np.asarray(shingles.tokens[low : int(stop.max())]))
        moved.append(first - low + done)
        done += len(tokens[-1])
    every = np.concatenate(groups)
    return Sketch(
        np.concatenate(tokens), np.concatenate(moved), shingles.length[every], shingles.salt[every], threshold
    )


def sketch(one: Sketch) -> bytes:
    """The keys of the buckets of windows, as little-endian uint64, each window's behind one another. For workers."""
    shingles = WindowShingles(one.tokens, one.first, one.length, one.salt)
    return keys_of(shingles, one.threshold).astype("<u8").tobytes()


def _overlap(windows: Windows, rows: Rows, left: Rows, right: Rows) -> NDArray[np.bool_]:
    """Whether the rows of each pair, told by their places in `rows`, are windows of one text that overlap."""
    a, b = rows[left], rows[right]
    begin = np.maximum(windows.token_start[a], windows.token_start[b])
    end = np.minimum(windows.token_start[a] + windows.length[a], windows.token_start[b] + windows.length[b])
    return (windows.sample_index[a] == windows.sample_index[b]) & (begin < end)


def _tasks(windows: Windows, changes: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """A number for what each row asks of a model: only rows of one task are compared.

    0 for a plain row, and for a change, which is compared with its head. A masked row has that of the tokens it hides,
    and a row with a head that of its head.
    """
    tasks = np.zeros(len(windows), dtype=np.uint64)
    heads = windows.prefix_starts[windows.sample_index]
    for row in np.flatnonzero((windows.mask_start >= 0) | (windows.prefix_length > 0) & ~changes).tolist():
        if windows.prefix_length[row]:
            first, stop = heads[row], heads[row] + windows.prefix_length[row]
        else:
            first, stop = (
                windows.token_start[row] + windows.mask_start[row],
                windows.token_start[row] + windows.mask_stop[row],
            )
        told = np.asarray(windows.tokens[first:stop], dtype="<u4").tobytes()
        tasks[row] = int.from_bytes(blake2b(told, digest_size=8).digest())
    return tasks


def _names(windows: Windows, rows: Rows) -> Iterator[tuple[str, Sample]]:
    """What rows are called in a drop, and their samples."""
    keys: list[int] = windows.content_key[rows].tolist()
    places: list[int] = windows.sample_index[rows].tolist()
    for key, place in zip(keys, places, strict=True):
        sample = windows.samples[place]
        yield f"{sample.origin.path}#{key:016x}", sample
