"""Reads the rows of a dataset's files one by one, from JSON lines or Parquet. `read_blocks` reads many at once.

A line is `{"tokens":[1,2],"metadata":{...}}`. If the recipe asks for training labels, these stand between the two. In
Parquet, tokens, labels and each key of the metadata are columns. pyarrow is an extra and imported only when needed.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.errors import DatasetError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SPLIT_FILE_NAMES = {"train": "train", "val": "validation", "test": "test"}
"""The name of each split in the names of Parquet files, by the convention of the `datasets` library."""
LABEL_COLUMNS = ("input_ids", "attention_mask", "labels")
"""What trainers of Hugging Face expect; written if the recipe asks for it."""
COMPATIBILITY_COLUMNS = (
    "text", "path", "blob_id", "repo_name", "revision_id", "is_generated", "is_vendor", "old_file", "old_contents",
    "new_contents", "subject", "message", "detected_licenses", "license_type",
)  # fmt: skip
"""Parquet columns under the names of The Stack v2 and CommitPackFT, for programs written for those. They repeat what
tokens and metadata say, and no key of the metadata has one of these names."""
LINE_START, METADATA_START, LINE_END = b'{"tokens":[', b'],"metadata":', b"}\n"
"""How the writer spells a line; the fast readers rely on it. Any other spelling of the same JSON is read as well."""
LABELS_START = [f'],"{name}":['.encode() for name in LABEL_COLUMNS]
"""What the writer puts before the values of each label column; the bracket ends the array before it."""
PARQUET_BATCH_ROWS = 64
"""Parquet rows that are Python objects at a time: enough for speed, and few megabytes."""

Labels = dict[str, Any]
"""The values of `LABEL_COLUMNS` of a row; empty if the dataset has none."""


class Row(NamedTuple):
    """A training row: the tokens of one window, and its metadata."""

    tokens: list[int]
    """Token ids, as many as the window size, padded at the end."""
    metadata: dict[str, Any]
    """For example `source_file`, and `length`, the number of tokens before the padding; `docs/dataset.md` has all."""

    @property
    def context_length(self) -> int:
        """The number of tokens at the beginning that are not in the loss.

        A context prefix is not in the loss. In a fill-in-the-middle row all tokens are, prefix and suffix too
        (Bavarian et al., 2022, section 3).
        """
        return self.metadata.get("context", 0)


def read_rows(path: Path, first: int = 0) -> Iterator[tuple[Row, Labels]]:
    """Yield the rows of a file and their labels, from row `first` on, counted from 0."""
    if path.suffix != ".parquet":
        yield from (parse_line(path, number, line) for number, line in numbered_lines(path) if number > first)
        return
    columns = _parquet_records(path, lambda name: name not in COMPATIBILITY_COLUMNS, first)
    for number, values in enumerate(columns, first + 1):
        labels = {name: values.pop(name) for name in LABEL_COLUMNS if name in values}
        tokens: Any = values.pop("tokens", None)
        if not isinstance(tokens, list):
            raise DatasetError(f"row {number} has no tokens", where=path.name)
        yield Row(cast("list[int]", tokens), values), labels


def read_metadata(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the metadata of each row of a file. Much faster than `read_rows`, because tokens are skipped."""
    if path.suffix == ".parquet":
        skipped = {"tokens", *LABEL_COLUMNS, *COMPATIBILITY_COLUMNS}
        yield from _parquet_records(path, lambda name: name not in skipped)
    else:
        yield from (_parse_metadata(path, number, line) for number, line in numbered_lines(path))


def read_compatibility_columns(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the values of `COMPATIBILITY_COLUMNS` of each row of a file; JSON lines have none."""
    if path.suffix == ".parquet":
        yield from _parquet_records(path, COMPATIBILITY_COLUMNS.__contains__)


def select_rows(path: Path, wanted: Callable[[int, dict[str, Any]], bool]) -> Iterator[Row]:
    """Yield the rows for which `wanted(index, metadata)` holds. The tokens of other rows are not read."""
    if path.suffix == ".parquet":
        for index, metadata in enumerate(read_metadata(path)):
            if wanted(index, metadata):
                yield next(read_rows(path, index))[0]
    else:
        for number, line in numbered_lines(path):
            if wanted(number - 1, _parse_metadata(path, number, line)):
                yield parse_line(path, number, line)[0]


def count_rows(path: Path) -> int:
    """Return the number of rows of a file."""
    if path.suffix != ".parquet":
        return sum(1 for _ in numbered_lines(path))
    pa = import_pyarrow()
    try:
        with path.open("rb") as opened:
            return pa.parquet.read_metadata(opened).num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


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


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file with their numbers, counted from 1."""
    try:
        with path.open("rb") as lines:
            yield from enumerate(lines, 1)
    except OSError as error:
        raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=str(path.parent)) from error


def import_pyarrow() -> Any:
    """Return the module `pyarrow`, with `pyarrow.parquet` loaded."""
    try:
        import pyarrow as pa

        import_module("pyarrow.parquet")  # makes it an attribute of pyarrow
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyarrow", "parquet") from error
    return pa


def _parquet_records(path: Path, is_wanted: Callable[[str], bool], first: int = 0) -> Iterator[dict[str, Any]]:
    """Yield the wanted columns of each row of a Parquet file from row `first` on, without null values."""
    pa = import_pyarrow()
    try:
        # pyarrow takes only UTF-8 paths, so Python opens the file.
        with path.open("rb") as opened, pa.parquet.ParquetFile(opened) as file:
            columns = [name for name in file.schema_arrow.names if is_wanted(name)]
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if first >= rows:
                    first -= rows
                    continue
                batches = file.iter_batches(PARQUET_BATCH_ROWS, row_groups=[group], columns=columns, use_threads=False)
                for batch in batches:
                    for values in batch.slice(first).to_pylist():
                        yield {name: value for name, value in values.items() if value is not None}
                    first = max(0, first - len(batch))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return DatasetError(f"'{path.name}' cannot be read: {reason}", where=str(path.parent))
