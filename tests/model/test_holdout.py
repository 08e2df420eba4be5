"""Training and scoring with each way to hold out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import StarcoderError
from git_starcoder.git.objects import Repo
from git_starcoder.memory.gate import Gate
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.evaluate import NothingHeldOutError, evaluate
from git_starcoder.model.training import train
from git_starcoder.model.with_memory import MEMORY_FOLDER
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from toy import code_base

SETTINGS = ("window.vocab_size=600", "window.size=64", "window.header=toy")
FILES = code_base(30)
PAST = dict([*FILES.items()][:24])
CHANGED = next(path for path in PAST if path.endswith(".py"))
ADDED = "".join(f"measured_{n} = weigh_sample({n * 31}, 'kind {n}')\n" for n in range(8))
TOY = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
CONFIG = TrainConfig(size="toy", batch=1024, device="cpu", precision="float32", steps=3)


@pytest.fixture(scope="module")
def repository(repo_maker):
    later = {**dict([*FILES.items()][24:]), CHANGED: PAST[CHANGED] + ADDED}
    return Repo.open(repo_maker([PAST, later]))


def built(repository, out, *settings):
    with LocalEngine(1) as engine:
        return build(repository, Recipe.load("natural", (*SETTINGS, *settings)), out, engine=engine)


@pytest.fixture(scope="module")
def of_commits(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("commits")
    dataset = built(repository, folder / "dataset", "split.holdout=commits", "split.commits=1")
    train(dataset, folder / "model", CONFIG)
    return dataset, folder / "model"


def test_a_model_is_scored_on_what_commits_added_and_its_memory_holds_the_past(of_commits):
    dataset, model = of_commits
    scores = evaluate(model, dataset, seconds=1.0)
    assert {score.subject for score in scores.scores} >= {"network", "memory", "network and memory"}
    held_out = {row["source_file"] for split in ("val", "test") for row in dataset.row_metadata(split)}
    assert {document.path for document in scores.documents} <= held_out
    assert scores.is_own_dataset
    assert json.loads((model / "training.json").read_text())["commit"] == dataset.manifest["past_commit"]


def test_the_stored_memory_has_each_file_once_in_its_newest_version(of_commits):
    dataset, model = of_commits
    memory = RepositoryMemory.open(model / MEMORY_FOLDER)
    texts = {row["source_file"] for split in ("train", "val", "test") for row in dataset.row_metadata(split)}
    assert memory.contents == "repository"
    assert len(memory.index.lengths) == len(texts)


@pytest.fixture(scope="module")
def of_nothing(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("nothing")
    dataset = built(repository, folder / "dataset", "split.holdout=none")
    result = train(dataset, folder / "model", CONFIG)
    return dataset, folder / "model", result


def test_with_nothing_held_out_a_model_is_trained_to_the_end_of_its_budget(of_nothing):
    _, model, result = of_nothing
    assert (result.held_out, result.stopped, result.steps) == (None, "budget", 3)
    gates = RepositoryMemory.open(model / MEMORY_FOLDER).gates
    for name, gate in gates.items():
        untrained = Gate.untrained(of_network=name == "network")
        assert not np.array_equal(gate.parameters["outputs"], untrained.parameters["outputs"])


def test_a_model_of_everything_cannot_be_scored_which_is_one_line(of_nothing, capsys):
    dataset, model, _ = of_nothing
    with pytest.raises(NothingHeldOutError, match="nothing is held out"):
        evaluate(model, Dataset.open(dataset.folder))
    assert main(["eval", str(model), str(dataset.folder), "-q"]) == 2
    error = capsys.readouterr().err
    assert "nothing is held out" in error
    assert "split.holdout=none" in error


def test_a_file_in_two_splits_is_still_a_leak_without_held_out_commits(of_commits, tmp_path):
    """The rows of a changed file say which tokens are held out; if they do not, all of the file is."""
    from shutil import copytree

    dataset, _ = of_commits
    folder = copytree(dataset.folder, tmp_path / "spoiled")
    for split in ("val", "test"):
        path = folder / f"training_data_{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["metadata"].pop("scored", None)
        path.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
    with pytest.raises(StarcoderError, match="in two splits"):
        train(Dataset.open(folder), tmp_path / "model", CONFIG)
