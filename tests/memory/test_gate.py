"""Tests of the gate: its gradient, and what it learns."""

from __future__ import annotations

import numpy as np

from git_starcoder.memory.contexts import ContextIndex, OrderCounts
from git_starcoder.memory.file_counts import MAX_FILE_ORDER, file_counts
from git_starcoder.memory.gate import Evidence, Gate, collect_evidence
from git_starcoder.memory.sorting import MAX_ORDER

END = 0


def some_evidence(seed: int, count: int = 300) -> Evidence:
    """The evidence for a document that repeats parts of another one."""
    generator = np.random.default_rng(seed)
    known = generator.integers(1, 30, 400)
    document = np.where(generator.random(count) < 0.8, np.resize(known, count), generator.integers(1, 30, count))
    index = ContextIndex.build([known], 30, END)
    text = np.concatenate(([END], document))
    counts = index.counts(text, np.arange(1, len(text)))
    return collect_evidence(counts, file_counts(document, END), np.full(count, 1 / 30, dtype=np.float32))


def test_the_gradient_is_that_of_differences() -> None:
    evidence, generator = some_evidence(0), np.random.default_rng(1)
    gate = Gate.untrained()
    gate.parameters["outputs"][...] = generator.normal(0, 0.5, gate.parameters["outputs"].shape)

    def loss() -> float:
        return float(-np.log(gate.probabilities(evidence).astype(np.float64)).mean())

    for name, gradient in gate.gradient(evidence).items():
        array = gate.parameters[name]
        place = np.unravel_index(np.abs(gradient).argmax(), gradient.shape)
        value, losses = float(array[place]), []
        for step in (0.01, -0.01):
            array[place] = value + step
            losses.append(loss())
        array[place] = value
        assert np.isclose((losses[0] - losses[1]) / 0.02, gradient[place], rtol=0.01), name


def test_a_trained_gate_needs_fewer_bits_on_other_text() -> None:
    before, after = Gate.untrained(), Gate.fit(some_evidence(0, 3000))
    other = some_evidence(5)
    bits = [-np.log2(gate.probabilities(other)).mean() for gate in (before, after)]
    assert bits[1] < 0.95 * bits[0]


def test_a_gate_without_text_to_learn_from_is_untrained() -> None:
    nothing = (OrderCounts.zeros(0, MAX_ORDER + 1), OrderCounts.zeros(0, MAX_FILE_ORDER + 1))
    gate = Gate.fit(collect_evidence(*nothing, np.zeros(0, dtype=np.float32)))
    assert all(np.array_equal(gate.parameters[name], array) for name, array in Gate.untrained().parameters.items())
