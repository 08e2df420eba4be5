"""What reaches a terminal."""

from __future__ import annotations

import io
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.cli.console import Console, use_color
from git_starcoder.cli.progress import ProgressBars, ProgressLines, show_progress, step_line
from git_starcoder.errors import ExitCode
from git_starcoder.text.visible import escape_line, escape_unsafe


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain text\n\tü 漢 🙂", "plain text\n\tü 漢 🙂"),
        ("\x1b[31m\x9b\x07\r", "\\x1b[31m\\x9b\\x07\\x0d"),
        ("a\u202eb\u2066\u061c\u200f", "a\\u202eb\\u2066\\u061c\\u200f"),
        ("tag\U000e0041", "tag\\U000e0041"),
        (b"\xff\xfe.py".decode("utf-8", "surrogateescape"), "\\xff\\xfe.py"),
        ("\ud800", "\\ud800"),
    ],
)
def test_clean_writes_out_what_could_deceive(raw, shown):
    assert escape_unsafe(raw) == shown


@given(st.text(st.characters()))
def test_clean_text_is_printable_and_encodable(raw):
    text = escape_unsafe(raw)
    text.encode("utf-8")
    assert all(character in "\n\t" or ord(character) >= 0x20 for character in text)
    assert escape_unsafe(text) == text
    assert not set(escape_line(raw)) & set("\n\t\r")


def test_answer_is_text_or_one_json_object(capsys):
    assert Console("check").answer({"a": 1}, "words", ExitCode.FINDINGS) == 1
    assert capsys.readouterr().out == "words\n"
    Console("check", as_json=True).answer({"path": "\udcff\x1b"}, "words", ExitCode.FINDINGS)
    raw = capsys.readouterr().out
    assert raw.isascii()
    assert orjson.loads(raw) == json.loads(raw)  # every program reads it, also one that knows no halves of a pair
    assert json.loads(raw) == {"schema": "git-starcoder/check/1", "exit": 1, "path": "\\xff\x1b"}


def test_a_step_is_one_plain_line(capsys):
    progress = ProgressLines(Console("build"))
    progress.begin("read", 5)
    progress.advance(5)
    progress.end("read", 0.44, 2643, 2401, {"binary": 120, "giant": 2, "minified": 20, "symlink": 100})
    progress.end("order", 0.1, 900, 900, {})
    assert capsys.readouterr().err.splitlines() == [
        "read      2,643 seen  2,401 kept  242 dropped (binary 120, symlink 100, minified 20, …)  0.4 s",
        "order     900 seen  0.1 s",
    ]


def test_a_long_step_says_every_minute_how_far_it_is(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("git_starcoder.cli.progress.time.monotonic", lambda: now[0])
    progress = ProgressLines(Console("eval"))
    for step, total in (("eval", 400), ("find", None)):
        progress.begin(step, total)
        for _ in range(4):
            now[0] += 31
            progress.advance(10)
    assert capsys.readouterr().err.splitlines() == [
        "eval      20 of 400  62 s", "eval      40 of 400  124 s", "find      20  62 s", "find      40  124 s",
    ]  # fmt: skip
    progress.note("told")  # so the next minute begins here
    now[0] += 59
    progress.advance(1)
    assert capsys.readouterr().err == "told\n"


def test_a_bar_of_unknown_length_has_no_total():
    with ProgressBars(Console("build")) as progress:
        progress.begin("read", 5)
        progress.begin("prepare", None)
        assert [(task.description, task.total) for task in progress._progress.tasks] == [("prepare", None)]


def test_verbose_names_every_reason():
    line = step_line("read", 1.0, 9, 5, {"d": 1, "c": 1, "b": 1, "a": 1}, verbose=True)
    assert line == "read      9 seen  5 kept  4 dropped (a 1, b 1, c 1, d 1)  1.0 s"


def test_a_quiet_console_prints_nothing(capsys):
    console = Console("build", quiet=True)
    console.print_message("words")
    with show_progress(console) as progress:
        progress.end("read", 1.0, 1, 1, {})
        progress.note("words")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("choice", "variables", "stream", "wanted"),
    [
        ("auto", {}, Terminal(), True),
        ("auto", {}, io.StringIO(), False),
        ("auto", {"NO_COLOR": "1"}, Terminal(), False),
        ("auto", {"TERM": "dumb"}, Terminal(), False),
        ("auto", {"FORCE_COLOR": "1"}, io.StringIO(), True),
        ("always", {"NO_COLOR": "1"}, io.StringIO(), True),
        ("never", {"FORCE_COLOR": "1"}, Terminal(), False),
    ],
)
def test_colour_follows_flag_environment_terminal(choice, variables, stream, wanted, monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert use_color(choice, stream) is wanted
