"""Measures how well models and compressors predict held-out text: bits per byte and perplexity, in total and by group.

Perplexity is per token, so it compares models with the same tokenizer only; bits per byte compare all models.
"""

from __future__ import annotations

import lzma
from collections import Counter
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.errors import MissingExtraError
from git_starcoder.evals import BITS_PER_BYTE, PERPLEXITY, TRAINED_MODEL, Score, evaluation, mean_over_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document
    from git_starcoder.evals import EvalInput
    from git_starcoder.protocols import LanguageModel


CONTEXT_BYTES = 24
"""The longest context that PPMd counts; 32 bytes gain less than a thousandth of a bit."""
STATISTICS_BYTES = 1 << 30
"""The memory for its counts."""


@evaluation("bits_per_byte")
def score_trained_model(inputs: EvalInput) -> list[Score]:
    """Bits per byte of held-out text, in total and by language and role, and perplexity of the trained model."""
    bits, scores = _score_model(inputs, inputs.model, "bits_per_byte", TRAINED_MODEL)
    paths, byte_counts = [document.path for document in inputs.held_out], inputs.byte_counts()
    for by in ("language", "role"):
        groups = [str(getattr(document, by)) for document in inputs.held_out]
        scores += _score_groups("bits_per_byte", by, groups, paths, bits, byte_counts, inputs.seed)
    return scores


@evaluation("untrained")
def score_untrained_model(inputs: EvalInput) -> list[Score]:
    """Bits per byte and perplexity of the same model with fresh weights: the difference is what training added."""
    return _score_model(inputs, inputs.untrained, "untrained", "untrained model")[1]


@evaluation("kinds")
def score_kinds_of_rows(inputs: EvalInput) -> list[Score] | str:
    """Bits per byte of held-out rows by technique: files as they are, each variation of them, and each kind of context.

    Rows are scored as training shows them: a context prefix is read and not scored. Rows overlap, and the text before
    a row is not seen, so the figure of `base` is a little higher here than that of whole files.
    """
    rows, context = inputs.rows, inputs.model.context
    # If a row is longer than the model's context, its end is scored.
    scored_counts = [min(len(row.tokens) - row.context_length, context) for row in rows]
    token_bits = zip(inputs.model.token_bits([row.tokens[-context - 1 :] for row in rows]), scored_counts, strict=True)
    bits = np.array([float(each[len(each) - count :].sum(dtype=np.float64)) for each, count in token_bits])
    texts = [row.tokens[len(row.tokens) - count :] for row, count in zip(rows, scored_counts, strict=True)]
    byte_counts = np.array([len(inputs.decode(tokens)) for tokens in texts])
    techniques, paths = [row.technique for row in rows], [row.path for row in rows]
    row_counts, totals = Counter(techniques), {row.technique: row.technique_count for row in rows}
    return [
        score._replace(note=f"{row_counts[score.group]:,} of {totals[score.group]:,} rows")
        for score in _score_groups("kinds", "kind", techniques, paths, bits, byte_counts, inputs.seed)
    ] or "no rows are held out"


def _score_model(
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


def _score_groups(
    key: str, by: str, groups: list[str], paths: list[str], bits: NDArray[np.float64], byte_counts: NDArray[np.int64],
    seed: int,
) -> Iterator[Score]:  # fmt: skip
    """Yield the bits per byte of each group of texts; `groups` and `paths` say for each text where it belongs."""
    for group in sorted(set(groups)):
        members = [index for index, each in enumerate(groups) if each == group]
        if size := int(byte_counts[members].sum()):
            estimate = mean_over_files([paths[index] for index in members], bits[members], byte_counts[members], seed)
            yield Score(key, BITS_PER_BYTE, TRAINED_MODEL, *estimate, size, "", by, group)


def document_bits(
    model: LanguageModel, documents: Sequence[Document], end: int, *, parts: int = 4
) -> NDArray[np.float64]:
    """Return the bits that a model needs to predict each document, shape (documents,).

    Every token is scored once; the first follows the end-of-text token `end` and the header, as in training. Windows as
    long as the model's context move forward by a part of it, and only the tokens that are new in a window count. With
    four parts, each token is predicted from at least three quarters of the context, or from all text before it. That
    costs four times as much as one part, and is close to a full context for every token. All windows have the header.
    """
    windows: list[NDArray[np.int64]] = []
    owners: list[tuple[int, int]] = []  # which document each window is from, and how many of its tokens are new
    for index, document in enumerate(documents):
        tokens = np.concatenate(([end], document.tokens)).astype(np.int64)
        header = document.header[: model.context // 2].astype(np.int64)
        room = model.context - len(header)
        done = 1
        for start in range(0, len(tokens), max(1, room // parts)):
            stop = min(len(tokens), start + room + 1)
            if stop > done:
                windows.append(np.insert(tokens[start:stop], int(start == 0), header))
                owners.append((index, stop - done))
                done = stop
    total = np.zeros(len(documents))
    for (index, new_count), bits in zip(owners, model.token_bits(windows), strict=True):
        total[index] += bits[-new_count:].sum(dtype=np.float64)
    return total


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
