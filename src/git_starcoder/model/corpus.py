"""The rows of the training split as columns: token ids behind one another, and what the plan needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training rows as columns, in the order of the file."""

    tokens: NDArray[Any]
    """Tokens of all rows without padding, in the smallest type that holds them, shape (tokens,)."""
    offsets: NDArray[np.int64]
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (rows + 1,)."""
    opens: NDArray[np.bool_]
    """Whether the row is the beginning of a text, so that the end-of-text token stands before it. One that begins with
    a control token of its own needs none."""
    uncounted: NDArray[np.int32]
    """Tokens at the beginning of the row that are shown and not learned."""
    weights: NDArray[np.float64]
    keys: NDArray[np.uint64]
    """Hash of the row's content."""

    @classmethod
    def read(cls, dataset: Dataset, vocab_size: int) -> Corpus:
        """The training split of a dataset whose tokens are below `vocab_size`.

        Raises:
            DatasetError: it has no rows, or a row that its tokenizer did not make.

        """
        dtype = np.min_scalar_type(vocab_size - 1)
        tokens: list[NDArray[Any]] = []
        opens: list[bool] = []
        uncounted: list[int] = []
        weights: list[float] = []
        keys: list[int] = []
        for row in dataset.rows("train"):
            found = np.array(row.tokens[: row.metadata["length"]], dtype=np.int64)
            if not (found.size and 0 <= found.min() <= found.max() < vocab_size):
                what = f"row {len(tokens) + 1} has tokens that its tokenizer does not have, or none"
                raise DatasetError(what, where=dataset.place("train", len(tokens)))
            tokens.append(found.astype(dtype))
            opens.append(row.metadata["token_start"] == 0 and not row.metadata.keys() & {"hole", "context"})
            uncounted.append(row.uncounted)
            weights.append(row.metadata["weight"])
            keys.append(int(row.metadata["row_id"][:16], 16))
        if not tokens:
            hint = "the repository is too small for this recipe"
            raise DatasetError("there are no rows to train on", where=str(dataset.files("train")[0]), hint=hint)
        offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        return cls(
            np.concatenate(tokens),
            offsets,
            np.array(opens),
            np.array(uncounted, dtype=np.int32),
            np.array(weights, dtype=np.float64),
            np.array(keys, dtype=np.uint64),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.diff(self.offsets)

    def row(self, index: int, end: int) -> NDArray[Any]:
        """The tokens of a row that a model reads: all behind the first `given` are predicted."""
        tokens = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        return np.concatenate((np.array([end], dtype=tokens.dtype), tokens)) if self.opens[index] else tokens

    @property
    def given(self) -> NDArray[np.int64]:
        """Tokens at the beginning of what `row` gives that are not predicted, at least one, shape (rows,)."""
        return np.maximum(1, self.opens + self.uncounted.astype(np.int64))
