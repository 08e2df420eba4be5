"""Reads the rows of a dataset's files one by one, from JSON lines or Parquet. `read_blocks` reads many at once.

A line is `{"tokens":[1,2],"metadata":{...}}`. Where the recipe asks for training labels, these stand between the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.dataset import parquet
from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LINE_START, METADATA_START, LINE_END = b'{"tokens":[', b'],"metadata":', b"}\n"
"""How the writer spells a line; the fast readers rely on it. Any other spelling of the same JSON is read as well."""
LABELS_START = [f'],"{name}":['.encode() for name in parquet.LABEL_COLUMNS]
"""What the writer puts before the values of each label column; the bracket ends the array before it."""


class Row(NamedTuple):
    """A training row: the tokens of one window, and its metadata."""

    tokens: list[int]
    """Token ids, as many as the window size, padded at the end."""
    metadata: dict[str, Any]
    """The keys are those of `dataset.md`; `length` is the number of tokens before the padding."""

    @property
    def context_length(self) -> int:
        """The number of tokens at the beginning that are not in the loss.

        A context prefix is not in the loss. In a fill-in-the-middle row all tokens are, prefix and suffix too
        (Bavarian et al., 2022, section 3).
        """
        return self.metadata.get("context", 0)


Labels = dict[str, Any]
"""The label columns of a row, `input_ids`, `attention_mask` and `labels`; empty where the dataset has none."""


def read_rows(path: Path, first: int = 0) -> Iterator[tuple[Row, Labels]]:
    """Yield the rows of a file and their labels, from row `first` on, counted from 0.

    Raises:
        DatasetError: The file cannot be read, or something in it is not a row.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
    """
    if path.suffix != ".parquet":
        for number, line in _numbered_lines(path):
            if number > first:
                yield parse_line(path, number, line)
        return
    for number, values in enumerate(parquet.read_records(path, first), first + 1):
        labels = {name: values.pop(name) for name in parquet.LABEL_COLUMNS if name in values}
        tokens: Any = values.pop("tokens", None)
        if not isinstance(tokens, list):
            raise DatasetError(f"row {number} has no tokens", where=path.name)
        yield Row(cast("list[int]", tokens), values), labels


def read_metadata(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the metadata of each row of a file. Much faster than `read_rows`, because tokens are skipped."""
    if path.suffix == ".parquet":
        yield from parquet.read_records(path, without=("tokens", *parquet.LABEL_COLUMNS))
    else:
        yield from (_parse_metadata(path, number, line) for number, line in _numbered_lines(path))


def select_rows(path: Path, wanted: Callable[[int, dict[str, Any]], bool]) -> Iterator[Row]:
    """Yield the rows for which `wanted(index, metadata)` holds. The tokens of other rows are not read."""
    if path.suffix == ".parquet":
        for index, metadata in enumerate(read_metadata(path)):
            if wanted(index, metadata):
                yield next(read_rows(path, index))[0]
    else:
        for number, line in _numbered_lines(path):
            if wanted(number - 1, _parse_metadata(path, number, line)):
                yield parse_line(path, number, line)[0]


def count_rows(path: Path) -> int:
    """Return the number of rows of a file."""
    return parquet.count_rows(path) if path.suffix == ".parquet" else sum(1 for _ in _numbered_lines(path))


def parse_line(path: Path, number: int, line: bytes) -> tuple[Row, Labels]:
    """Return the row on a line, and its labels. `path` and `number`, counted from 1, are for the error.

    Raises:
        DatasetError: The line is not a row.
    """
    try:
        values = orjson.loads(line)
        return Row(values.pop("tokens"), values.pop("metadata")), values
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(f"line {number} is not a row: {error}", where=path.name) from error


def _parse_metadata(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return the metadata of the row on a line, without parsing the numbers before it."""
    # The first match is the key itself: only numbers stand before it, and a quote inside a string has a backslash.
    start = line.find(METADATA_START[1:])
    return parse_line(path, number, line if start < 0 else LINE_START + b"]" + line[start:])[0].metadata


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as lines:
            yield from enumerate(lines, 1)
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(path.parent)) from error
