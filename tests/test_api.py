"""The public Python API: every example of its page runs, and it answers what the commands answer."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import pytest

import git_starcoder
from checkout import ROOT
from git_starcoder import Dataset, Model, RecipeError, TrainConfig, UsageError, complete, show
from git_starcoder.cli import main
from shell import HUNG, environment
from toy import evolving


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    spec = importlib.util.spec_from_file_location("reference", ROOT / "docs/reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def project(repo_maker, reference):
    """A repository in which the examples of the page have run, in their order: it has a dataset and a model."""
    folder = repo_maker(evolving(14, 8))
    for name, example in reference.EXAMPLES.items():
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=folder, env=environment(OMP_NUM_THREADS="1"), capture_output=True,
            text=True, check=False, timeout=HUNG,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}\n{example}\n{done.stderr}"
    return folder


def answer(capsys, *words):
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_page_has_every_public_name_and_every_example(reference, project):
    page = reference.pages()["python"]
    assert [name for name in git_starcoder.__all__ if f"## {name}\n" not in page and f"| `{name}` |" not in page] == []
    assert all(f"```python\n{example}```" in page for example in reference.EXAMPLES.values())
    assert reference.EXAMPLES.keys() >= {name for name in git_starcoder.__all__ if name.islower()}
    assert "recipe: Recipe" in page
    assert "| `RecipeError` |" in page
    assert "| `force` | Whether to build again" in page
    assert os.path.isdir(project / "model")


def test_the_overview_is_what_the_command_shows(project, capsys):
    overview, said = show(project / "dataset"), answer(capsys, "show", project / "dataset")
    assert overview.splits == said["splits"]
    assert [row._asdict() for row in overview.rows] == [
        {"path": "", "split": row["split"], "technique": row["made_by"], "window_size": row["window_size"],
         "rows": row["rows"]} for row in said["rows"]
    ]  # fmt: skip
    assert [tuple(drop) for drop in overview.drops] == [
        (drop["step"], drop["reason"], drop["things"]) for drop in said["drops"]
    ]


def test_a_row_a_file_and_a_commit_are_what_the_command_shows(project, capsys):
    dataset = Dataset.open(project / "dataset")
    row, said = show(dataset, "train:0"), answer(capsys, "show", project / "dataset", "train:0")
    assert (row.facts, row.row.metadata) == (said["facts"], said["row"])
    path, commit = row.row.metadata["source_file"], row.row.metadata["commit"]
    for word, what in ((path, "path"), (commit, "commit")):
        origin, said = show(dataset, word), answer(capsys, "show", project / "dataset", word)
        assert (getattr(origin, what), sum(each.rows for each in origin.rows)) == (
            said[what],
            sum(each["rows"] for each in said["rows"]),
        )
        assert len(origin.drops) == len(said["drops"])
        assert (origin.path, origin.commit).count("") == 1
    with pytest.raises(UsageError, match="is no row, path or commit"):
        show(dataset, "nothing/of/the/kind.py")


def test_a_loaded_model_completes_as_the_function_does(project):
    model = Model.open(project / "model")
    for options in ({}, {"temperature": 0.8, "seed": 3}):
        assert model.complete("def f(", max_tokens=4, **options) == complete(
            project / "model", "def f(", max_tokens=4, **options
        )
    with pytest.raises(UsageError):
        model.complete("x", max_tokens=0)


def test_bits_per_byte_of_a_text(project):
    model = Model.open(project / "model")
    text = "def find(items):\n    return [item for item in items if item]\n"
    assert 0 < model.bits_per_byte(text) < 16
    assert model.bits_per_byte(text.encode()) == model.bits_per_byte(text)
    for wrong in ("", b"a\0b\0"):
        with pytest.raises(UsageError):
            model.bits_per_byte(wrong)


def test_a_config_made_in_python_is_checked_as_one_of_a_file():
    for wrong in ({"steps": 0}, {"steps": 3, "minutes": 1}, {"tune": "lora"}, {"optimizer": "sgd"}, {"dropout": 1}):
        with pytest.raises(UsageError):
            TrainConfig(**wrong)
    assert TrainConfig(epochs=3).epochs == 3.0
    assert TrainConfig(base="gpt2").learning_rate < TrainConfig(base="gpt2", tune="lora").learning_rate < 1e-2
    with pytest.raises(RecipeError, match="'size' is 8"):
        git_starcoder.Recipe.load("baseline", ("window.size=8",))
