"""Reads the Parquet files of a dataset, a few rows at a time. pyarrow is an extra and imported only when needed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import DatasetError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

ROWS_PER_BATCH = 64
"""Rows that are held as Python objects at a time: enough for speed, and few megabytes."""
SPLIT_FILE_NAMES = {"train": "train", "val": "validation", "test": "test"}
"""The name of each split in file names, by the convention of the `datasets` library."""
LABEL_COLUMNS = ("input_ids", "attention_mask", "labels")
"""The columns that trainers of Hugging Face expect; written if the recipe asks for them."""
COMPATIBILITY_COLUMNS = (
    "text", "path", "blob_id", "repo_name", "revision_id", "is_generated", "is_vendor", "old_file", "old_contents",
    "new_contents", "subject", "message",
)  # fmt: skip
"""Columns under the names of The Stack v2 and CommitPackFT, for programs written for those. They repeat what the
tokens and the metadata say, and no key of the metadata has one of these names."""


def import_pyarrow() -> Any:
    """Return the module `pyarrow`, with `pyarrow.parquet` loaded.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa

        import_module("pyarrow.parquet")  # makes it an attribute of pyarrow
    except ImportError as error:
        raise MissingExtraError.of(error, "pyarrow", "parquet") from error
    return pa


def read_records(path: Path, first: int = 0, *, without: Collection[str] = ()) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file from row `first` on, without compatibility columns, null values and columns `without`.

    Raises:
        DatasetError: The file cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    return _read(path, first, lambda name: name not in COMPATIBILITY_COLUMNS and name not in without)


def read_compatibility_columns(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a file as `read_records` does, with the compatibility columns only."""
    return _read(path, 0, COMPATIBILITY_COLUMNS.__contains__)


def _read(path: Path, first: int, is_wanted: Callable[[str], bool]) -> Iterator[dict[str, Any]]:
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
                for batch in file.iter_batches(ROWS_PER_BATCH, row_groups=[group], columns=columns, use_threads=False):
                    for values in batch.slice(first).to_pylist():
                        yield {name: value for name, value in values.items() if value is not None}
                    first = max(0, first - len(batch))
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def count_rows(path: Path) -> int:
    """Return the number of rows of a file.

    Raises:
        DatasetError: The file cannot be read.
        MissingExtraError: pyarrow is not installed.
    """
    pa = import_pyarrow()
    try:
        with path.open("rb") as opened:
            return pa.parquet.read_metadata(opened).num_rows
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DatasetError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
    return DatasetError(f"'{path.name}' cannot be read: {reason}", where=str(path.parent))
