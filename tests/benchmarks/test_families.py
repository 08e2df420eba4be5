"""The benchmark of families says what failed, and reads the scores before and after tuning from those of `run`."""

from __future__ import annotations

import json
import sys

import pytest

from checkout import ROOT

PAIR = {"subject": "network", "reference": "base before tuning", "ratio": 0.9, "low": 0.8, "high": 0.95}
FOUND = {
    "family": "qwen3", "tune": "lora", "base": 8.0, "tuned": 7.2, "ratio": 0.9, "low": 0.8, "high": 0.95,
    "validation before": 8.1, "validation after": 7.3, "resumed": True, "same weights": True, "ended": 0,
    "ended if raised": 4, "peak": 1234, "seconds": 10.0,
}  # fmt: skip


@pytest.fixture
def families(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("families")


def test_the_error_line_is_found(families):
    assert families.error_line("a note\nerror: no base\n  hint: another one\n") == "error: no base"
    assert families.error_line("Traceback\n  File\nValueError: x\n\n") == "ValueError: x"
    assert families.error_line("") == ""


def test_scores_of_all_files_are_read(families):
    score = {"measure": "bits per byte", "by": "", "subject": "network", "value": 7.2}
    scores = [
        score, {**score, "subject": "base before tuning", "value": 8.0}, {**score, "by": "language", "value": 1.0},
        {**score, "measure": "perplexity", "value": 30.0},
    ]  # fmt: skip
    other = {**PAIR, "subject": "memory", "ratio": 0.2}
    found = families.before_and_after({"scores": scores, "comparisons": [other, PAIR]})
    assert found == {"base": 8.0, "tuned": 7.2, "ratio": 0.9, "low": 0.8, "high": 0.95}


def test_a_row_has_figures_or_the_error(families):
    row = families.row(FOUND)
    assert row.startswith("| qwen3 | lora | 8.0000, 7.2000 | 100000.0 (50000.0 to 200000.0) | 8.10, 7.30 | yes |")
    assert "| NO |" in families.row({**FOUND, "resumed": False})
    failed = families.row({"family": "qwen3", "tune": "qlora", "error": "error: no", "peak": 0, "seconds": 1.0})
    assert "error: no" in failed
    assert failed.count("|") == row.count("|")


def test_what_is_finished_is_not_done_again(families, tmp_path, monkeypatch, capsys):
    (tmp_path / "qwen3-lora.json").write_text(json.dumps(FOUND))
    done = []
    monkeypatch.setattr(families, "try_family", lambda *wanted: done.append(wanted[2:]) or {**FOUND, "tune": "full"})
    wanted = ["families", str(tmp_path), "repo", "--only", "qwen3", "--tunes", "lora", "full"]
    monkeypatch.setattr(sys, "argv", wanted)
    assert families.main() == 0
    assert done == [("qwen3", "full")]
    monkeypatch.setattr(families, "try_family", None)
    assert families.main() == 0
    assert capsys.readouterr().out.count("| qwen3 | full |") == 2
