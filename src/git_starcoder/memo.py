"""Caches the results of pure functions between builds.

A build computes the same things again and again: facts about files, hashes of lines, tokens. Each is a function of its
inputs, so its result is stored in the cache by a hash of these inputs and of our code (see `engine.cache`).
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from git_starcoder.protocols import Cache

T = TypeVar("T")
R = TypeVar("R")
Inputs = tuple["str | bytes", ...]

RESULTS_PER_WRITE = 256
"""New results that are stored together. An interrupted build loses at most the results since the last write."""


def is_success(result: Any) -> bool:
    """Whether a result may be stored: a `Failure` may have been the fault of the machine, not of the inputs."""
    return not isinstance(result, Failure)


class Memo(Generic[R]):
    """The stored results of one pure function, which must not be None.

    `map` is the usual way to use it. Only what has no stored result is computed:

    >>> from git_starcoder.protocols import NO_CACHE
    >>> memo: Memo[int] = Memo(NO_CACHE, "length", int)
    >>> list(memo.map(["one", "three"], key=lambda text: (text,), compute=lambda texts: map(len, texts)))
    [3, 5]

    With an engine, `compute` hands the inputs to workers and failures come through in their place:

        compute=lambda texts: engine.map(parse, texts, limit=30.0)
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

    def get(self, inputs: Sequence[Inputs]) -> list[R | None]:
        """The stored result for each of the inputs, None where there is none."""
        values = self._cache.get([self._cache.key(self._name, *parts) for parts in inputs])
        return [None if value is None else cast("R", self._decoder.decode(value)) for value in values]

    def put(self, results: Iterable[tuple[Inputs, R]]) -> None:
        """Store results by their inputs."""
        entries = [(self._cache.key(self._name, *parts), self._encoder.encode(result)) for parts, result in results]
        self._cache.put(entries)

    def map(
        self,
        items: Iterable[T],
        key: Callable[[T], Inputs],
        compute: Callable[[list[T]], Iterable[R | Failure]],
        *,
        batch_size: int | None = None,
        may_store: Callable[[R | Failure], bool] = is_success,
    ) -> Iterator[R | Failure]:
        """The result for each item, in the order of the items: the stored one, or the computed one, which is stored.

        Args:
            items: What the function is applied to. With a `batch_size` they are drawn one batch at a time.
            key: Everything about an item that its result depends on, besides our code.
            compute: Gets the items of a batch that have no stored result, in order, and gives one result for each, in
                the same order. It may be a generator, so that results are used while later ones are computed.
            batch_size: Items that are looked up at once; None looks up all of them. Workers are only busy together
                within a batch.
            may_store: Whether a computed result may be stored. By default all but a `Failure`.

        Yields:
            A result for each item.

        Raises:
            ValueError: `compute` gave fewer or more results than it got items.

        """
        for batch in _batches(items, batch_size):
            inputs = [key(item) for item in batch]
            stored = self.get(inputs)
            unknown = [item for item, result in zip(batch, stored, strict=True) if result is None]
            computed = iter(compute(unknown) if unknown else ())
            new: list[tuple[Inputs, R]] = []
            for parts, known in zip(inputs, stored, strict=True):
                result: R | Failure | None = known
                if result is None:
                    result = next(computed, None)
                    if result is None:
                        what = f"{self._name}: fewer results than items"
                        raise ValueError(what)
                    if may_store(result):
                        new.append((parts, cast("R", result)))
                yield result
                if len(new) == RESULTS_PER_WRITE:
                    self.put(new)
                    new = []
            if next(computed, None) is not None:
                what = f"{self._name}: more results than items"
                raise ValueError(what)
            if new:
                self.put(new)


def _batches(items: Iterable[T], size: int | None) -> Iterator[list[T]]:
    """The items in lists of `size`, or in one list."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
