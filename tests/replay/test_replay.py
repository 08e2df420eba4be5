"""A replay of a small repository with a small model, from training to the table."""

from __future__ import annotations

import json
import shutil

import pytest

from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.git.objects import Repo
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train
from git_starcoder.replay import typed_text
from git_starcoder.replay.replay import format_replay, replay
from shell import SMALL
from toy import code_base

ALL_FILES = code_base(28)
FILES = dict([*ALL_FILES.items()][:21])
EDITED = next(iter(FILES))
LATER = [
    dict([*ALL_FILES.items()][21:]),
    {EDITED: FILES[EDITED] + "\n\ndef added_later(value):\n    return value + 4711\n"},
]


@pytest.fixture(scope="module", autouse=True)
def short_hunks():
    """A few lines of each hunk are enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typed_text, "MAX_HUNK_CHARACTERS", 150)
        yield


@pytest.fixture(scope="module")
def repository(repo_maker):
    return Repo.open(repo_maker([FILES, *LATER]))


@pytest.fixture(scope="module")
def model(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("replayed")
    commits = ("--set", "split.holdout=commits", "--set", "split.commits=2", "--set", "window.header=toy")
    assert main(["build", str(repository.path), "-o", str(folder / "dataset"), "-q", *SMALL, *commits]) == 0
    config = TrainConfig(size="0.3M", steps=2, batch=512, device="cpu", precision="float32")
    train(Dataset.open(folder / "dataset"), folder / "model", config)
    return folder / "model"


@pytest.fixture(scope="module")
def result(model, repository):
    return replay(model, repository, characters=300)


def without_times(result):
    values = result.as_values()
    for each in values["results"]:
        del each["median_seconds"]
        for tally in (*each["by_threshold"], *each["by_language"].values()):
            del tally["late"]
    return values


def test_the_text_is_what_came_after_the_training_commit(result, repository):
    assert result.since == Repo.open(repository.path, "HEAD~2").commit
    assert result.until == repository.commit
    assert result.hunks > 1
    assert [each.name for each in result.results] == [
        "network and memory", "memory alone", "most frequent line", "words of the buffer",
    ]  # fmt: skip


def test_all_type_the_same_text_and_higher_thresholds_show_less(result):
    typed = {tally.characters for each in result.results for tally in each.by_threshold.values()}
    assert len(typed) == 1
    for each in result.results:
        shown = [tally.shown for tally in each.by_threshold.values()]
        assert shown[0] > 0
        assert shown[-1] <= shown[0]
        assert sum(tally.characters for tally in each.by_language.values()) == typed.copy().pop()


def test_memory_saves_keystrokes_where_the_repository_repeats_itself(result):
    """The files are made of a few patterns, which the memory knows."""
    memory = next(each for each in result.results if each.name == "memory alone")
    assert memory.by_threshold[0.0].saved > 0.2
    assert memory.by_threshold[0.5].precision > memory.by_threshold[0.0].precision


def test_two_replays_differ_in_times_only(result, model, repository):
    assert without_times(replay(model, repository, characters=300)) == without_times(result)


def test_the_table_names_all_and_states_its_limits(result):
    text = format_replay(result)
    for word in ("memory alone", "words of the buffer", "by confidence", "by language", "python", "not typing"):
        assert word in text


def test_the_command_prints_a_table_or_json(model, repository, capsys):
    assert main(["replay", str(model), str(repository.path), "--characters", "60", "-q"]) == 0
    assert "keystrokes" in capsys.readouterr().out
    assert main(["replay", str(model), str(repository.path), "--characters", "60", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "git-starcoder/replay/1"
    assert answer["results"][0]["by_threshold"][0]["from"] == 0


def test_what_cannot_be_replayed_is_one_clear_line(model, repository, tmp_path, capsys):
    path = str(repository.path)
    assert main(["replay", str(model), path, "--since", "HEAD"]) == 2
    assert "no commit came after" in capsys.readouterr().err
    assert main(["replay", str(model), path, "--rev", "HEAD~2", "--since", "HEAD"]) == 2
    assert "is not before" in capsys.readouterr().err
    other = shutil.copytree(model, tmp_path / "model")
    record = json.loads((other / "training.json").read_text())
    del record["commit"]
    (other / "training.json").write_text(json.dumps(record))
    assert main(["replay", str(other), path]) == 2
    error = capsys.readouterr().err
    assert "from which commit" in error
    assert "--since" in error


def test_a_repository_without_the_commit_of_the_model_is_named(model, repository, git, tmp_path, capsys):
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{repository.path}", str(shallow))
    assert main(["replay", str(model), str(shallow)]) == 2
    error = capsys.readouterr().err
    assert "does not have the commit" in error
    assert "--unshallow" in error
