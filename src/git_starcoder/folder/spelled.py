"""Tokens as text, spelled once: windows overlap, so that most rows are made of text that others have, too.

The text of all tokens lies in a file behind one another, and a row is a few slices of it. The file is read by place and
not held in memory.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

import numpy as np
import orjson

from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.protocols import Engine

CHUNK = 1 << 20
"""Tokens spelled at a time."""
AT_ONCE = min(1024, os.sysconf("SC_IOV_MAX"))
"""Pieces written at a time."""
SECONDS = 300.0
"""For those in a worker. They are bounded; this is for a disk that hangs."""


class Chunk(NamedTuple):
    """Tokens that a worker spells."""

    path: str
    at: int
    """Where in the file their text belongs."""
    tokens: NDArray[Any]


class Spelled:
    """The text of an array of tokens, with the places in it that are asked for."""

    def __init__(self, tokens: NDArray[Any], widths: NDArray[Any], path: Path) -> None:
        """An empty file for `tokens`, shape (tokens,). `widths` are the bytes of each id, shape (vocab_size,)."""
        self._tokens, self._widths = tokens, widths
        self.path = str(path)
        self._file: BinaryIO = path.open("w+b", buffering=0)

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


def texts(tokens: NDArray[Any], widths: NDArray[Any], decode: Callable[[NDArray[Any]], bytes], path: Path) -> Spelled:
    """Tokens as what `decode` makes of them."""
    spelled = Spelled(tokens, widths, path)
    at = 0
    for begin in range(0, len(tokens), CHUNK):
        data = decode(tokens[begin : begin + CHUNK])
        succeeded(path, put_at(spelled.path, at, [data]))
        at += len(data)
    return spelled


def numbers(tokens: NDArray[Any], vocab_size: int, path: Path, engine: Engine) -> Spelled:
    """Tokens as JSON numbers, each with a comma behind it. Workers spell them.

    Raises:
        OSError: a worker cannot write.
        RuntimeError: a worker failed otherwise.
    """
    ids = np.arange(vocab_size)
    widths = np.full(vocab_size, 2, dtype=np.uint8)
    for power in range(1, 10):
        widths += ids >= 10**power

    def chunks() -> Iterator[Chunk]:
        at = 0
        for begin in range(0, len(tokens), CHUNK):
            some = np.array(tokens[begin : begin + CHUNK])
            yield Chunk(str(path), at, some)
            at += int(widths[some].sum(dtype=np.int64))

    spelled = Spelled(tokens, widths, path)
    for answer in engine.map(spell, chunks(), limit=SECONDS):
        succeeded(path, answer)
    return spelled


def spell(chunk: Chunk) -> int:
    """Write tokens as numbers; the error number where they cannot be written, else 0. For workers."""
    data = orjson.dumps(chunk.tokens, option=orjson.OPT_SERIALIZE_NUMPY)
    return put_at(chunk.path, chunk.at, [memoryview(data)[1:-1], b","])


def succeeded(path: Path, answer: int | Failure) -> None:
    """Nothing, if what writes a file answered 0.

    Raises:
        OSError: it answered with an error number.
        RuntimeError: it is a worker that failed otherwise.
    """
    if isinstance(answer, Failure):
        what = f"'{path.name}' cannot be written: {answer.kind} {answer.detail}"
        raise RuntimeError(what)  # noqa: TRY004 - of a worker, not of an argument
    if answer:
        raise OSError(answer, os.strerror(answer), str(path))


def put_at(path: str, at: int, pieces: Sequence[bytes | memoryview]) -> int:
    """Write pieces at a place of a file that is there; the error number where that cannot be, else 0."""
    try:
        with Path(path).open("r+b", buffering=0) as file:
            for first in range(0, len(pieces), AT_ONCE):
                some = pieces[first : first + AT_ONCE]
                wrote = os.pwritev(file.fileno(), some, at)
                at += wrote
                rest = memoryview(b"".join(some))[wrote:] if wrote < sum(map(len, some)) else b""
                while rest:
                    wrote = os.pwrite(file.fileno(), rest, at)
                    rest, at = rest[wrote:], at + wrote
    except OSError as error:
        return error.errno or errno.EIO
    return 0
