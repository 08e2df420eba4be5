"""Every row has its keys and is as long as its window."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.errors import DatasetError
from git_starcoder.recipe import Recipe
from git_starcoder.rows import SPLITS, Finding

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from git_starcoder.dataset import Dataset, Row

IGNORED = -100
"""The label of a token that does not count for the loss."""
NUMBER = (int, float)
KEYS: dict[str, type | tuple[type, ...]] = {
    "seq_id": int, "source_file": str, "directory": str, "file_extension": str, "window_size": int, "length": int,
    "chunk_index": int, "total_chunks": int, "complexity": NUMBER, "priority": str, "is_core": bool, "is_test": bool,
    "augmentation_type": str, "weight": NUMBER, "age_days": int, "has_dependencies": bool, "type_density": NUMBER,
    "error_patterns": int, "row_id": str, "group": str, "role": str, "language": str, "split": str, "sample": str,
    "token_start": int,
}  # fmt: skip
"""What readers of the files rely on, with its type."""


def check(dataset: Dataset) -> Generator[Finding, None, str]:
    """A finding for each row that is not formed as promised; the figure is the number of rows."""
    from git_starcoder.text import tokenizer

    pad = tokenizer.load(dataset.tokenizer_folder).pad
    labelled = Recipe.load(dataset.folder / "recipe.yaml").write.labels
    rows = 0
    for split in SPLITS:
        number = 0
        try:
            for number, (row, labels) in enumerate(dataset.labelled(split), 1):
                wrong = list(_wrong(row, number - 1, split, dataset.metadata, pad))
                for what in wrong or (_wrong_labels(row, labels) if labelled else []):
                    yield Finding("rows", dataset.place(split, number - 1), what)
        except DatasetError as error:
            yield Finding("rows", error.where, error.what)
        rows += number
    return f"{rows:,} rows"


def _wrong(row: Row, number: int, split: str, dataset: dict[str, Any], pad: int) -> Iterator[str]:
    """What is wrong with one row."""
    said = row.metadata
    if not isinstance(cast("Any", said), dict):
        yield "metadata is not an object"
        return
    mistyped = [key for key, kind in KEYS.items() if not _is(said.get(key), kind)]
    if mistyped:
        for key in mistyped:
            yield f"{key} is {said[key]!r}" if key in said else f"no {key}"
        return
    if said["seq_id"] != number:
        yield f"seq_id is {said['seq_id']}, not {number}"
    if said["split"] != split:
        yield f"split is {said['split']!r}"
    if not 0 <= said["chunk_index"] < said["total_chunks"]:
        yield f"chunk {said['chunk_index']} of {said['total_chunks']}"
    if said["augmentation_type"] not in dataset["augmentation_techniques"]:
        yield f"augmentation_type {said['augmentation_type']!r} is not one that the metadata names"
    if said["window_size"] not in dataset["context_windows"]:
        yield f"window_size {said['window_size']} is not one of {dataset['context_windows']}"
    try:
        tokens = array("I", row.tokens)
    except (TypeError, OverflowError):
        yield "tokens are not a list of token ids"
    else:
        yield from _wrong_tokens(tokens, said["length"], said["window_size"], dataset["vocab_size"], pad)


def _wrong_tokens(tokens: array[int], length: int, size: int, vocabulary: int, pad: int) -> Iterator[str]:
    if len(tokens) != size:
        yield f"{len(tokens)} tokens in a window of {size}"
    if not 0 < length <= size:
        yield f"length {length} in a window of {size}"
    elif tokens[length:].count(pad) != len(tokens) - length:
        yield f"something else than padding after token {length}"
    if tokens and max(tokens) >= vocabulary:
        yield f"token {max(tokens)} of a vocabulary of {vocabulary}"


def _wrong_labels(row: Row, labels: dict[str, Any]) -> Iterator[str]:
    """What is wrong with what trainers are to learn from the row."""
    tokens, length, uncounted = row.tokens, row.metadata["length"], row.uncounted
    padding = len(tokens) - length
    expected = {
        "input_ids": tokens,
        "attention_mask": [1] * length + [0] * padding,
        "labels": [IGNORED] * uncounted + tokens[uncounted:length] + [IGNORED] * padding,
    }
    for name, values in expected.items():
        if labels.get(name) != values:
            yield f"{name} are not those of the tokens"


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
