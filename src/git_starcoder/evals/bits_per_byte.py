"""Bits per byte of held-out text: how well the trained model predicts what it has not seen. Lower is better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import Score, ratio, surprise

if TYPE_CHECKING:
    from git_starcoder.evals import Exam
    from git_starcoder.seams import Model

MEASURE = "bits per byte"


def evaluate(exam: Exam) -> Score:
    """Ask the trained model."""
    return score(exam, exam.model, "bits_per_byte", "trained model")


def score(exam: Exam, model: Model, key: str, subject: str) -> Score:
    """Bits that a model needs for the held-out documents and their ends, over their UTF-8 bytes."""
    bits = surprise(model, exam.heldout, exam.tokenizer.end)
    sizes = np.array([len(exam.text(document.tokens)) for document in exam.heldout])
    return Score(key, MEASURE, subject, *ratio(bits, sizes, exam.seed), int(sizes.sum()))
