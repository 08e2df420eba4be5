"""Rows as bytes, read from a part of a file by whichever process: cheap to send, and cheap to make rows of again."""

from __future__ import annotations

from array import array
from hashlib import blake2b
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson

from git_starcoder import parquet
from git_starcoder.dataset import of_parquet, parse
from git_starcoder.errors import DatasetError
from git_starcoder.folder.numbers import numbers
from git_starcoder.seams import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.rows import Split
    from git_starcoder.seams import Engine

SIZE = 1 << 19
"""Bytes of a part, about."""
SECONDS = 60.0
"""For one part: a worker that takes longer hangs, and the part is read here."""
OPEN, BETWEEN, CLOSE = b'{"tokens":[', b'],"metadata":', b"}\n"
CONTENT = 16
"""Bytes of a hash of a row's tokens."""


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
                yield _packed(some)
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
        lines = file.read(part.stop - part.start).split(b"\n")
    last = lines.pop()  # without a line break behind it
    every = [*(line + b"\n" for line in lines), *([last] if last else ())]
    return _as_written(every) or _parsed(part.path, every)


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
    arrays = [flat[start:stop] for start, stop in pairwise([0, *stops])]
    return Packed(flat.tobytes(), list(map(len, arrays)), _contents(arrays), orjson.dumps(said), [])


def _parsed(path: Path, lines: list[bytes]) -> Packed:
    """The rows of any lines, up to one that is none."""
    rows: list[tuple[Row, dict[str, Any]]] = []
    for line in lines:
        try:
            rows.append(parse(path, 0, line))
        except DatasetError:
            return _packed(rows)._replace(wrong=line)
    return _packed(rows)


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


def _packed(rows: list[tuple[Row, dict[str, Any]]]) -> Packed:
    arrays = [_ids(row.tokens) for row, _ in rows]
    return Packed(
        b"".join(ids or b"" for ids in arrays),
        [-1 if ids is None else len(ids) for ids in arrays],
        _contents([ids or b"" for ids in arrays]),
        orjson.dumps([row.metadata for row, _ in rows]),
        [labels for _, labels in rows] if any(labels for _, labels in rows) else [],
    )


def _contents(arrays: Iterable[Any]) -> bytes:
    return b"".join(blake2b(ids, digest_size=CONTENT).digest() for ids in arrays)


def _ids(tokens: Iterable[int]) -> array[int] | None:
    try:
        return array("I", tokens)
    except (TypeError, OverflowError):
        return None
