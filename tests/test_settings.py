"""Flag, then environment, then the user's git config, then default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_starcoder import settings
from git_starcoder.errors import UsageError


@pytest.fixture
def config(monkeypatch, tmp_path):
    """The user's git config."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STARCODER_JOBS", raising=False)
    monkeypatch.delenv("STARCODER_COLOR", raising=False)
    return tmp_path / ".gitconfig"


@pytest.mark.usefixtures("config")
def test_nothing_said_leaves_the_default():
    assert settings.jobs() is None
    assert settings.color() == "auto"


def test_each_goes_before_the_next(config, monkeypatch):
    config.write_text("[starcoder]\n\tjobs = 3\n\tcolor = never\n")
    assert (settings.jobs(), settings.color()) == (3, "never")
    monkeypatch.setenv("STARCODER_JOBS", "5")
    monkeypatch.setenv("STARCODER_COLOR", "always")
    assert (settings.jobs(), settings.color()) == (5, "always")
    assert (settings.jobs(7), settings.color("auto")) == (7, "auto")


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_jobs_must_be_one(monkeypatch, word):
    monkeypatch.setenv("STARCODER_JOBS", word)
    with pytest.raises(UsageError) as caught:
        settings.jobs()
    assert caught.value.where == "STARCODER_JOBS"


def test_an_unknown_colour_names_its_place(config):
    config.write_text("[starcoder]\n\tcolor = pink\n")
    with pytest.raises(UsageError) as caught:
        settings.color()
    assert caught.value.where == "git config --global starcoder.color"


@pytest.mark.usefixtures("config")
def test_the_repository_one_stands_in_is_not_asked(repo_maker, git, monkeypatch):
    repo = repo_maker({"a.py": "x = 1\n"})
    git(repo, "config", "starcoder.jobs", "9")
    monkeypatch.chdir(repo)
    assert settings.jobs() is None
    monkeypatch.setenv("GIT_DIR", str(repo / ".git"))
    assert settings.jobs() is None


@pytest.mark.usefixtures("config")
def test_no_git_is_no_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert settings.jobs() is None
    assert Path(os.environ["PATH"]).is_dir()
