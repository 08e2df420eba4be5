"""Bits per byte of xz after the training text: what copying alone explains."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

from git_starcoder.evals import BITS_PER_BYTE, Score

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput


def evaluate(inputs: EvalInput) -> list[Score]:
    """Compress the training text with and without the held-out text; the difference is the size of the latter."""
    training, note = inputs.compressor_text()
    held_out = b"".join(inputs.decode(document.tokens) + b"\0" for document in inputs.held_out)
    size = int(inputs.byte_counts().sum())
    value = 8.0 * (compressed_size(training + held_out) - compressed_size(training)) / size
    files = len({document.path for document in inputs.held_out})
    return [Score("xz", BITS_PER_BYTE, "xz given the training text", value, None, None, files, size, note)]


def compressed_size(text: bytes) -> int:
    """Return the bytes of a text after the strongest compression that xz has."""
    options = {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": max(4096, len(text)),
        "nice_len": 273,
    }
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[options]))
