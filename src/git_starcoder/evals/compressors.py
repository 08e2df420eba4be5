"""Measures what general compressors need for held-out text after the training text, as baselines of a model."""

from __future__ import annotations

import lzma
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import MissingExtraError
from git_starcoder.evals import BITS_PER_BYTE, Score, evaluation, mean_over_files

if TYPE_CHECKING:
    from git_starcoder.evals import EvalInput

CONTEXT_BYTES = 24
"""The longest context that PPMd counts; 32 bytes gain less than a thousandth of a bit."""
STATISTICS_BYTES = 1 << 30
"""The memory for its counts."""


@evaluation("xz")
def score_xz(inputs: EvalInput) -> list[Score]:
    """Bits per byte of xz after the training text: what copying alone explains.

    The training text is compressed with and without the held-out text; the difference is the size of the latter.
    """
    training, note = inputs.compressor_text()
    held_out = b"".join(inputs.decode(document.tokens) + b"\0" for document in inputs.held_out)
    size = int(inputs.byte_counts().sum())
    value = 8.0 * (xz_size(training + held_out) - xz_size(training)) / size
    files = len({document.path for document in inputs.held_out})
    return [Score("xz", BITS_PER_BYTE, "xz given the training text", value, None, None, files, size, note)]


def xz_size(text: bytes) -> int:
    """Return the bytes of a text after the strongest compression that xz has."""
    options = {
        "id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": max(4096, len(text)), "nice_len": 273,
    }  # fmt: skip
    return len(lzma.compress(text, lzma.FORMAT_RAW, filters=[options]))


@evaluation("ppm")
def score_ppm(inputs: EvalInput) -> list[Score]:
    """Bits per byte of PPMd after the training text: a strong compressor that counts what follows what.

    It goes on learning from one held-out file to the next, which the model may not.
    """
    try:
        pyppmd: Any = import_module("pyppmd")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyppmd", "train") from error
    encoder: Any = pyppmd.Ppmd7Encoder(CONTEXT_BYTES, STATISTICS_BYTES)
    training, note = inputs.compressor_text()
    encoder.encode(training)
    added = [len(encoder.encode(inputs.decode(document.tokens) + b"\0")) for document in inputs.held_out]
    added[-1] += len(encoder.flush())
    byte_counts = inputs.byte_counts()
    paths = [document.path for document in inputs.held_out]
    estimate = mean_over_files(paths, np.array(added) * 8.0, byte_counts, inputs.seed)
    subject = f"PPMd-{CONTEXT_BYTES} given the training text"
    return [Score("ppm", BITS_PER_BYTE, subject, *estimate, int(byte_counts.sum()), note)]
