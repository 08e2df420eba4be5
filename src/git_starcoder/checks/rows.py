"""Every row has its keys, and they say where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from git_starcoder.dataset.read_blocks import NO_TOKEN_IDS
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import BulkRow, Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_train_file_format", "test_val_file_format", "test_sequence_metadata")
NUMBER = (int, float)
KEYS: dict[str, type | tuple[type, ...]] = {
    "seq_id": int, "source_file": str, "directory": str, "file_extension": str, "window_size": int, "length": int,
    "chunk_index": int, "total_chunks": int, "complexity": NUMBER, "priority": str, "is_core": bool, "is_test": bool,
    "augmentation_type": str, "weight": NUMBER, "age_days": int, "has_dependencies": bool, "type_density": NUMBER,
    "error_patterns": int, "row_id": str, "group": str, "role": str, "language": str, "split": str, "sample": str,
    "token_start": int,
}  # fmt: skip
"""What readers of the files rely on, with its type."""
OPTIONAL: dict[str, type | tuple[type, ...]] = {
    "stage": int, "context": int, "is_evolution": bool, "commit": str, "commit_message": str, "kind": str, "blob": str,
    "copy": int, "copies": int, "weight_of_row": NUMBER, "hole": list,
}  # fmt: skip
"""What some rows have, with its type."""
FORMS = 1000
"""Keys and types of rows that are remembered as seen: a few dozen where the dataset is ours."""


class Check:
    """A finding for each row that is not formed as promised; the figure is the number of rows."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._rows = 0
        self._forms: set[tuple[str | type, ...]] = set()
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Keys, types, and what one can compare with the rows' places."""
        self._rows += len(block.rows)
        for row in block.rows:
            for what in self._wrong(row, split):
                yield Finding("rows", self._dataset.row_location(split, row.index), what)

    def end(self) -> Iterator[Finding]:
        """Nothing more."""
        self.figure = f"{self._rows:,} rows"
        yield from ()

    def _wrong(self, row: BulkRow, split: str) -> Iterator[str]:
        """What is wrong with one row."""
        said = row.metadata
        if not isinstance(cast("Any", said), dict):
            yield "metadata is not an object"
            return
        form = (*said, *map(type, said.values()))
        if form not in self._forms:
            mistyped = [key for key, kind in KEYS.items() if not _is(said.get(key), kind)]
            mistyped += [key for key, kind in OPTIONAL.items() if key in said and not _is(said[key], kind)]
            for key in mistyped:
                yield f"{key} is {said[key]!r}" if key in said else f"no {key}"
            if mistyped:
                return
            if len(self._forms) < FORMS:
                self._forms.add(form)
        yield from _misplaced(row, split)


def _misplaced(row: BulkRow, split: str) -> Iterator[str]:
    """What one can compare with the place of a row."""
    said = row.metadata
    if said["seq_id"] != row.index:
        yield f"seq_id is {said['seq_id']}, not {row.index}"
    if said["split"] != split:
        yield f"split is {said['split']!r}"
    if not 0 <= said["chunk_index"] < said["total_chunks"]:
        yield f"chunk {said['chunk_index']} of {said['total_chunks']}"
    if row.token_ids is NO_TOKEN_IDS:
        yield "tokens are not a list of token ids"


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
