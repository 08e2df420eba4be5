"""Holds the rows of the training split as arrays: all tokens in one array, and columns of what the plan needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.row_layout import is_plain_text

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.text.tokenizer import Tokenizer

    Integers: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training rows as columns, in the order of the file.

    A row has two forms: its tokens as the dataset has them (`dataset_tokens`), and the tokens that a model reads
    (`input_tokens`), which may begin with an end-of-text token.
    """

    tokens: NDArray[Any]
    """Tokens of all rows without padding, in the smallest integer type that holds them, shape (tokens,)."""
    offsets: Integers
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (rows + 1,)."""
    is_plain_text: NDArray[np.bool_]
    """Whether the row is text as it is, at most with a header before it, shape (rows,)."""
    starts_text: NDArray[np.bool_]
    """Whether the row is the beginning of a plain text, so that a model reads an end-of-text token before it. Other
    rows that begin with a control token of their own need none. Shape (rows,)."""
    context_lengths: NDArray[np.int32]
    """Tokens of the row's header or other context prefix, which is not in the loss, shape (rows,)."""
    weights: NDArray[np.float64]
    """How often to draw the row, relative to the others; above 0. Shape (rows,)."""
    content_hashes: NDArray[np.uint64]
    """Hash of the row's content, shape (rows,)."""
    end_token: int
    """The end-of-text token."""
    fim_tokens: tuple[int, int, int] | None
    """The prefix, middle and suffix tokens; None if the tokenizer has none."""

    @classmethod
    def read(cls, dataset: Dataset, tokenizer: Tokenizer) -> Corpus:
        """Read the training split of a dataset.

        Raises:
            DatasetError: The split has no rows, or a row is damaged or has tokens that the tokenizer does not have.
        """
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        rows: list[tuple[Any, ...]] = []
        for number, row in enumerate(dataset.rows("train")):
            metadata, what = row.metadata, ""
            try:
                row_tokens: NDArray[Any] = np.array(row.tokens[: metadata["length"]])
                weight = float(metadata["weight"])
                is_first_window = metadata["token_start"] == 0
                content_hash, context_length = int(metadata["row_id"][:16], 16), int(row.context_length)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                what = f"row {number + 1} is damaged: {type(error).__name__} {error}"
                raise DatasetError(what, where=dataset.row_location("train", number)) from error
            are_integers = row_tokens.ndim == 1 and row_tokens.dtype.kind == "i"  # an empty array is of kind "f"
            if not (are_integers and 0 <= row_tokens.min() <= row_tokens.max() < tokenizer.vocab_size):
                what = f"row {number + 1} has no tokens, or tokens that the dataset's tokenizer does not have"
            elif not (0 < weight < float("inf") and context_length >= 0):
                what = f"row {number + 1} has a weight of {weight} and {context_length} tokens of context"
            if what:
                raise DatasetError(what, where=dataset.row_location("train", number))
            is_plain = is_plain_text(metadata)
            columns = is_plain, is_plain and is_first_window, context_length, weight, content_hash
            rows.append((row_tokens.astype(dtype), *columns))
        if not rows:
            hint = "the repository is too small for this recipe"
            raise DatasetError("there are no rows to train on", where=str(dataset.files("train")[0]), hint=hint)
        tokens, *values = zip(*rows, strict=True)
        offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        arrays = map(np.array, values, (np.bool_, np.bool_, np.int32, np.float64, np.uint64))
        return cls(np.concatenate(tokens), offsets, *arrays, end_token=tokenizer.end_id, fim_tokens=tokenizer.fim_ids)

    @cached_property
    def lengths(self) -> Integers:
        """Tokens of each row in the dataset, shape (rows,)."""
        return np.diff(self.offsets)

    @cached_property
    def ends_text(self) -> NDArray[np.bool_]:
        """Whether the row ends with the end-of-text token, shape (rows,)."""
        return self.tokens[self.offsets[1:] - 1] == self.end_token

    @cached_property
    def loss_starts(self) -> Integers:
        """Index of the first token of `input_tokens` that is in the loss, at least 1, shape (rows,)."""
        return np.maximum(1, self.starts_text + self.context_lengths.astype(np.int64))

    def dataset_tokens(self, index: int) -> NDArray[Any]:
        """The tokens of a row as the dataset has them, shape (length,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def input_tokens(self, index: int) -> NDArray[Any]:
        """The tokens of a row that a model reads: with an end-of-text token before them if the row starts a text."""
        tokens = self.dataset_tokens(index)
        if not self.starts_text[index]:
            return tokens
        return np.concatenate((np.array([self.end_token], dtype=tokens.dtype), tokens))
