"""Bits per byte and perplexity of the same model with fresh weights: what training added is the difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.evals import bits_per_byte

if TYPE_CHECKING:
    from git_starcoder.evals import Exam, Score


def evaluate(exam: Exam) -> list[Score]:
    """Ask the untrained model."""
    return bits_per_byte.score(exam, exam.untrained, "untrained", "untrained model")[1]
