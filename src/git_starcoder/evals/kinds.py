"""Bits per byte of held-out rows by their kind: text as it is, each variation of it, and each kind of context.

Rows are scored as training shows them: a head of context is read and costs nothing. Rows overlap, and what stands
before a row is not seen; so the figure of `base` is a little higher here than that of whole files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import BITS, MODEL, Score, mean

if TYPE_CHECKING:
    from git_starcoder.evals import Exam


def evaluate(exam: Exam) -> list[Score] | str:
    """Ask the trained model about the rows of each kind."""
    windows = [row.tokens[-exam.model.context - 1 :] for row in exam.rows]
    counts = [min(len(row.tokens) - row.given, exam.model.context) for row in exam.rows]
    found = exam.model.token_bits(windows)
    bits = np.array(
        [float(line[len(line) - count :].sum(dtype=np.float64)) for line, count in zip(found, counts, strict=True)]
    )
    sizes = np.array(
        [len(exam.text(row.tokens[len(row.tokens) - count :])) for row, count in zip(exam.rows, counts, strict=True)]
    )
    scores: list[Score] = []
    for kind in dict.fromkeys(row.kind for row in exam.rows):
        of = [index for index, row in enumerate(exam.rows) if row.kind == kind]
        if sizes[of].sum():
            figure = mean([exam.rows[index].path for index in of], bits[of], sizes[of], exam.seed)
            note = f"{len(of):,} of {exam.rows[of[0]].among:,} rows"
            scores.append(Score("kinds", BITS, MODEL, *figure, int(sizes[of].sum()), note, "kind", kind))
    return scores or "no rows are held out"
