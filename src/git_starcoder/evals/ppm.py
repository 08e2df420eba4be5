"""Bits per byte of PPMd after the training text: a strong compressor that counts what follows what.

It goes on learning from one held-out file to the next, which the model may not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import MissingExtraError
from git_starcoder.evals import BITS_PER_BYTE, Score
from git_starcoder.scoring import mean_over_files

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput

CONTEXT_BYTES = 24
"""The longest context that PPMd counts; 32 bytes gain less than a thousandth of a bit."""
STATISTICS_BYTES = 1 << 30
"""The memory for its counts."""


def evaluate(inputs: EvalInput) -> list[Score]:
    """Compress the held-out files after the training text, and measure what each adds."""
    try:
        pyppmd: Any = import_module("pyppmd")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyppmd", "train") from error
    encoder: Any = pyppmd.Ppmd7Encoder(CONTEXT_BYTES, STATISTICS_BYTES)
    training, note = inputs.compressor_text()
    encoder.encode(training)
    texts = [inputs.decode(document.tokens) for document in inputs.held_out]
    added = [len(encoder.encode(text + b"\0")) for text in texts]
    added[-1] += len(encoder.flush())
    byte_counts = inputs.byte_counts()
    paths = [document.path for document in inputs.held_out]
    estimate = mean_over_files(paths, np.array(added) * 8.0, byte_counts, inputs.seed)
    subject = f"PPMd-{CONTEXT_BYTES} given the training text"
    return [Score("ppm", BITS_PER_BYTE, subject, *estimate, int(byte_counts.sum()), note)]
