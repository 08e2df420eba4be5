"""The rows of the training split as columns: token ids behind one another, and what the plan needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Corpus:
    """Training rows as columns, in the order of the file."""

    tokens: NDArray[np.int32]
    """Tokens of all rows without padding, shape (tokens,)."""
    offsets: NDArray[np.int64]
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (rows + 1,)."""
    opens: NDArray[np.bool_]
    """Whether the row is the beginning of a text, so that the end-of-text token stands before it."""
    weights: NDArray[np.float64]
    keys: NDArray[np.uint64]
    """Hash of the row's content."""

    @classmethod
    def read(cls, dataset: Dataset, vocab_size: int) -> Corpus:
        """The training split of a dataset whose tokens are below `vocab_size`.

        Raises:
            DatasetError: it has no rows, or a row that its tokenizer did not make.

        """
        tokens: list[NDArray[np.int32]] = []
        opens: list[bool] = []
        weights: list[float] = []
        keys: list[int] = []
        for row in dataset.rows("train"):
            tokens.append(np.array(row.tokens[: row.metadata["length"]], dtype=np.int32))
            opens.append(row.metadata["token_start"] == 0 and "hole" not in row.metadata)
            weights.append(row.metadata["weight"])
            keys.append(int(row.metadata["row_id"][:16], 16))
        if not tokens:
            hint = "the repository is too small for this recipe"
            raise DatasetError("there are no rows to train on", where=str(dataset.files("train")[0]), hint=hint)
        flat = np.concatenate(tokens)
        if not (flat.size and 0 <= flat.min() <= flat.max() < vocab_size):
            raise DatasetError(
                "there are tokens that its tokenizer does not have", where=str(dataset.files("train")[0])
            )
        offsets = np.cumsum([0, *map(len, tokens)], dtype=np.int64)
        return cls(
            flat,
            offsets,
            np.array(opens),
            np.array(weights, dtype=np.float64),
            np.array(keys, dtype=np.uint64),
        )

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.diff(self.offsets)

    def row(self, index: int, end: int) -> NDArray[np.int32]:
        """The tokens of a row that a model reads: all but the first are predicted."""
        tokens = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        return np.concatenate((np.array([end], dtype=np.int32), tokens)) if self.opens[index] else tokens
