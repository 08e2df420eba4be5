"""Measures what compressors that know the training text need for held-out text: what counting and copying explain.

A compressor that has read the training text costs seconds to make, and its state cannot be copied. So a worker forks
for each held-out text: the child goes on from the state of its parent, and takes what it learned there with it.
"""

from __future__ import annotations

import lzma
import os
from importlib import import_module
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import MissingExtraError
from git_starcoder.evals import BITS_PER_BYTE, Score, evaluation, mean_over_groups
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.evals import EvalInput

CONTEXT_BYTES = 24
"""The longest context that PPMd counts; 32 bytes gain less than a thousandth of a bit."""
STATISTICS_BYTES = 1 << 30
"""The memory for its counts."""
COMPRESSOR_SECONDS = 3600.0
"""Processor seconds for one compressor."""
XZ = "xz, reset after each file"
PPM = f"PPMd-{CONTEXT_BYTES}, reset after each file"
"""The fair reference: like a model, it learns within a file and forgets it afterwards."""
PPM_GOING_ON = f"PPMd-{CONTEXT_BYTES}, going on from file to file"
"""It gains where held-out files resemble each other, and no model is given that."""


class CompressorTask(NamedTuple):
    """What a compressor reads."""

    name: str
    """`xz` or `ppm`."""
    training: bytes
    texts: list[tuple[bytes, bytes]]
    """Each held-out text: what is only read, and what is scored."""
    statistics_bytes: int = STATISTICS_BYTES
    """The memory for the counts of PPMd."""


class CompressedSizes(NamedTuple):
    """The bytes that a compressor needs for each held-out text."""

    reset: list[int]
    """If it has read the training text and nothing else."""
    going_on: list[int]
    """If it has also read the held-out texts before; empty for xz, which writes nothing before its buffer is full."""
    training_seconds: float
    seconds: float
    """The time for the held-out texts."""


@evaluation("compressors")
def score_compressors(inputs: EvalInput) -> list[Score] | str:
    """Bits per byte of the compressors xz and PPMd after the training text: what copying and counting alone achieve.

    The size of a held-out text is what it adds to the compressed training text. Both compressors read the same text.
    """
    sizes = compressed_sizes(inputs)
    if isinstance(sizes, str):
        return sizes
    xz, ppm = sizes
    note = inputs.compressor_text()[1]
    byte_counts, groups = inputs.byte_counts(), [document.group for document in inputs.held_out]
    files = len({document.path for document in inputs.held_out})
    scores: list[Score] = []
    for subject, found in {XZ: xz.reset, PPM: ppm.reset, PPM_GOING_ON: ppm.going_on}.items():
        bits = 8.0 * np.array(found)
        estimate = mean_over_groups(groups, bits, byte_counts, inputs.seed)
        size, each = int(byte_counts.sum()), tuple(bits.tolist())
        scores.append(Score("compressors", BITS_PER_BYTE, subject, *estimate, files, size, note, document_bits=each))
    return scores


def compressed_sizes(inputs: EvalInput) -> tuple[CompressedSizes, CompressedSizes] | str:
    """Return what xz and PPMd need for the held-out texts, or why a worker could not find out.

    Raises:
        MissingExtraError: pyppmd is not installed.
    """
    try:
        import_module("pyppmd")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "pyppmd", "train") from error
    training = inputs.compressor_text()[0]
    texts = [
        (inputs.decode(document.tokens[: document.context_length]), inputs.scored_text(document))
        for document in inputs.held_out
    ]
    tasks = [CompressorTask(name, training, texts) for name in ("xz", "ppm")]
    xz, ppm = inputs.engine.map(measure_sizes, tasks, limit=COMPRESSOR_SECONDS)
    if isinstance(xz, Failure):
        return f"xz failed: {xz.kind} {xz.detail}".rstrip()
    if isinstance(ppm, Failure):
        return f"PPMd failed: {ppm.kind} {ppm.detail}".rstrip()
    return xz, ppm


def measure_sizes(task: CompressorTask) -> CompressedSizes:
    """Compress the texts of a task. Call this only in worker processes, which have one thread: it forks."""
    start = perf_counter()
    encoder: Any
    if task.name == "xz":
        size = len(task.training) + max((len(read) + len(scored) for read, scored in task.texts), default=0)
        options = {
            "id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": max(4096, size), "nice_len": 273,
        }  # fmt: skip
        encoder = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=[options])
        encode = encoder.compress
    else:
        encoder = import_module("pyppmd").Ppmd7Encoder(CONTEXT_BYTES, task.statistics_bytes)
        encode = encoder.encode
    # xz compresses what it was given only when it is given more, and each child would have to do that anew.
    encode(task.training[:-1])
    encode(task.training[-1:])
    trained = perf_counter()

    def rest_size(*texts: bytes) -> int:
        """Bytes that the encoder still writes if it reads these texts and ends."""
        return sum(len(encode(text)) for text in texts) + len(encoder.flush())

    nothing = _in_child(rest_size, b"")
    reset = [
        _in_child(rest_size, read, scored) - (_in_child(rest_size, read) if read else nothing)
        for read, scored in task.texts
    ]
    going_on: list[int] = []
    if task.name == "ppm":
        for read, scored in task.texts:
            encode(read)
            # Exact to a few bytes: the encoder always holds back as many, before a text and after it.
            going_on.append(len(encode(scored)))
    return CompressedSizes(reset, going_on, trained - start, perf_counter() - trained)


def _in_child(function: Callable[..., int], *arguments: bytes) -> int:
    """Return what a function returns in a fork of this process, so that it changes nothing here."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, str(function(*arguments)).encode())
        finally:
            os._exit(0)  # nothing of the parent may run here: no handlers, no output
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        result = pipe.read()
    os.waitpid(child, 0)
    if not result:
        raise OSError("a fork of the compressor ended without a result")
    return int(result)
