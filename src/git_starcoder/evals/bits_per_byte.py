"""Measures how well models predict held-out text: bits per byte and perplexity, in total and by group.

Perplexity is per token, so it compares models with the same tokenizer only; bits per byte compare all models.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from git_starcoder.evals import (
    BITS_PER_BYTE,
    IDENTIFIER_BITS,
    OTHER_BITS,
    PERPLEXITY,
    UNTRAINED,
    Score,
    control_mask,
    evaluation,
    mean_over_groups,
)
from git_starcoder.parse.identifiers import identifier_mask, span_mask, word_spans
from git_starcoder.protocols import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document, HeldOutRow
    from git_starcoder.evals import EvalInput
    from git_starcoder.protocols import LanguageModel

PARSE_SECONDS = 60.0
"""Processor seconds for the syntax tree of one held-out text."""


@evaluation("bits_per_byte")
def score_models(inputs: EvalInput) -> list[Score]:
    """Bits per byte and perplexity of each model, and of what its training started from.

    That is the base before tuning, or a network with random weights.

    Bits per byte are also divided into identifiers and the rest, and by language and role. The bits of a token are
    spread evenly over its bytes. The bits of the end-of-text token belong to the rest.
    """
    scores: list[Score] = []
    shares = identifier_shares(inputs)
    untrained = {} if inputs.untrained is None else {UNTRAINED: inputs.untrained}
    for subject, model in {**inputs.writers, **untrained}.items():
        # A network that has learned nothing gains nothing from more context, so the cheapest reading is enough.
        parts = 1 if subject == UNTRAINED else 4
        token_bits = document_token_bits(model, inputs.held_out, inputs.tokenizer.end_id, parts=parts)
        scores += _score_texts(inputs, subject, token_bits)
        if shares is not None:
            scores += _score_identifiers(inputs, subject, token_bits, shares)
    bits, byte_counts = np.array(scores[0].document_bits), inputs.byte_counts()
    for by in ("language", "role"):
        groups = [str(getattr(document, by)) for document in inputs.held_out]
        scores += _score_groups("bits_per_byte", next(iter(inputs.models)), by, groups, inputs.held_out, bits,
                                byte_counts, inputs.seed)  # fmt: skip
    return scores


@evaluation("kinds")
def score_kinds_of_rows(inputs: EvalInput) -> list[Score] | str:
    """Bits per byte of held-out rows, separately for each technique (`base`, each variation, each kind of context).

    Rows are scored as training shows them: a context prefix is read and not scored. Rows overlap, and the text before
    a row is not seen, so the figure of `base` is a little higher here than that of whole files.
    """
    rows = inputs.rows
    subject, model = next(iter(inputs.models.items()))
    token_bits = model.sequence_bits([row.tokens for row in rows], [row.context_length for row in rows])
    bits = np.array([each.sum(dtype=np.float64) for each in token_bits])
    byte_counts = np.array([len(inputs.decode(row.tokens[row.context_length :])) for row in rows])
    techniques = [row.technique for row in rows]
    row_counts, totals = Counter(techniques), {row.technique: row.technique_count for row in rows}
    return [
        score._replace(note=f"{row_counts[score.group]:,} of {totals[score.group]:,} rows")
        for score in _score_groups("kinds", subject, "kind", techniques, rows, bits, byte_counts, inputs.seed)
    ] or "no rows are held out"


def _score_texts(inputs: EvalInput, subject: str, token_bits: Sequence[NDArray[np.float32]]) -> list[Score]:
    """Return the bits per byte and the perplexity of all held-out text."""
    groups = [document.group for document in inputs.held_out]
    files = len({document.path for document in inputs.held_out})
    bits = np.array([each.sum(dtype=np.float64) for each in token_bits])
    byte_counts, token_counts = inputs.byte_counts(), np.array(list(map(len, token_bits)))
    per_byte, per_token = (
        mean_over_groups(groups, bits, counts, inputs.seed) for counts in (byte_counts, token_counts)
    )
    low, high = (None if edge is None else _perplexity(edge) for edge in (per_token.low, per_token.high))
    perplexity = per_token._replace(value=_perplexity(per_token.value), low=low, high=high)
    key = "bits_per_byte"
    return [
        Score(
            key, BITS_PER_BYTE, subject, *per_byte, files, int(byte_counts.sum()), document_bits=tuple(bits.tolist())
        ),
        Score(key, PERPLEXITY, subject, *perplexity, files, int(token_counts.sum())),
    ]


def _perplexity(bits: float) -> float:
    """Return 2 to the power of the bits per token, or the largest number there is."""
    return float(np.exp2(min(bits, 1023.0)))


def _score_identifiers(
    inputs: EvalInput, subject: str, token_bits: Sequence[NDArray[np.float32]], shares: Sequence[NDArray[np.float64]]
) -> Iterator[Score]:
    """Yield the bits per byte of identifiers and of the rest, which add up to all of them."""
    byte_counts = inputs.byte_counts()
    token_sizes = [_token_sizes(inputs, document.scored) for document in inputs.held_out]
    inside_bits = np.array([each @ share for each, share in zip(token_bits, shares, strict=True)])
    inside_bytes = np.array([sizes @ share for sizes, share in zip(token_sizes, shares, strict=True)])
    total_bits = np.array([each.sum(dtype=np.float64) for each in token_bits])
    for measure, bits, sizes in (
        (IDENTIFIER_BITS, inside_bits, inside_bytes),
        (OTHER_BITS, total_bits - inside_bits, byte_counts - inside_bytes),
    ):
        found = np.flatnonzero(sizes > 0)
        if len(found):
            documents = [inputs.held_out[index] for index in found.tolist()]
            groups = [document.group for document in documents]
            estimate = mean_over_groups(groups, bits[found], sizes[found], inputs.seed)
            files = len({document.path for document in documents})
            yield Score("bits_per_byte", measure, subject, *estimate, files, round(float(sizes.sum())))


def identifier_shares(inputs: EvalInput) -> list[NDArray[np.float64]] | None:
    """Return which share of the bytes of each scored token of each held-out text is in identifiers.

    None if the tokenizer is not byte-level, so that the bytes of a token are not known.
    """
    if inputs.tokenizer.token_byte_counts is None:
        return None
    texts = [(inputs.decode(document.tokens), document.language) for document in inputs.held_out]
    shares: list[NDArray[np.float64]] = []
    masks = inputs.engine.map(identifier_mask, texts, limit=PARSE_SECONDS)
    for document, (text, _), mask in zip(inputs.held_out, texts, masks, strict=True):
        # A text on which a grammar fails is read as words, as one without a grammar is.
        marked = span_mask(word_spans(text), len(text)) if isinstance(mask, Failure) else mask
        sizes = _token_sizes(inputs, document.tokens)
        # Sizes [3, 2], marked [0 1 1 1 0] -> edges [0, 3, 5], marked before [0, 2, 3] -> [2, 1] of [3, 2] bytes.
        edges = np.concatenate(([0], np.cumsum(sizes)))
        before = np.concatenate(([0], np.cumsum(marked)))
        shares.append((np.diff(before[edges]) / np.maximum(sizes, 1))[document.context_length :])
    return shares


def _token_sizes(inputs: EvalInput, tokens: NDArray[Any]) -> NDArray[np.int64]:
    """Return the bytes of each token of a text, 0 for control tokens. The tokenizer is byte-level."""
    sizes = cast("NDArray[np.int64]", inputs.tokenizer.token_byte_counts)
    return np.where(control_mask(inputs.tokenizer)[tokens], 0, sizes[tokens])


def _score_groups(
    key: str, subject: str, by: str, groups: list[str], texts: Sequence[Document] | Sequence[HeldOutRow],
    bits: NDArray[np.float64], byte_counts: NDArray[np.int64], seed: int,
) -> Iterator[Score]:  # fmt: skip
    """Yield the bits per byte of each group of texts; `groups` says for each text where it belongs."""
    for group in sorted(set(groups)):
        members = [index for index, name in enumerate(groups) if name == group]
        if size := int(byte_counts[members].sum()):
            leak_groups = [texts[index].group for index in members]
            files = len({texts[index].path for index in members})
            estimate = mean_over_groups(leak_groups, bits[members], byte_counts[members], seed)
            yield Score(key, BITS_PER_BYTE, subject, *estimate, files, size, by=by, group=group)


def document_token_bits(
    model: LanguageModel, documents: Sequence[Document], end: int, *, parts: int = 4
) -> list[NDArray[np.float32]]:
    """Return the bits that a model needs for each scored token of each document.

    Every token is scored once. `parts` is that of `LanguageModel.sequence_bits`.
    """
    headers = [document.header for document in documents]
    return model.sequence_bits(*document_sequences(documents, end), headers=headers, parts=parts)


def document_sequences(documents: Sequence[Document], end: int) -> tuple[list[NDArray[np.int64]], list[int]]:
    """Return documents as `LanguageModel.sequence_bits` takes them: sequences, and the index of the first scored token.

    A document that is read from its beginning follows the end-of-text token `end`, as in training.
    """
    ends = [[end] * (document.start == 0 or document.context_length == 0) for document in documents]
    sequences = [
        np.concatenate((first, document.tokens)).astype(np.int64)
        for first, document in zip(ends, documents, strict=True)
    ]
    return sequences, [len(first) + each.context_length for first, each in zip(ends, documents, strict=True)]


def document_bits(
    model: LanguageModel, documents: Sequence[Document], end: int, *, parts: int = 4
) -> NDArray[np.float64]:
    """Return the bits that a model needs for each document, shape (documents,). See `document_token_bits`."""
    found = document_token_bits(model, documents, end, parts=parts)
    return np.array([bits.sum(dtype=np.float64) for bits in found], dtype=np.float64)
