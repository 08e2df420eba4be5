"""Caches the results of pure functions between builds, and cuts their inputs into batches.

A build computes the same things again and again: facts about files, hashes of lines, tokens. Each is a function of its
inputs, so its result is stored in the cache by a hash of these inputs and of our code (see `engine.cache`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_starcoder.protocols import Cache

T = TypeVar("T")
R = TypeVar("R")
Inputs = tuple["str | bytes", ...]

RESULTS_PER_WRITE = 64
"""New results that are stored together: each write is one transaction. An interrupted build loses at most as many."""


class Memo(Generic[R]):
    """The stored results of one pure function, which must not be None.

    `map` is the usual way to use it. Only what has no stored result is computed:

    >>> from git_starcoder.protocols import NO_CACHE
    >>> memo: Memo[int] = Memo(NO_CACHE, "length", int)
    >>> list(memo.map(["one", "three"], key=lambda text: (text,), compute=lambda texts: map(len, texts)))
    [3, 5]
    """

    def __init__(self, cache: Cache, name: str, result_type: Any) -> None:
        """Use the results that `cache` stores for the function `name`.

        Args:
            cache: Where results are stored; `protocols.NO_CACHE` stores nothing.
            name: The name of the function, part of every key.
            result_type: The type of its results, which msgspec must be able to write and read.

        """
        self._cache = cache
        self._name = name
        self._decoder = msgspec.msgpack.Decoder(result_type)
        self._encoder = msgspec.msgpack.Encoder()

    def get(self, inputs: Iterable[Inputs]) -> list[R | None]:
        """The stored result for each of the inputs, None where there is none."""
        values = self._cache.get([self._cache.key(self._name, *parts) for parts in inputs])
        return [None if value is None else cast("R", self._decoder.decode(value)) for value in values]

    def put(self, results: Iterable[tuple[Inputs, R]]) -> None:
        """Store results by their inputs."""
        self._cache.put(
            [(self._cache.key(self._name, *parts), self._encoder.encode(value)) for parts, value in results]
        )

    def map(
        self,
        items: Sequence[T],
        key: Callable[[T], Inputs],
        compute: Callable[[list[T]], Iterable[R]],
        may_store: Callable[[T, R], bool] = lambda _item, _result: True,
    ) -> Iterator[R]:
        """The result for each item, in order: the stored one, or the computed one, which is then stored.

        Args:
            items: What the function is applied to.
            key: Everything about an item that its result depends on, besides our code.
            compute: Gets the items that have no stored result, and gives the result of each in the same order. It may
                be lazy: each result is taken only when its turn comes.
            may_store: Whether a computed result may be stored; false for failures, which may not happen again.

        Yields:
            A result for each item.

        Raises:
            ValueError: `compute` gave fewer or more results than it got items.

        """
        keys = [key(item) for item in items]
        stored = self.get(keys)
        missing = [item for item, result in zip(items, stored, strict=True) if result is None]
        computed = zip(missing, compute(missing), strict=True)
        pending = len(missing)
        new: list[tuple[Inputs, R]] = []
        for item, inputs, known in zip(items, keys, stored, strict=True):
            if known is not None:
                yield known
                continue
            _, result = next(computed)
            pending -= 1
            if may_store(item, result):
                new.append((inputs, result))
            if not pending or len(new) >= RESULTS_PER_WRITE:  # before the last `yield`: the caller may not come back
                self.put(new)
                new = []
            yield result
        if missing:
            next(computed, None)  # raises if there are more results


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
