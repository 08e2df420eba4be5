"""Chooses spans of rows that are nodes of the syntax tree, to be filled in (AST-FIM: Gong et al., 2025).

A row is parsed as it is: the parser copes with a text that begins and ends anywhere. It runs in a worker process,
because a grammar may crash.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from git_starcoder.hashing.arrays import run_offsets
from git_starcoder.parse.tree import parse
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.protocols import Engine
    from git_starcoder.text.tokenizer import Tokenizer

PARSE_TIMEOUT_SECONDS = 10.0
"""Time limit of one row, whose parse takes milliseconds; this is for hangs."""
MAX_NODE_SHARE = 0.5
"""Largest node that is filled in, as a share of the row."""


class SpanTask(NamedTuple):
    """A row in which a node is to be found."""

    text: bytes
    language: str
    place: float
    """Where in the text, as a share of it."""
    level: float
    """Which of the nodes there, from the smallest to the largest, as a share of them."""


def find_node(task: SpanTask) -> tuple[int, int] | None:
    """The bytes of a named node of the syntax tree; None if there is none at this place. Runs in a worker.

    All named nodes around the place that are not too large are equally likely, so names, expressions, statements and
    functions all occur.
    """
    root = parse(task.text, task.language).root
    if root is None:
        return None
    place = int(task.place * len(task.text))
    node = root.named_descendant_for_byte_range(place, place)
    spans: list[tuple[int, int]] = []
    while node is not None and node.end_byte - node.start_byte <= MAX_NODE_SHARE * len(task.text):
        span = (node.start_byte, node.end_byte)
        if span[0] < span[1] and span not in spans[-1:]:  # a node and its only child have one span
            spans.append(span)
        node = node.parent
    return spans[int(task.level * len(spans))] if spans else None


class SyntaxSpans:
    """Finds nodes in rows of tokens."""

    def __init__(self, tokenizer: Tokenizer, engine: Engine) -> None:
        self._tokenizer = tokenizer
        self._engine = engine

    def find(
        self, rows: Sequence[tuple[NDArray[np.integer], str]], shares: NDArray[np.float64]
    ) -> list[tuple[int, int] | None]:
        """The tokens from start to stop of a node in each row, widened to whole tokens; None where there is none.

        `rows` are tokens and language of each row, and `shares` has the `place` and `level` of each, shape (rows, 2).
        """
        byte_counts = self._tokenizer.token_byte_counts
        if byte_counts is None:  # the tokens are no bytes
            return [None] * len(rows)
        tasks = [
            SpanTask(self._tokenizer.decode(tokens), language, *each)
            for (tokens, language), each in zip(rows, shares.tolist(), strict=True)
        ]
        found: list[tuple[int, int] | None] = []
        for (tokens, _), span in zip(
            rows, self._engine.map(find_node, tasks, limit=PARSE_TIMEOUT_SECONDS), strict=True
        ):
            if span is None or isinstance(span, Failure):
                found.append(None)
                continue
            # Tokens of 3, 1 and 2 bytes have the offsets [0, 3, 4, 6]: the bytes 1 to 4 are the tokens 0 to 2.
            offsets = run_offsets(byte_counts[tokens])
            start = int(np.searchsorted(offsets, span[0], side="right")) - 1
            found.append((start, int(np.searchsorted(offsets, span[1]))))
        return found
