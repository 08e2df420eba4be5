"""Bits per byte of held-out text, in all and by language and role, and perplexity: how well the trained model predicts.

Perplexity is per token, so it compares models of one tokenizer only; bits per byte compare all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import BITS, MODEL, PERPLEXITY, Score, mean, surprise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.evals import Exam
    from git_starcoder.protocols import LanguageModel


def evaluate(exam: Exam) -> list[Score]:
    """Ask the trained model."""
    bits, scores = score(exam, exam.model, "bits_per_byte", MODEL)
    sizes = exam.sizes()
    for by in ("language", "role"):
        groups = [str(getattr(document, by)) for document in exam.heldout]
        for group in sorted(set(groups)):
            of = [index for index, each in enumerate(groups) if each == group]
            paths = [exam.heldout[index].path for index in of]
            if sizes[of].sum():
                found = mean(paths, bits[of], sizes[of], exam.seed)
                scores.append(Score("bits_per_byte", BITS, MODEL, *found, int(sizes[of].sum()), "", by, group))
    return scores


def score(exam: Exam, model: LanguageModel, key: str, subject: str) -> tuple[NDArray[np.float64], list[Score]]:
    """Bits that a model needs for each held-out document and its end, and what they come to for a byte and a token."""
    bits = surprise(model, exam.heldout, exam.tokenizer.end_id)
    paths = [document.path for document in exam.heldout]
    tokens = np.array([len(document.tokens) for document in exam.heldout])
    sizes = exam.sizes()
    per_byte, per_token = (mean(paths, bits, below, exam.seed) for below in (sizes, tokens))
    low, high = (None if edge is None else _power(edge) for edge in (per_token.low, per_token.high))
    return bits, [
        Score(key, BITS, subject, *per_byte, int(sizes.sum())),
        Score(key, PERPLEXITY, subject, _power(per_token.value), low, high, per_token.files, int(tokens.sum())),
    ]


def _power(bits: float) -> float:
    """Two to the bits, or the largest number there is."""
    return float(np.exp2(min(bits, 1023.0)))
