"""The comparison of two versions scores the files that both hold out."""

from __future__ import annotations

import pytest

import finished
from checkout import ROOT


@pytest.fixture
def runs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("runs")


def test_only_files_that_all_hold_out_are_scored(runs, tmp_path):
    texts = [{"train": {"a.py": finished.source(1)}, "test": {name: finished.source(2) for name in names}}
             for names in (["b.py", "c.py"], ["c.py", "d.py"], ["e.py"])]  # fmt: skip
    datasets = {str(number): finished.write(tmp_path / str(number), each) for number, each in enumerate(texts)}
    assert runs.shared_files({name: datasets[name] for name in "01"}) == {"c.py"}
    with pytest.raises(SystemExit):
        runs.shared_files(datasets)
