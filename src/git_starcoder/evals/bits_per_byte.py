"""Bits per byte of held-out text, in total and by language and role, and perplexity of the trained model.

Perplexity is per token, so it compares models with the same tokenizer only; bits per byte compare all models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.evals import BITS_PER_BYTE, PERPLEXITY, TRAINED_MODEL, Score
from git_starcoder.scoring import document_bits, mean_over_files

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.evals import EvalInput
    from git_starcoder.protocols import LanguageModel


def evaluate(inputs: EvalInput) -> list[Score]:
    """Score the trained model."""
    bits, scores = score_model(inputs, inputs.model, "bits_per_byte", TRAINED_MODEL)
    byte_counts = inputs.byte_counts()
    for attribute in ("language", "role"):
        groups = [str(getattr(document, attribute)) for document in inputs.held_out]
        for group in sorted(set(groups)):
            members = [index for index, each in enumerate(groups) if each == group]
            paths = [inputs.held_out[index].path for index in members]
            size = int(byte_counts[members].sum())
            if size:
                estimate = mean_over_files(paths, bits[members], byte_counts[members], inputs.seed)
                score = Score("bits_per_byte", BITS_PER_BYTE, TRAINED_MODEL, *estimate, size, "", attribute, group)
                scores.append(score)
    return scores


def score_model(
    inputs: EvalInput, model: LanguageModel, key: str, subject: str
) -> tuple[NDArray[np.float64], list[Score]]:
    """Return the bits that a model needs for each held-out document, and the bits per byte and perplexity of all."""
    bits = document_bits(model, inputs.held_out, inputs.tokenizer.end_id)
    paths = [document.path for document in inputs.held_out]
    token_counts = np.array([len(document.tokens) for document in inputs.held_out])
    byte_counts = inputs.byte_counts()
    per_byte, per_token = (mean_over_files(paths, bits, counts, inputs.seed) for counts in (byte_counts, token_counts))
    low, high = (None if edge is None else _perplexity(edge) for edge in (per_token.low, per_token.high))
    perplexity = _perplexity(per_token.value)
    return bits, [
        Score(key, BITS_PER_BYTE, subject, *per_byte, int(byte_counts.sum())),
        Score(key, PERPLEXITY, subject, perplexity, low, high, per_token.files, int(token_counts.sum())),
    ]


def _perplexity(bits: float) -> float:
    """Return 2 to the power of the bits per token, or the largest number there is."""
    return float(np.exp2(min(bits, 1023.0)))
