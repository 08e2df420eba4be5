"""The contract and registry of evals: each measures something on held-out text.

An eval is a function with the decorator `evaluation` in any module of this package; nothing else registers it. The
first line of its docstring is its help. Every eval gets the same input, so that scores compare: some measure trained
models, others a baseline such as xz or copying.

Every interval is over leak groups: files that resemble each other are drawn together, because they are not independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from math import pi, sqrt, tan
from pkgutil import iter_modules
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset.held_out import Document, HeldOutRow
    from git_starcoder.protocols import Engine, LanguageModel
    from git_starcoder.text.tokenizer import Tokenizer

    EvalFunction = Callable[["EvalInput"], "list[Score] | str"]

MIN_RELIABLE_GROUPS = 5
"""A score over fewer leak groups is marked: its interval is wide, or there is none."""
BITS_PER_BYTE = "bits per byte"
IDENTIFIER_BITS = "bits per byte of identifiers"
OTHER_BITS = "bits per byte of the rest"
PERPLEXITY = "perplexity"
NEXT_LINE = "next line"
FILL_IN_THE_MIDDLE = "fill in the middle"
EXACT_MATCH, EDIT_SIMILARITY = ", exact match", ", edit similarity"
"""What is measured of text that a model writes; follows the name of the task."""
MEASURE_UNITS = {
    BITS_PER_BYTE: "bytes",
    IDENTIFIER_BITS: "bytes",
    OTHER_BITS: "bytes",
    PERPLEXITY: "tokens",
    NEXT_LINE + EXACT_MATCH: "lines",
    NEXT_LINE + EDIT_SIMILARITY: "lines",
    FILL_IN_THE_MIDDLE + EXACT_MATCH: "holes",
    FILL_IN_THE_MIDDLE + EDIT_SIMILARITY: "holes",
}
"""All measures in the order of a table, and what `Score.over` counts."""
LOWER_IS_BETTER = (BITS_PER_BYTE, IDENTIFIER_BITS, OTHER_BITS, PERPLEXITY)
NETWORK = "network"
"""The subject that `train` wrote."""
MEMORY = "memory"
"""The counts of the training split alone."""
BOTH = "network and memory"
"""The network with the memory mixed into its predictions, as `complete` uses them."""
UNTRAINED = "untrained network"
"""The architecture of a model from scratch with fresh weights: the difference is what training added."""
BASE = "base before tuning"
"""The model that training started from: the difference is what the repository added."""
BOOTSTRAP_DRAWS = 2000
"""Resamples for an interval: enough that its ends move by far less than its width from seed to seed."""


@dataclass(frozen=True, slots=True)
class EvalInput:
    """The models, the text and the limits of an evaluation."""

    models: Mapping[str, LanguageModel]
    """The models to measure by subject, the main one first: only its scores are broken down by group."""
    untrained: LanguageModel | None
    """The model that `UNTRAINED` names; None if the model was tuned from a base."""
    tokenizer: Tokenizer
    training: Sequence[Document]
    """The files of the training split."""
    held_out: Sequence[Document]
    """The held-out texts that are scored."""
    engine: Engine
    """Runs what must not run in this process: grammars, and compressors that fork."""
    rows: Sequence[HeldOutRow] = ()
    """Held-out rows of every technique."""
    seed: int = 0
    """The seed of the intervals. What is scored does not depend on it."""
    line_count: int = 200
    """How many next lines the model writes."""
    hole_count: int = 100
    """How many holes the model fills in."""
    no_fim_reason: str = ""
    """Why the model cannot fill in the middle, if that is known."""
    suffix_first: bool = False
    """Whether a model is shown the text after a hole before the text before it; see `row_layout.gap_prompt`."""
    compressor_bytes: int = 32 << 20
    """How much training text a compressor gets. The statistics of PPMd are known to hold those of 13 MB; the
    dictionary of xz holds all of it, and takes eleven times as much memory."""
    base: LanguageModel | None = None
    """The model that `BASE` names, which reads and writes as the tuned model does; None for a model from scratch."""

    @property
    def writers(self) -> dict[str, LanguageModel]:
        """The models that are asked to write text, by subject."""
        return {**self.models, **({} if self.base is None else {BASE: self.base})}

    def decode(self, tokens: NDArray[Any]) -> bytes:
        """Return the UTF-8 text of tokens, without control tokens."""
        return self.tokenizer.decode(tokens[~control_mask(self.tokenizer)[tokens]])

    def byte_counts(self) -> NDArray[np.int64]:
        """Return the bytes of each held-out document that are scored, shape (documents,)."""
        return np.array([len(self.decode(document.scored)) for document in self.held_out], dtype=np.int64)

    def scored_text(self, document: Document) -> bytes:
        """Return the text of a document that a compressor is scored on; a zero byte stands for the end of the file."""
        return self.decode(document.scored) + b"\0" * int(document.tokens[-1] == self.tokenizer.end_id)

    def compressor_text(self) -> tuple[bytes, str]:
        """Return the training text for a compressor, a zero byte after each document, and a note if it was cut."""
        parts: list[bytes] = []
        size = 0
        for document in self.training:
            parts.append(self.decode(document.tokens) + b"\0")
            size += len(parts[-1])
            if size > self.compressor_bytes:
                note = f"given the first {self.compressor_bytes / (1 << 20):.1f} MiB of it"
                return b"".join(parts)[: self.compressor_bytes], note
        return b"".join(parts), ""


class Score(NamedTuple):
    """One figure of an eval. The fields are keys of the scores file."""

    eval: str
    """The key of the eval."""
    measure: str
    """One of `MEASURE_UNITS`."""
    subject: str
    """What was measured: a model such as `network`, or a baseline."""
    value: float
    low: float | None
    """The 95 % confidence interval over leak groups; None if the spread is unknown, as for a single group."""
    high: float | None
    groups: int
    """The number of leak groups of these files."""
    files: int
    """The number of files that were scored."""
    over: int
    """The number of bytes, tokens, lines or holes that were scored."""
    note: str = ""
    by: str = ""
    """How scores are grouped: by `kind` (of row), `language` or `role`; empty for a score over everything."""
    group: str = ""
    """The kind, language or role."""
    document_bits: tuple[float, ...] = ()
    """The bits of each document of `EvalInput.held_out`, if that is what was measured."""


class Comparison(NamedTuple):
    """The bits of a subject as a share of those of a reference, on the same documents. The fields are JSON keys."""

    subject: str
    reference: str
    ratio: float
    """Below 1 if the subject needs fewer bits."""
    low: float | None
    """The paired 95 % confidence interval over leak groups; None for a single group."""
    high: float | None
    groups: int


@lru_cache(maxsize=2)
def control_mask(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which tokens are control tokens, shape (vocab_size,)."""
    mask = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    mask[list(tokenizer.control_tokens)] = True
    mask[tokenizer.end_id] = True
    return mask


