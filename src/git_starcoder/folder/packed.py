"""Rows as bytes, read from a part of a file by whichever process: cheap to send, and cheap to make rows of again."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from io import BytesIO
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder import parquet
from git_starcoder.dataset import of_parquet, parse
from git_starcoder.errors import DatasetError
from git_starcoder.folder.numbers import numbers
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.protocols import Engine
    from git_starcoder.records import Split

SIZE = 1 << 19
"""Bytes of a part, about."""
SECONDS = 60.0
"""For one part: a worker that takes longer hangs, and the part is read here."""
OPEN, BETWEEN, CLOSE = b'{"tokens":[', b'],"metadata":', b"}\n"
CONTENT = 16
"""Bytes of a hash of a row's tokens."""
NO_IDS = np.empty(0, dtype=np.uint32)


class Part(NamedTuple):
    """Lines of a file that follow one another."""

    path: Path
    start: int
    """In bytes."""
    stop: int


class Packed(NamedTuple):
    """Rows that follow one another."""

    tokens: bytes
    """Of all, four bytes each in the order of this machine."""
    sizes: list[int]
    """Tokens of each row; -1 for one whose tokens are no token ids."""
    tops: list[int]
    """The largest token of each row; 0 where there is none."""
    contents: bytes
    """A hash of the tokens of each row, `CONTENT` bytes long: equal rows have equal hashes."""
    metadata: bytes
    """A JSON array."""
    labels: list[dict[str, Any]]
    """What else each row has; empty if no row has anything else."""
    wrong: bytes | None = None
    """The line behind them, which is no row."""


def packs(dataset: Dataset, split: Split, engine: Engine | None = None) -> Iterator[Packed]:
    """The rows of a split in the order of its files; an engine reads ahead.

    Raises:
        DatasetError: a file cannot be read, or a line is not a row; what stands before it has come.
        MissingExtraError: the rows are in Parquet, and pyarrow is not installed.
    """
    for path in dataset.files(split):
        if path.suffix == ".parquet":
            rows = of_parquet(path)
            while some := list(islice(rows, parquet.ROWS)):
                yield _of_rows(some)
            continue
        try:
            yield from _of_lines(path, engine)
        except OSError as error:
            raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(path.parent)) from error


def packed(part: Part) -> Packed:
    """The rows of a part, up to what is no row.

    Raises:
        OSError: the file cannot be read.
    """
    with part.path.open("rb") as file:
        file.seek(part.start)
        lines = BytesIO(file.read(part.stop - part.start)).readlines()
    return _as_written(lines) or _parsed(part.path, lines)


def _as_written(lines: list[bytes]) -> Packed | None:
    """The rows of lines that are as a build writes them; None if one is written otherwise, or is no row."""
    edges = [line.find(b"]") for line in lines]
    for line, edge in zip(lines, edges, strict=True):
        if not (line.startswith(OPEN) and line.startswith(BETWEEN, edge) and line.endswith(CLOSE)):
            return None
    spelled = [line[len(OPEN) : edge] for line, edge in zip(lines, edges, strict=True)]
    found = numbers(b",".join((*spelled, b"")))
    if found is None:
        return None
    try:
        said = [orjson.loads(line[edge + len(BETWEEN) : -len(CLOSE)]) for line, edge in zip(lines, edges, strict=True)]
    except orjson.JSONDecodeError:
        return None
    flat, commas = found
    last = np.cumsum([len(text) + 1 for text in spelled]) - 1
    stops: list[int] = (np.searchsorted(commas, last) + 1).tolist()
    return _packed(flat, [flat[start:stop] for start, stop in pairwise([0, *stops])], said, [])


def _parsed(path: Path, lines: list[bytes]) -> Packed:
    """The rows of any lines, up to one that is none."""
    rows: list[tuple[Row, dict[str, Any]]] = []
    for line in lines:
        try:
            rows.append(parse(path, 0, line))
        except DatasetError:
            return _of_rows(rows)._replace(wrong=line)
    return _of_rows(rows)


def _of_lines(path: Path, engine: Engine | None) -> Iterator[Packed]:
    parts = list(_parts(path))
    number = 0
    answers = engine.map(packed, parts, limit=SECONDS) if engine else map(packed, parts)
    for part, answer in zip(parts, answers, strict=True):
        one = packed(part) if isinstance(answer, Failure) else answer
        number += len(one.sizes)
        yield one
        if one.wrong is not None:
            parse(path, number + 1, one.wrong)


def _parts(path: Path) -> Iterator[Part]:
    with path.open("rb") as file:
        start = 0
        while file.seek(start + SIZE) and file.readline():
            yield Part(path, start, file.tell())
            start = file.tell()
        file.seek(0, 2)
        if file.tell() > start:
            yield Part(path, start, file.tell())


def _of_rows(rows: list[tuple[Row, dict[str, Any]]]) -> Packed:
    labels = [labels for _, labels in rows] if any(labels for _, labels in rows) else []
    ids = [_ids(row.tokens) for row, _ in rows]
    flat = np.concatenate((NO_IDS, *(one for one in ids if one is not None)))
    return _packed(flat, ids, [row.metadata for row, _ in rows], labels)


def _packed(
    flat: NDArray[np.uint32],
    ids: Sequence[NDArray[np.uint32] | None],
    said: list[dict[str, Any]],
    labels: list[dict[str, Any]],
) -> Packed:
    arrays: list[Any] = [NO_IDS if one is None else one for one in ids]
    sizes = np.array([len(one) for one in arrays], dtype=np.int64)
    tops = np.zeros(len(sizes), dtype=np.uint32)
    if len(flat):
        tops[sizes > 0] = np.maximum.reduceat(flat, (np.cumsum(sizes) - sizes)[sizes > 0])
    return Packed(
        flat.tobytes(),
        [-1 if one is None else len(one) for one in ids],
        tops.tolist(),
        b"".join(blake2b(one, digest_size=CONTENT).digest() for one in arrays),
        orjson.dumps(said),
        labels,
    )


def _ids(tokens: Iterable[int]) -> NDArray[np.uint32] | None:
    try:
        return np.array(array("I", tokens), dtype=np.uint32)
    except (TypeError, OverflowError):
        return None
