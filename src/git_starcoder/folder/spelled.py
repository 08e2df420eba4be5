"""Tokens as text, spelled once: windows overlap, so that most rows are made of text that others have, too.

The text of all tokens lies in a file behind one another, and a row is a few slices of it. The file is read by place and
never mapped, so that it costs no memory of the process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CHUNK = 1 << 20
"""Tokens spelled at a time."""


class Spelled:
    """The text of an array of tokens, with the places in it that are asked for."""

    def __init__(
        self, tokens: NDArray[Any], widths: NDArray[Any], spell: Callable[[NDArray[Any]], bytes], path: Path
    ) -> None:
        """Spell `tokens`, shape (tokens,), into a new file. `widths` are the bytes of each id, shape (vocab_size,)."""
        self._tokens, self._widths = tokens, widths
        self.path = str(path)
        self._file: BinaryIO = path.open("w+b", buffering=0)
        for begin in range(0, len(tokens), CHUNK):
            view = memoryview(spell(tokens[begin : begin + CHUNK]))
            while view:
                view = view[self._file.write(view) :]

    def offsets(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the texts of the tokens at `places` begin, in bytes; same shape. A place may be behind the last."""
        order = np.argsort(places, axis=None, kind="stable")
        wanted = places.ravel()[order]
        found = np.zeros(places.size, dtype=np.int64)
        before = 0
        for begin in range(0, len(self._tokens) + 1, CHUNK):
            ends = np.cumsum(self._widths[self._tokens[begin : begin + CHUNK]], dtype=np.int64)
            low, high = np.searchsorted(wanted, (begin, begin + CHUNK))
            found[order[low:high]] = before + np.concatenate(([0], ends))[wanted[low:high] - begin]
            before += int(ends[-1]) if len(ends) else 0
        return found.reshape(places.shape)

    def read(self, begin: int, stop: int) -> bytes:
        """The bytes from one offset to another."""
        return os.pread(self._file.fileno(), stop - begin, begin) if begin < stop else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def numbers(tokens: NDArray[Any], vocab_size: int, path: Path) -> Spelled:
    """Tokens as JSON numbers, each with a comma behind it."""
    ids = np.arange(vocab_size)
    widths = np.full(vocab_size, 2, dtype=np.uint8)
    for power in range(1, 10):
        widths += ids >= 10**power

    def spell(chunk: NDArray[Any]) -> bytes:
        return orjson.dumps(np.ascontiguousarray(chunk), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b","

    return Spelled(tokens, widths, spell, path)
