"""What several steps need to run their work: batches of about equal size, and results from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_starcoder.memo import Inputs, Memo

T = TypeVar("T")
R = TypeVar("R")

RESULTS_PER_WRITE = 64
"""New results that go to the cache together: each write is one transaction."""


def batch_by_size(items: Iterable[T], size: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Consecutive items in batches; a batch ends with the item that brings the sum of its sizes to `limit` or more.

    >>> list(batch_by_size([3, 3, 9, 1], int, 5))
    [[3, 3], [9], [1]]
    """
    batch: list[T] = []
    total = 0
    for item in items:
        batch.append(item)
        total += size(item)
        if total >= limit:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def map_cached(
    memo: Memo[R],
    items: Sequence[T],
    key: Callable[[T], Inputs],
    compute: Callable[[list[T]], Iterable[R]],
    is_reusable: Callable[[T, R], bool] = lambda _item, _result: True,
) -> Iterator[R]:
    """The result for each item, in order: from the cache, or computed and then cached.

    Args:
        memo: The cache of the function that computes the results.
        items: What the results are for.
        key: The inputs of an item's result: everything that decides it.
        compute: Gets the items that are not in the cache and gives their results in the same order. It may be lazy:
            each result is taken only when its turn comes.
        is_reusable: Whether a new result goes into the cache; false for failures, which may not happen again.

    """
    keys = [key(item) for item in items]
    cached = memo.get(keys)
    missing = [item for item, result in zip(items, cached, strict=True) if result is None]
    computed = iter(compute(missing))
    pending = len(missing)
    new: list[tuple[Inputs, R]] = []
    for item, inputs, known in zip(items, keys, cached, strict=True):
        if known is not None:
            yield known
            continue
        result = next(computed)
        pending -= 1
        if is_reusable(item, result):
            new.append((inputs, result))
        if not pending or len(new) >= RESULTS_PER_WRITE:  # before the last `yield`: the caller may not come back
            memo.put(new)
            new = []
        yield result
