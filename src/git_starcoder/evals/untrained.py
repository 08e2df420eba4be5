"""Bits per byte and perplexity of the same model with fresh weights: the difference is what training added."""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.evals import bits_per_byte

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput, Score


def evaluate(inputs: EvalInput) -> list[Score]:
    """Score the untrained model."""
    return bits_per_byte.score_model(inputs, inputs.untrained, "untrained", "untrained model")[1]
