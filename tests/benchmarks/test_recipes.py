"""The comparison of recipes: what is done is not done again, and the summary is paired over files."""

from __future__ import annotations

import json
import sys

import pytest

import finished
from checkout import ROOT
from git_starcoder.errors import OutputError, UsageError


@pytest.fixture
def recipes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return __import__("recipes")


def line(arm, seed, **files):
    return {"arm": arm, "repo": "r", "seed": seed, "files": {path: [bits, 100] for path, bits in files.items()}}


def test_the_summary_compares_the_same_seeds_and_files(recipes, capsys):
    lines = [line("a", 0, x=100.0, y=300.0), line("a", 1, x=900.0, y=900.0), line("b", 0, x=50.0, y=150.0)]
    recipes.print_summary(lines, ["a", "b"])
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "5.5000 bits per byte; 1.000 of a" in first
    assert "1.0000 bits per byte; 0.500 of a, 0.500 to 0.500; 1 seeds" in second


def test_results_are_read_or_refused(recipes, tmp_path):
    path = tmp_path / "results.jsonl"
    assert recipes.read_results(path) == []
    path.write_text(json.dumps({"arm": "a"}) + "\n")
    assert recipes.read_results(path) == [{"arm": "a"}]
    path.write_text("a text")
    with pytest.raises(OutputError):
        recipes.read_results(path)


def test_only_files_that_all_hold_out_are_scored(recipes, tmp_path):
    texts = [{"train": {"a.py": finished.source(1)}, "val": {name: finished.source(2) for name in names}}
             for names in (["b.py", "c.py"], ["c.py", "d.py"], ["e.py"])]  # fmt: skip
    datasets = {str(number): finished.write(tmp_path / str(number), each) for number, each in enumerate(texts)}
    assert recipes.shared_files({name: datasets[name] for name in "01"}, "val") == ["c.py"]
    with pytest.raises(UsageError):
        recipes.shared_files(datasets, "val")


def test_an_interrupted_run_goes_on(recipes, tmp_path, monkeypatch, capsys):
    (tmp_path / "arms.yaml").write_text("a: {recipe: natural}\nb: {recipe: baseline, train: [fim=0]}\n")
    made = []
    monkeypatch.setattr(recipes, "build_all", lambda arms, *_: dict.fromkeys(arms))
    monkeypatch.setattr(recipes, "shared_files", lambda *_: ["x"])
    monkeypatch.setattr(recipes, "measure", lambda arm, *_: made.append(arm) or {"files": {"x": [8.0, 1]}})
    monkeypatch.setattr(sys, "argv", ["recipes.py", str(tmp_path / "arms.yaml"), str(tmp_path / "done.jsonl"), "repo"])
    recipes.main()
    recipes.main()
    assert len(made) == 2
    assert len((tmp_path / "done.jsonl").read_text().splitlines()) == 2
    (tmp_path / "arms.yaml").write_text("a: {recipe: natural}\nb: {recipe: baseline, train: [fim=0.2]}\n")
    recipes.main()
    assert len(made) == 3
    assert "8.0000 bits per byte" in capsys.readouterr().out
