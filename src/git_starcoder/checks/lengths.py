"""Every row is as long as its window: text, then padding, and tokens of the vocabulary only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.checks import place
from git_starcoder.records import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.checks import BulkRow, Given, RowBlock
    from git_starcoder.records import Split

SEEDS = ("test_sequence_token_count",)
IGNORED = -100
"""The label of a token that does not count for the loss."""


class Check:
    """A finding for each row that is too long, badly padded or labelled; the figure is the tokens, counted."""

    def __init__(self, given: Given) -> None:
        self._dataset = given.dataset
        self._padding = np.uint32(given.samples.tokenizer.pad).tobytes()
        self._vocabulary = given.samples.tokenizer.vocab_size
        self._labelled = given.recipe.write.labels
        self._tokens = self._rows = 0
        self.figure = ""

    def block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """The tokens of some rows, and what trainers are to learn from them."""
        self._rows += len(block.rows)
        for row, said in zip(block.rows, block.metadata, strict=True):
            self._tokens += said["length"]
            wrong = list(self._wrong(row))
            for what in wrong or (_wrong_labels(row) if self._labelled else []):
                yield Finding("lengths", place(self._dataset, split, row), what)

    def end(self) -> Iterator[Finding]:
        """What the metadata say of all tokens."""
        for key, counted in (
            ("total_tokens", self._tokens),
            ("avg_tokens_per_sequence", round(self._tokens / max(1, self._rows), 1)),
            ("vocab_size", self._vocabulary),
        ):
            said = self._dataset.metadata.get(key)
            if said != counted:
                yield Finding("lengths", "dataset_metadata.json", f"{key} is {said}, but {counted} were counted")
        self.figure = f"{self._tokens:,} tokens of a vocabulary of {self._vocabulary:,}"

    def _wrong(self, row: BulkRow) -> Iterator[str]:
        """What is wrong with a row."""
        ids, length, size = row.token_ids, row.metadata["length"], row.metadata["window_size"]
        if len(ids) != size:
            yield f"{len(ids)} tokens in a window of {size}"
        if not 0 < length <= size:
            yield f"length {length} in a window of {size}"
        elif length < len(ids) and ids[length:].tobytes() != self._padding * (len(ids) - length):
            yield f"something else than padding after token {length}"
        if row.max_token >= self._vocabulary:
            yield f"token {row.max_token} of a vocabulary of {self._vocabulary}"
        if not 0 <= row.context_length < max(1, length):
            yield f"a context of {row.context_length} tokens in a row of {length}"


def _wrong_labels(row: BulkRow) -> Iterator[str]:
    """What is wrong with what trainers are to learn from the row."""
    tokens: list[int] = row.token_ids.tolist()
    length, uncounted = row.metadata["length"], row.context_length
    padding = len(tokens) - length
    expected: dict[str, Any] = {
        "input_ids": tokens,
        "attention_mask": [1] * length + [0] * padding,
        "labels": [IGNORED] * uncounted + tokens[uncounted:length] + [IGNORED] * padding,
    }
    for name, values in expected.items():
        if row.labels.get(name) != values:
            yield f"{name} are not those of the tokens"
