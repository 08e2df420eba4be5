"""Bits per byte of xz given the training text: what copying alone explains."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from git_starcoder.evals import Score

if TYPE_CHECKING:
    from git_starcoder.evals import Exam

LIMIT = 32 << 20
"""Bytes of training text; the dictionary holds all of it, and the memory is eleven times as much."""


def evaluate(exam: Exam) -> Score:
    """The compressed size of training and held-out text, less that of the training text."""
    training = b"".join(exam.text(document.tokens) + b"\0" for document in exam.training)
    note = f"given the first {LIMIT >> 20} MiB of it" if len(training) > LIMIT else ""
    training = training[:LIMIT]
    heldout = b"".join(exam.text(document.tokens) + b"\0" for document in exam.heldout)
    size = sum(len(exam.text(document.tokens)) for document in exam.heldout)
    value = 8.0 * (_compressed(training + heldout) - _compressed(training)) / size
    return Score("xz", "bits per byte", "xz given the training text", value, value, value, size, note)


def _compressed(text: bytes) -> int:
    options = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(4096, len(text)),
        "nice_len": 273,
    }
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[options]))
