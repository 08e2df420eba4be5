"""Decides how much each context counts for a prediction, from what is known before the next token is.

A prediction begins with a distribution over the vocabulary: that of a network, or the same probability for each token.
The contexts of the repository and of the file, from the shortest to the longest, each mix their counts into it:

    p = (1 - escape) * discounted counts + escape * p

This is Kneser-Ney smoothing (Chen and Goodman, 1999), except that escape probabilities are learned. The escape of a
context is a function of its counts that never sees the next token, so the result sums to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from git_starcoder.memory.contexts import OrderCounts
from git_starcoder.memory.file_counts import MAX_FILE_ORDER
from git_starcoder.memory.sorting import MAX_ORDER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

REPOSITORY, FILE = 0, 1
"""Where counts are from."""
EXPERTS = sorted(
    (order, source)
    for source, longest in ((REPOSITORY, MAX_ORDER), (FILE, MAX_FILE_ORDER))
    for order in range(longest + 1)
)
"""The order and the source of each expert, in the order in which they are mixed in: the last has the last word."""
ORDERS, SOURCES = np.array(EXPERTS).T
DISCOUNTS = np.array([0.0, 0.62, 0.8, 0.9], dtype=np.float32)
"""What is taken off the counts 0, 1, 2 and all larger ones. On three repositories, learning
them as well gained 0.2 to 0.3 % of the bits."""
MIN_ESCAPE = 1e-3
HIDDEN_UNITS = 8
"""The width of the layer between what is known of a context and its escape; 32 gain less than a thousandth."""
FEATURES, NETWORK_FEATURES = 9, 2
"""What an escape is computed from: features of the contexts, and of the prediction of a network."""
FIT_STEPS = 150
FIT_BATCH = 4096
FIT_RATE = 0.03
"""The training of a gate: steps, tokens per step, and the first learning rate."""


class Evidence(NamedTuple):
    """What is known before each token, and what it says about the token."""

    features: Floats
    """What an escape is computed from, shape (tokens, experts, features)."""
    is_known: NDArray[np.bool_]
    """Whether the context of an expert is known, shape (tokens, experts)."""
    kept: Floats
    """The sum of the discounted counts of a context, shape (tokens, experts)."""
    escapes: Floats
    """The share of its counts that the discounts take away, shape (tokens, experts)."""
    predictions: Floats
    """The probability that an expert gives the token that really follows, shape (tokens, experts)."""
    base: Floats
    """The probability of that token before contexts are mixed in, shape (tokens,)."""

    def select(self, rows: NDArray[np.integer]) -> Evidence:
        """Return the evidence of some tokens."""
        arrays: Any = (array[rows] for array in self)
        return Evidence(*arrays)


def discounted(counts: NDArray[Any]) -> Floats:
    """Return counts less their discounts."""
    return counts - DISCOUNTS[np.minimum(counts, 3).astype(np.int64)]


def collect_evidence(
    repository: OrderCounts, file: OrderCounts, base: Floats, network: Floats | None = None
) -> Evidence:
    """Bring counts into the order of the experts, and compute what a gate needs.

    If the base is a network's, `network` is the entropy of its prediction in bits, and its largest probability, for
    each token, shape (tokens, 2).
    """
    column = ORDERS + (MAX_ORDER + 1) * (SOURCES != REPOSITORY)
    counts = OrderCounts(*(np.concatenate(pair, axis=1)[:, column] for pair in zip(repository, file, strict=True)))
    longest = np.stack([(each.total > 0).sum(axis=1) - 1 for each in (repository, file)], axis=1)
    total = np.maximum(counts.total, 1)
    distinct = counts.ones + counts.twos + counts.more
    features = [
        np.log1p(counts.total),
        np.log1p(distinct),
        counts.largest / total,
        counts.ones / total,
        np.minimum(longest[:, SOURCES] - ORDERS, 8) / 4,
        np.log1p(counts.occurrences) / 4,
        distinct == 1,
        longest[:, 1 - SOURCES] / 8,
        np.log1p(counts.largest),
    ]
    if network is not None:
        features += [np.broadcast_to(each[:, None], total.shape) for each in (network[:, 0] / 8, network[:, 1])]
    taken = DISCOUNTS[1] * counts.ones + DISCOUNTS[2] * counts.twos + DISCOUNTS[3] * counts.more
    is_known = counts.total > 0
    kept = np.where(is_known, counts.total - taken, 1)
    escapes = np.clip(taken / total, MIN_ESCAPE, 1 - MIN_ESCAPE)
    predictions = (discounted(counts.target) / kept).astype(np.float32)
    return Evidence(np.stack(features, axis=2, dtype=np.float32), is_known, kept, escapes, predictions, base)


@dataclass(frozen=True)
class Gate:
    """A function from evidence to the escape probability of each expert, with learned parameters."""

    parameters: Mapping[str, Floats]

    @classmethod
    def untrained(cls, seed: int = 0, *, of_network: bool = False) -> Self:
        """Return a gate with the escape probabilities of Kneser-Ney smoothing."""
        feature_count = FEATURES + NETWORK_FEATURES * of_network
        generator = np.random.default_rng(seed)
        parameters = {
            "weights": generator.normal(0, 0.3, (2, feature_count, HIDDEN_UNITS)),
            "offsets": generator.normal(0, 0.3, (len(EXPERTS), HIDDEN_UNITS)),
            "outputs": np.zeros((2, HIDDEN_UNITS)),
            "biases": np.zeros(len(EXPERTS)),
        }
        return cls({name: array.astype(np.float32) for name, array in parameters.items()})

    @classmethod
    def fit(cls, evidence: Evidence, seed: int = 0) -> Self:
        """Train a gate to give the tokens of the evidence the largest probability, with Adam (Kingma and Ba, 2015)."""
        gate = cls.untrained(seed, of_network=evidence.features.shape[2] > FEATURES)
        generator = np.random.default_rng(seed)
        # The moving averages of the gradients and of their squares, with the usual decays of 0.9 and 0.999.
        means, squares = ({name: np.zeros_like(array) for name, array in gate.parameters.items()} for _ in range(2))
        count = len(evidence.base)
        for step in range(FIT_STEPS if count else 0):
            batch = evidence.select(generator.integers(0, count, min(FIT_BATCH, count)))
            rate = FIT_RATE * (1 - step / FIT_STEPS)
            for name, gradient in gate.gradient(batch).items():
                means[name] += 0.1 * (gradient - means[name])
                squares[name] += 0.001 * (gradient**2 - squares[name])
                mean, square = means[name] / (1 - 0.9 ** (step + 1)), squares[name] / (1 - 0.999 ** (step + 1))
                gate.parameters[name][...] -= rate * mean / (np.sqrt(square) + 1e-8)
        return gate

    def escapes(self, evidence: Evidence) -> Floats:
        """Return the escape probability of each expert, 1 if its context is unknown, shape (tokens, experts)."""
        return self._hidden_and_escapes(evidence)[1]

    def probabilities(self, evidence: Evidence) -> Floats:
        """Return the probability of the token that really follows, shape (tokens,)."""
        return self._forward(evidence)[2][:, -1]

    def _forward(self, evidence: Evidence) -> tuple[Floats, Floats, Floats]:
        """Return the hidden units, the escapes, and the probability before the first and after each expert."""
        hidden, escapes = self._hidden_and_escapes(evidence)
        steps = np.empty((len(escapes), len(EXPERTS) + 1), dtype=np.float32)
        steps[:, 0] = evidence.base
        for expert in range(len(EXPERTS)):
            escape, prediction = escapes[:, expert], evidence.predictions[:, expert]
            steps[:, expert + 1] = (1 - escape) * prediction + escape * steps[:, expert]
        return hidden, escapes, steps

    def _hidden_and_escapes(self, evidence: Evidence) -> tuple[Floats, Floats]:
        weights, offsets, outputs, biases = (
            self.parameters[name] for name in ("weights", "offsets", "outputs", "biases")
        )
        hidden = np.empty((*evidence.is_known.shape, HIDDEN_UNITS), dtype=np.float32)
        for source in (REPOSITORY, FILE):
            hidden[:, source == SOURCES] = evidence.features[:, source == SOURCES] @ weights[source]
        hidden = np.tanh(hidden + offsets)
        logits = np.einsum("teh,eh->te", hidden, outputs[SOURCES]) + biases
        odds = np.exp(-logits) * (1 - evidence.escapes) / evidence.escapes
        return hidden, np.where(evidence.is_known, 1 / (1 + odds), 1).astype(np.float32)

    def gradient(self, evidence: Evidence) -> dict[str, Floats]:
        """Return the gradient of the mean of -log p over the tokens for each parameter, by backpropagation."""
        hidden, escapes, steps = self._forward(evidence)
        above = -1 / np.maximum(steps[:, -1], 1e-9) / len(steps)
        by_logit = np.empty_like(escapes)
        for expert in reversed(range(len(EXPERTS))):
            escape = escapes[:, expert]
            # From p = (1 - e) q + e p', dp/de = p' - q; and e is a sigmoid of its logit.
            by_logit[:, expert] = above * (steps[:, expert] - evidence.predictions[:, expert]) * escape * (1 - escape)
            above = above * escape
        by_hidden = by_logit[:, :, None] * self.parameters["outputs"][SOURCES] * (1 - hidden**2)
        by_source = [source == SOURCES for source in (REPOSITORY, FILE)]
        by_output = np.einsum("te,teh->eh", by_logit, hidden)
        return {
            "weights": np.stack(
                [np.tensordot(evidence.features[:, own], by_hidden[:, own], ((0, 1), (0, 1))) for own in by_source]
            ),
            "offsets": by_hidden.sum(axis=0),
            "outputs": np.stack([by_output[own].sum(axis=0) for own in by_source]),
            "biases": by_logit.sum(axis=0),
        }
