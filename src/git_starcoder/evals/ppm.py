"""Bits per byte of PPMd given the training text: a strong compressor that only counts, and learns nothing else.

It may go on learning from one held-out file to the next, which the model may not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import MissingExtraError
from git_starcoder.evals import BITS, Score, mean

if TYPE_CHECKING:
    from git_starcoder.evals import Exam

ORDER = 24
"""Bytes of context; 32 gain less than a thousandth of a bit."""
MEMORY = 1 << 30
"""Bytes for the statistics."""


def evaluate(exam: Exam) -> list[Score]:
    """Compress the held-out files after the training text, and count what each adds."""
    try:
        pyppmd: Any = import_module("pyppmd")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyppmd", "train") from error
    encoder: Any = pyppmd.Ppmd7Encoder(ORDER, MEMORY)
    training, note = exam.priming()
    encoder.encode(training)
    texts = [exam.text(document.tokens) for document in exam.heldout]
    added = [len(encoder.encode(text + b"\0")) for text in texts]
    added[-1] += len(encoder.flush())
    sizes = exam.sizes()
    found = mean([document.path for document in exam.heldout], np.array(added) * 8.0, sizes, exam.seed)
    return [Score("ppm", BITS, f"PPMd-{ORDER} given the training text", *found, int(sizes.sum()), note)]
