"""The rows of the training split as columns: token ids behind one another, and what the plan needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.text.tokenizer import Tokenizer


@dataclass(frozen=True, eq=False)
class Corpus:
    """Training rows as columns, in the order of the file."""

    tokens: NDArray[Any]
    """Tokens of all rows without padding, in the smallest type that holds them, shape (tokens,)."""
    offsets: NDArray[np.int64]
    """Row i is `tokens[offsets[i]:offsets[i + 1]]`, shape (rows + 1,)."""
    whole: NDArray[np.bool_]
    """Whether the row is text alone: no context before it, nothing masked in it."""
    opens: NDArray[np.bool_]
    """Whether the row is the beginning of a text, so that the end-of-text token stands before it. One that begins with
    a control token of its own needs none."""
    uncounted: NDArray[np.int32]
    """Tokens at the beginning of the row that are shown and not learned."""
    weights: NDArray[np.float64]
    """How often the row is to be drawn, compared with the others; above 0."""
    keys: NDArray[np.uint64]
    """Hash of the row's content."""
    end: int
    """The end-of-text token."""
    fim: tuple[int, int, int] | None
    """The prefix, middle and suffix tokens, where the tokenizer has them."""

    @classmethod
    def read(cls, dataset: Dataset, tokenizer: Tokenizer) -> Corpus:
        """The training split of a dataset with this tokenizer.

        Raises:
            DatasetError: it has no rows, one that is damaged, or one that its tokenizer did not make.

        """
        dtype = np.min_scalar_type(tokenizer.vocab_size - 1)
        tokens: list[NDArray[Any]] = []
        whole: list[bool] = []
        opens: list[bool] = []
        uncounted: list[int] = []
        weights: list[float] = []
        keys: list[int] = []
        for number, row in enumerate(dataset.rows("train")):
            about = row.metadata
            try:
                found: NDArray[Any] = np.array(row.tokens[: about["length"]])
                weight = float(about["weight"])
                opens_text = about["token_start"] == 0
                key, shown = int(about["row_id"][:16], 16), int(row.context_length)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                what = f"row {number + 1} is damaged: {type(error).__name__} {error}"
                raise DatasetError(what, where=dataset.row_location("train", number)) from error
            fine = found.ndim == 1 and found.dtype.kind == "i"  # of no tokens it is "f"
            if not (fine and 0 <= found.min() <= found.max() < tokenizer.vocab_size):
                what = f"row {number + 1} has tokens that its tokenizer does not have, or none"
                raise DatasetError(what, where=dataset.row_location("train", number))
            if not (0 < weight < float("inf") and shown >= 0):
                what = f"row {number + 1} has a weight of {weight} and {shown} tokens of context"
                raise DatasetError(what, where=dataset.row_location("train", number))
            tokens.append(found.astype(dtype))
            whole.append(not about.keys() & {"hole", "context"})
            opens.append(whole[-1] and opens_text)
            uncounted.append(shown)
            weights.append(weight)
            keys.append(key)
        if not tokens:
            hint = "the repository is too small for this recipe"
            raise DatasetError("there are no rows to train on", where=str(dataset.files("train")[0]), hint=hint)
        return cls(
            np.concatenate(tokens),
            np.cumsum([0, *map(len, tokens)], dtype=np.int64),
            np.array(whole),
            np.array(opens),
            np.array(uncounted, dtype=np.int32),
            np.array(weights, dtype=np.float64),
            np.array(keys, dtype=np.uint64),
            tokenizer.end,
            tokenizer.fim,
        )

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, shape (rows,)."""
        return np.diff(self.offsets)

    @cached_property
    def ends(self) -> NDArray[np.bool_]:
        """Whether the row ends with the end-of-text token, shape (rows,)."""
        return self.tokens[self.offsets[1:] - 1] == self.end

    def text(self, index: int) -> NDArray[Any]:
        """The tokens of a row as the dataset has them, shape (length,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def row(self, index: int) -> NDArray[Any]:
        """The tokens of a row that a model reads: all behind the first `given` are predicted."""
        text = self.text(index)
        return np.concatenate((np.array([self.end], dtype=text.dtype), text)) if self.opens[index] else text

    @cached_property
    def given(self) -> NDArray[np.int64]:
        """Tokens at the beginning of what `row` gives that are not predicted, at least one, shape (rows,)."""
        return np.maximum(1, self.opens + self.uncounted.astype(np.int64))
