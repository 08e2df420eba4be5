"""The text of all tokens of a build in one scratch file. The text of a row is a few slices of it.

Windows overlap, so most tokens stand in several rows; this way each is turned into text once. The file is read by
position, so that it takes no memory.
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

TOKENS_PER_CHUNK = 1 << 20
"""Tokens that become text at a time: a few megabytes."""
PIECES_PER_WRITE = min(1024, os.sysconf("SC_IOV_MAX"))
"""Byte strings that one system call writes."""
CHUNK_TIMEOUT_SECONDS = 300.0
"""The time for one chunk, which takes milliseconds; reached only if a disk hangs."""


class TokenText:
    """The text of an array of tokens, and where in it each token stands."""

    def __init__(self, tokens: NDArray[Any], widths: NDArray[Any], path: Path) -> None:
        """Create an empty file at `path` for `tokens`. `widths` is the bytes of each token id, shape (vocab_size,)."""
        self._tokens, self._widths = tokens, widths
        self.path = str(path)
        self._file: BinaryIO = path.open("w+b", buffering=0)

    def offsets(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where the text of the token at each position starts, in bytes; same shape.

        The position after the last token is allowed. Tokens [7, 42, 5] are the text `7,42,5,`: positions [0, 2, 3] are
        at [0, 5, 7].
        """
        # All tokens take more memory than their positions, so their widths are added up chunk by chunk.
        order = np.argsort(positions, axis=None, kind="stable")
        ascending = positions.ravel()[order]
        offsets = np.zeros(positions.size, dtype=np.int64)
        chunk_offset = 0
        for start in range(0, len(self._tokens) + 1, TOKENS_PER_CHUNK):
            ends = np.cumsum(self._widths[self._tokens[start : start + TOKENS_PER_CHUNK]], dtype=np.int64)
            low, high = np.searchsorted(ascending, (start, start + TOKENS_PER_CHUNK))
            offsets[order[low:high]] = chunk_offset + np.concatenate(([0], ends))[ascending[low:high] - start]
            chunk_offset += int(ends[-1]) if len(ends) else 0
        return offsets.reshape(positions.shape)

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from one offset to another."""
        return os.pread(self._file.fileno(), stop - start, start) if start < stop else b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def write_decoded(
    tokens: NDArray[Any], widths: NDArray[Any], decode: Callable[[NDArray[Any]], bytes], path: Path
) -> TokenText:
    """Write tokens as the text that `decode` makes of them."""
    text = TokenText(tokens, widths, path)
    position = 0
    for start in range(0, len(tokens), TOKENS_PER_CHUNK):
        data = decode(tokens[start : start + TOKENS_PER_CHUNK])
        raise_if_failed(path, write_at(text.path, position, [data]))
        position += len(data)
    return text


def write_numbers(tokens: NDArray[Any], vocab_size: int, path: Path, engine: Engine) -> TokenText:
    """Write tokens as JSON numbers, each with a comma after it. Workers do it.

    Raises:
        OSError: A worker cannot write.
        RuntimeError: A worker failed for another reason.
    """
    ids = np.arange(vocab_size)
    widths = np.full(vocab_size, 2, dtype=np.uint8)  # a digit and a comma
    for power in range(1, 10):
        widths += ids >= 10**power

    def chunks() -> Iterator[_Chunk]:
        position = 0
        for start in range(0, len(tokens), TOKENS_PER_CHUNK):
            chunk = np.array(tokens[start : start + TOKENS_PER_CHUNK])
            yield _Chunk(str(path), position, chunk)
            position += int(widths[chunk].sum(dtype=np.int64))

    text = TokenText(tokens, widths, path)
    for answer in engine.map(_write_chunk, chunks(), limit=CHUNK_TIMEOUT_SECONDS):
        raise_if_failed(path, answer)
    return text


class _Chunk(NamedTuple):
    """Tokens that a worker writes as numbers."""

    path: str
    position: int
    """Where in the file their text belongs."""
    tokens: NDArray[Any]


def _write_chunk(chunk: _Chunk) -> int:
    data = orjson.dumps(chunk.tokens, option=orjson.OPT_SERIALIZE_NUMPY)
    return write_at(chunk.path, chunk.position, [memoryview(data)[1:-1], b","])  # `[7,42]` becomes `7,42,`


def write_at(path: str, position: int, pieces: Sequence[bytes | memoryview]) -> int:
    """Write byte strings at a position of an existing file. Return 0, or the error number if they cannot be written.

    Several workers write to one file at the same time. An error number crosses processes better than an exception.
    `pwritev` takes the pieces as they are: to join them first would cost a third more processor time for the file.
    """
    try:
        with Path(path).open("r+b", buffering=0) as file:
            for first in range(0, len(pieces), PIECES_PER_WRITE):
                some = pieces[first : first + PIECES_PER_WRITE]
                written = os.pwritev(file.fileno(), some, position)
                position += written
                # The system may write less than it was given.
                rest = memoryview(b"".join(some))[written:] if written < sum(map(len, some)) else b""
                while rest:
                    written = os.pwrite(file.fileno(), rest, position)
                    rest, position = rest[written:], position + written
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def raise_if_failed(path: Path, answer: int | Failure) -> None:
    """Raise an error if `write_at`, or the worker that called it, could not write the file.

    Raises:
        OSError: The answer is an error number.
        RuntimeError: The worker failed for another reason.
    """
    if isinstance(answer, Failure):
        what = f"'{path.name}' cannot be written: {answer.kind} {answer.detail}"
        raise RuntimeError(what)  # noqa: TRY004 - of a worker, not of an argument
    if answer:
        raise OSError(answer, os.strerror(answer), str(path))
