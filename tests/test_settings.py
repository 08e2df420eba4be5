"""Flag, then environment, then the user's git config, then default."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from git_starcoder import user_paths
from git_starcoder.cli import shared_options
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
    assert shared_options.resolve_jobs() is None
    assert shared_options.resolve_color() == "auto"


def test_each_goes_before_the_next(config, monkeypatch):
    config.write_text("[starcoder]\n\tjobs = 3\n\tcolor = never\n")
    assert (shared_options.resolve_jobs(), shared_options.resolve_color()) == (3, "never")
    monkeypatch.setenv("STARCODER_JOBS", "5")
    monkeypatch.setenv("STARCODER_COLOR", "always")
    assert (shared_options.resolve_jobs(), shared_options.resolve_color()) == (5, "always")
    assert (shared_options.resolve_jobs(7), shared_options.resolve_color("auto")) == (7, "auto")


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("word", ["0", "-1", "two", "1.5", "²", "9" * 5000])
def test_a_number_of_jobs_must_be_one(monkeypatch, word):
    monkeypatch.setenv("STARCODER_JOBS", word)
    with pytest.raises(UsageError) as caught:
        shared_options.resolve_jobs()
    assert caught.value.where == "STARCODER_JOBS"


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("word", ["-1", "big", "9" * 5000])
def test_a_size_of_the_cache_must_be_one(monkeypatch, word):
    monkeypatch.setenv("STARCODER_CACHESIZE", word)
    with pytest.raises(UsageError, match="is not a size in megabytes") as caught:
        shared_options.cache_limit_bytes()
    assert len(caught.value.what) < 100


def test_an_unknown_colour_names_its_place(config):
    config.write_text("[starcoder]\n\tcolor = pink\n")
    with pytest.raises(UsageError) as caught:
        shared_options.resolve_color()
    assert caught.value.where == "git config --global starcoder.color"


@pytest.mark.usefixtures("config")
def test_the_repository_one_stands_in_is_not_asked(repo_maker, git, monkeypatch):
    repo = repo_maker({"a.py": "x = 1\n"})
    git(repo, "config", "starcoder.jobs", "9")
    monkeypatch.chdir(repo)
    assert shared_options.resolve_jobs() is None
    monkeypatch.setenv("GIT_DIR", str(repo / ".git"))
    assert shared_options.resolve_jobs() is None


@pytest.mark.usefixtures("config")
def test_no_git_is_no_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shared_options.resolve_jobs() is None
    assert Path(os.environ["PATH"]).is_dir()


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("said", "kept", "folder"),
    [
        ("~/mine", "", "~/mine"), ("/far/away", "", "/far/away"), ("off", "", None),
        (None, "~/kept", "~/kept/git-starcoder"), (None, "relative", "~/.cache/git-starcoder"), (None, "", "~/.cache/git-starcoder"),
    ],
)  # fmt: skip
def test_where_the_cache_is(monkeypatch, tmp_path, said, kept, folder):
    monkeypatch.delenv("STARCODER_CACHE")
    if said is not None:
        monkeypatch.setenv("STARCODER_CACHE", said)
    monkeypatch.setenv("XDG_CACHE_HOME", kept)
    assert shared_options.cache_folder() == (None if folder is None else Path(folder.replace("~", str(tmp_path))))


def test_a_home_in_the_git_config(config, monkeypatch, tmp_path):
    monkeypatch.delenv("STARCODER_CACHE")
    config.write_text('[starcoder]\n\tcache = "~/from-git"\n')
    assert shared_options.cache_folder() == tmp_path / "from-git"


@pytest.mark.parametrize("home", ["", "relative", None])
def test_no_home_is_said(monkeypatch, home):
    monkeypatch.delenv("STARCODER_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    if home is None:
        monkeypatch.delenv("HOME")
    else:
        monkeypatch.setenv("HOME", home)
    with pytest.raises(UsageError, match="no home folder is known"):
        shared_options.cache_folder()
    with pytest.raises(UsageError, match="no home folder is known"):
        user_paths.expand_user("~/x")


def test_other_users_and_names_with_a_tilde():
    assert user_paths.expand_user("~root/x") == Path(os.path.expanduser("~root")) / "x"
    assert user_paths.expand_user("~nobody-is-called-so/x") == Path("~nobody-is-called-so/x")
    assert user_paths.expand_user("./~/x") == Path("./~/x")
    assert user_paths.expand_user(Path("a~b")) == Path("a~b")


@pytest.mark.usefixtures("config")
def test_a_git_that_cannot_be_started_is_no_setting(monkeypatch):
    def refused(*_, **__):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("subprocess.run", refused)
    assert shared_options.resolve_jobs() is None