_registered: dict[str, EvalFunction] = {}


def evaluation(key: str) -> Callable[[EvalFunction], EvalFunction]:
    """Register a function as the eval with a key. It returns scores, or a text that says why it cannot measure any."""

    def register(function: EvalFunction) -> EvalFunction:
        _registered[key] = function
        return function

    return register


@cache
def load_evals() -> dict[str, EvalFunction]:
    """Return all evals by key, sorted."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return dict(sorted(_registered.items()))


class Estimate(NamedTuple):
    """A mean over leak groups."""

    value: float
    low: float | None
    """The 95 % confidence interval over leak groups; None if the spread is unknown, as for a single group."""
    high: float | None
    groups: int


def mean_over_groups(
    groups: Sequence[str], numerators: Sequence[Any] | NDArray[Any], denominators: Any, seed: int
) -> Estimate:
    """Return the sum of `numerators` over the sum of `denominators`, with a confidence interval over leak groups.

    `groups` names the leak group of each number: all three have the same length. Numbers are summed per group first,
    because files of one group resemble each other, and so do parts of one file. With the bits of two subjects for the
    same documents, this is a paired comparison: what makes a file hard for both cancels.

    Raises:
        DatasetError: A numerator is not a finite number.
    """
    if not np.isfinite(numerators).all():
        hint = "its training went wrong: train it again, with a smaller learning rate"
        raise DatasetError("the model's predictions are not numbers", where="eval", hint=hint)
    numbers_of = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    owners = np.array([numbers_of[group] for group in groups], dtype=np.int64)
    above, below = (
        np.bincount(owners, np.asarray(values, dtype=np.float64), len(numbers_of))
        for values in (numerators, denominators)
    )
    return Estimate(*bootstrap_ratio(above, below, seed), len(numbers_of))


def compare(scores: Sequence[Score], subjects: Sequence[str], groups: Sequence[str], seed: int) -> list[Comparison]:
    """Return the bits of each of the subjects as a share of those of all others that were scored by document.

    `groups` names the leak group of each document. Two of the subjects are compared once, the later with the earlier.
    """
    bits = {score.subject: score.document_bits for score in scores if score.document_bits}
    pairs = [
        (subject, reference)
        for index, subject in enumerate(subjects)
        for reference in bits
        if reference not in subjects[index:]
    ]
    return [
        Comparison(subject, reference, *mean_over_groups(groups, bits[subject], bits[reference], seed))
        for subject, reference in pairs
    ]


def student_quantile(degrees: int) -> float:
    """Return the 0.975 quantile of Student's t: 12.7 for one degree of freedom, 1.96 for very many.

    One and two degrees have closed forms; for more, it is the expansion of Abramowitz and Stegun, 26.7.5, which is at
    most 1 % too low.
    """
    if degrees == 1:
        return tan(0.475 * pi)
    if degrees == 2:
        return 0.95 * sqrt(2 / (4 * 0.975 * 0.025))
    z = NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def bootstrap_ratio(
    numerators: NDArray[Any], denominators: NDArray[Any], seed: int
) -> tuple[float, float | None, float | None]:
    """Return sum over sum, and the ends of its 95 % interval from a bootstrap. Both have a number for each leak group.

    A bootstrap over few groups underestimates the spread. So its quantiles are those of the expanded percentile
    interval (Hesterberg, 2015, "What Teachers Should Know About the Bootstrap"), which widens it as Student's t widens
    the normal interval: for two or three groups the ends are the extremes. One group has no interval.
    """
    value = float(numerators.sum() / denominators.sum())
    groups = len(numerators)
    if groups < 2:
        return value, None, None
    drawn = np.random.default_rng(seed).integers(0, groups, (BOOTSTRAP_DRAWS, groups))
    totals = denominators[drawn].sum(axis=1)
    degrees = groups - 1
    quantile = NormalDist().cdf(-sqrt(groups / degrees) * student_quantile(degrees))  # nears 0.025 for many groups
    ratios = numerators[drawn].sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(ratios, (quantile, 1 - quantile))
    return value, float(low), float(high)
