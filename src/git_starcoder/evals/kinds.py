"""Bits per byte of held-out rows by technique: files as they are, each variation of them, and each kind of context.

Rows are scored as training shows them: a context prefix is read and not scored. Rows overlap, and the text before a row
is not seen, so the figure of `base` is a little higher here than that of whole files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import BITS_PER_BYTE, TRAINED_MODEL, Score
from git_starcoder.scoring import mean_over_files

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput


def evaluate(inputs: EvalInput) -> list[Score] | str:
    """Score the trained model on the rows of each technique."""
    context = inputs.model.context
    # If a row is longer than the model's context, its end is scored.
    counts = [min(len(row.tokens) - row.context_length, context) for row in inputs.rows]
    token_bits = inputs.model.token_bits([row.tokens[-context - 1 :] for row in inputs.rows])
    scored = zip(token_bits, counts, strict=True)
    bits = np.array([float(each[len(each) - count :].sum(dtype=np.float64)) for each, count in scored])
    texts = [row.tokens[len(row.tokens) - count :] for row, count in zip(inputs.rows, counts, strict=True)]
    byte_counts = np.array([len(inputs.decode(tokens)) for tokens in texts])
    scores: list[Score] = []
    for technique in dict.fromkeys(row.technique for row in inputs.rows):
        members = [index for index, row in enumerate(inputs.rows) if row.technique == technique]
        size = int(byte_counts[members].sum())
        if size:
            paths = [inputs.rows[index].path for index in members]
            estimate = mean_over_files(paths, bits[members], byte_counts[members], inputs.seed)
            note = f"{len(members):,} of {inputs.rows[members[0]].technique_count:,} rows"
            scores.append(Score("kinds", BITS_PER_BYTE, TRAINED_MODEL, *estimate, size, note, "kind", technique))
    return scores or "no rows are held out"
