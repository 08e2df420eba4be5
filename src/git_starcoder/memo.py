"""Answers of one pure function, kept in the cache between builds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from git_starcoder.protocols import Cache

R = TypeVar("R")
Inputs = tuple["str | bytes", ...]


class Memo(Generic[R]):
    """What a function answered, by its inputs: everything that its answer depends on but for the code."""

    def __init__(self, cache: Cache, name: str, answers: Any) -> None:
        """`answers` is the type of the answers; msgspec must be able to write and read it."""
        self._cache = cache
        self._name = name
        self._read = msgspec.msgpack.Decoder(answers)
        self._write = msgspec.msgpack.Encoder()

    def get(self, inputs: Sequence[Inputs]) -> list[R | None]:
        """The answer for each, None where it is not known."""
        values = self._cache.get([self._cache.key(self._name, *one) for one in inputs])
        return [None if value is None else cast("R", self._read.decode(value)) for value in values]

    def put(self, answers: Iterable[tuple[Inputs, R]]) -> None:
        """Keep answers."""
        self._cache.put([(self._cache.key(self._name, *one), self._write.encode(answer)) for one, answer in answers])
