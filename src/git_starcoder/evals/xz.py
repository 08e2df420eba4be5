"""Bits per byte of xz given the training text: what copying alone explains."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from git_starcoder.evals import BITS, Score

if TYPE_CHECKING:
    from git_starcoder.evals import Exam


def evaluate(exam: Exam) -> list[Score]:
    """The compressed size of training and held-out text, less that of the training text."""
    training, note = exam.priming()
    heldout = b"".join(exam.text(document.tokens) + b"\0" for document in exam.heldout)
    size = int(exam.sizes().sum())
    value = 8.0 * (compressed(training + heldout) - compressed(training)) / size
    files = len({document.path for document in exam.heldout})
    return [Score("xz", BITS, "xz given the training text", value, None, None, files, size, note)]


def compressed(text: bytes) -> int:
    """Bytes of a text after the strongest compression that xz has."""
    options = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(4096, len(text)),
        "nice_len": 273,
    }
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[options]))
