"""Help, errors and exit codes: what every command has in common."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys

import click
import pytest

from git_starcoder.cli import COMMANDS, main
from git_starcoder.cli.shared_options import cli_group
from git_starcoder.recipe import Recipe

HEAVY = ("numpy", "torch", "transformers", "rich", "orjson", "yaml", "tree_sitter", "tokenizers")


def test_help_comes_through_git_and_names_every_command(starcoder):
    result = starcoder("-h")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: git starcoder ")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\w.*(?<!\.\.\.)$", result.stdout, re.MULTILINE), f"the help of {name} is cut"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_common_flags(name, capsys):
    assert main([name, "-h"]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"Usage: git starcoder {name} ")
    if name not in {"recipe", "base"}:  # groups of commands
        assert all(flag in output for flag in ("--json", "--quiet", "--verbose", "--color", "--help"))


def test_every_file_of_a_verb_is_a_command():
    with cli_group.make_context("git starcoder", ["doctor"]) as context:
        assert [cli_group.get_command(context, name).name for name in cli_group.list_commands(context)] == list(
            COMMANDS
        )


def test_help_imports_nothing_heavy():
    code = (
        f"import sys; from git_starcoder.cli import main; main(['-h']); sys.exit(repr(set({HEAVY}) & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "set()"


def test_version(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"git starcoder \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["bild"], ["error: 'bild' is not a command", "  in git starcoder", "hint: did you mean 'build'? `git starcoder -h` lists all commands"]),
        (["build", "--forse"], ["error: no such option '--forse'", "  in git starcoder build", "hint: did you mean '--force'?"]),
        (["check"], ["error: missing argument 'DATASET'", "  in git starcoder check", "hint: see `git starcoder check -h`"]),
        (["build", "-j", "0"], ["error: 0 is not in the range x>=1", "  in --jobs", "hint: see `git starcoder build -h`"]),
        (
            ["build", "-r", "effectivenes"],
            ["error: recipe 'effectivenes' is not known", "  in --recipe",
             "hint: did you mean 'effectiveness'? `git starcoder recipe list` shows all"],
        ),
    ],
)  # fmt: skip
def test_wrong_use_is_reported_like_git_does(arguments, lines, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == lines


@pytest.mark.parametrize("arguments", [[], ["recipe"]])
def test_a_group_alone_shows_its_help(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Usage: git starcoder")


def test_json_is_one_object_also_on_failure(capsys):
    assert main(["build", "--json", "-r", "elit"]) == 2
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["schema"] == "git-starcoder/build/1"
    assert answer["exit"] == 2
    assert answer["error"]["kind"] == "RecipeError"
    assert answer["error"]["what"] == "recipe 'elit' is not known"
    assert captured.err.startswith("error: recipe 'elit' is not known\n")


def test_our_bug_says_where_the_traceback_is(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(Recipe, "load", lambda *_: {}["missing"])
    assert main(["recipe", "show", "--json"]) == 70
    captured = capsys.readouterr()
    assert captured.err.startswith("error: a bug in git-starcoder: KeyError: 'missing'\n  in ")
    assert "Traceback" not in captured.err
    assert json.loads(captured.out)["exit"] == 70
    (log,) = tmp_path.glob("git-starcoder-*.log")
    assert f"hint: the traceback is in {log};" in captured.err
    assert "Traceback (most recent call last)" in log.read_text()


def test_the_traceback_is_shown_on_demand(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("STARCODER_TRACEBACK", "1")
    monkeypatch.setattr(Recipe, "load", lambda *_: {}["missing"])
    assert main(["recipe", "show"]) == 70
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_broken_pipe_ends_quietly(starcoder):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = starcoder("recipe", "show", "effectiveness", stdout=writing)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (141, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_answer_that_does_not_fit_is_one_line(starcoder):
    with open("/dev/full", "w") as full:
        result = starcoder("recipe", "list", stdout=full, env={"PYTHONUNBUFFERED": ""})  # so that an answer waits
    assert result.returncode == 2
    assert result.stderr.splitlines()[0] == "error: no space left on device"
    assert "Traceback" not in result.stderr


def test_an_interrupt_is_130(monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recipe, "load", interrupted)
    assert main(["recipe", "show"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_names_cannot_command_the_terminal(starcoder):
    result = starcoder("build", "no\x1b]0;owned\x07\u202esuch")
    assert result.returncode == 2
    assert not set(result.stderr) & {"\x1b", "\x07", "\u202e"}
    assert "\\x1b]0;owned\\x07\\u202esuch" in result.stderr


def test_a_terminal_that_is_not_utf8_gets_escapes(starcoder):
    result = starcoder("build", "漢", env={"PYTHONIOENCODING": "latin-1", "LC_ALL": "C.UTF-8"})
    assert result.returncode == 2
    assert "\\u6f22" in result.stderr


@click.command()
def interrupted_as_by_ray():
    try:
        signal.raise_signal(signal.SIGTERM)
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None


def test_sigterm_is_told_from_ctrl_c(capsys):
    assert main([], interrupted_as_by_ray) == 143
    assert capsys.readouterr().err == "terminated\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_handler_of_the_caller_stays():
    received = []
    handler = signal.signal(signal.SIGTERM, lambda *_: received.append("here"))
    try:
        assert main([], interrupted_as_by_ray) == 0
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert received == ["here"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("recipe", "show", "elite", "-r", "natural"), "two recipes are named: 'elite' and 'natural'"),
        (("report", "data", "--scores", "scores.json"), "the page shows scores of a model only"),
    ],
)
def test_what_would_be_ignored_is_refused(capsys, words, said):
    assert main(list(words)) == 2
    assert capsys.readouterr().err.startswith(f"error: {said}")
