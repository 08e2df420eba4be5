"""The table of long trainings, from the lines that a training writes."""

from __future__ import annotations

import pytest

from checkout import ROOT


@pytest.fixture
def epochs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("epochs")


def test_how_a_training_went(epochs):
    lines = [{"step": 0, "seconds": 0.0, "held_out": 8.0}]
    for step, loss in enumerate([3.0, 2.0, 1.0, 0.6, 0.5, 0.3], 1):
        lines.append({"step": step, "seconds": step * 2.0, "tokens": step * 10, "loss": loss})
        if step % 2 == 0:
            lines.append({"step": step, "seconds": step * 2.0, "held_out": [2.0, 1.5, 1.8][step // 2 - 1]})
    found = epochs.course(lines, 0.5)
    assert found.epochs == 3
    assert found.tokens == 60
    assert found.seconds == 12
    assert found.best == (1.5, 2.0)
    assert found.last == 1.8
    assert found.training == pytest.approx([2.5, 0.8, 0.4])
    assert found.first_low == 3
    assert epochs.course(lines[:6], 0.5).first_low is None
