"""A row as text, cut where it begins to count for the loss and at control tokens."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from git_starcoder.dataset import Row
    from git_starcoder.text.tokenizer import Tokenizer


class Piece(NamedTuple):
    """A part of a row's text."""

    text: str
    counts: bool
    """Whether it counts for the loss."""
    control: bool = False
    """Whether it is a control token, as it is spelled."""


def pieces(row: Row, tokenizer: Tokenizer) -> list[Piece]:
    """The text of a row without its padding, cut where it begins to count and at control tokens."""
    tokens = np.array(row.tokens[: row.metadata["length"]], dtype=np.int64)
    marks = [at for at, token in enumerate(tokens.tolist()) if token in tokenizer.control_tokens]
    cuts = sorted({0, len(tokens), min(row.uncounted, len(tokens)), *marks, *(at + 1 for at in marks)})
    found: list[Piece] = []
    for begin, stop in pairwise(cuts):
        text = tokenizer.decode(tokens[begin:stop]).decode("utf-8", "replace")
        found.append(Piece(text, begin >= row.uncounted, begin in marks))
    return found
