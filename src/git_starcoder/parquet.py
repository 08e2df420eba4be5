"""Parquet files of a dataset, read row by row. pyarrow is an extra, and imported where it is used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import DatasetError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

ROWS = 64
"""Rows that are Python objects at a time."""
NAMES = {"train": "train", "val": "validation", "test": "test"}
"""What a split is called in the names of files, by convention of the `datasets` library."""
LABELS = ("input_ids", "attention_mask", "labels")
SHOWN = (
    "text", "path", "blob_id", "repo_name", "revision_id", "is_generated", "is_vendor", "old_file", "old_contents",
    "new_contents", "subject", "message",
)  # fmt: skip
"""Columns with the names of The Stack and CommitPack, for programs written for those: all that is in them is also
elsewhere, and no metadata of a row has their names."""


def library() -> Any:
    """The module `pyarrow`, with `pyarrow.parquet`.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow as pa

        import_module("pyarrow.parquet")  # and it is an attribute of the other
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyarrow", "parquet") from error
    return pa


def records(path: Path, first: int = 0, *, without: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """The rows of a file from one on, in order, as columns that are not null; some columns are not read.

    Raises:
        DatasetError: it cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    return _read(path, first, lambda name: name not in SHOWN and name not in without)


def shown(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file as `records`, but the columns of `SHOWN` and no others."""
    return _read(path, 0, SHOWN.__contains__)


def _read(path: Path, first: int, wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
    pa = library()
    try:
        with path.open("rb") as opened, pa.parquet.ParquetFile(opened) as file:  # which takes only names in UTF-8
            columns = [name for name in file.schema_arrow.names if wanted(name)]
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if first >= rows:
                    first -= rows
                    continue
                for batch in file.iter_batches(ROWS, row_groups=[group], columns=columns, use_threads=False):
                    for values in batch.slice(first).to_pylist():
                        yield {name: value for name, value in values.items() if value is not None}
                    first = max(0, first - len(batch))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def count(path: Path) -> int:
    """The rows of a file.

    Raises:
        DatasetError: it cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    pa = library()
    try:
        with path.open("rb") as opened:
            return pa.parquet.read_metadata(opened).num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return DatasetError(f"'{path.name}' cannot be read: {reason}", where=str(path.parent))
