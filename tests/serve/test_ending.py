"""A completion ends where a person would end it, however the text arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.serve.cursor import Cursor
from git_starcoder.serve.ending import MAX_BLOCK_LINES, EndingRules


def end(cursor, text, rule="auto", stop=()):
    """What is kept of a text that arrives character by character, and why; the reason is None if it goes on."""
    rules = EndingRules.at(cursor, rule, stop)
    settled = 0
    for size in range(1, len(text) + 1):
        verdict = rules.judge(text[:size])
        assert settled <= max(verdict.settled, verdict.kept if verdict.reason else 0), "what was settled was taken back"
        settled = max(settled, verdict.settled)
        if verdict.reason:
            return text[: verdict.kept], verdict.reason
    verdict = rules.judge(text, is_over=True)
    return text[: verdict.kept], verdict.reason


@pytest.mark.parametrize(
    ("prefix", "suffix", "text", "kept", "reason"),
    [
        ("x = ", "", "1 + 2  \ny = 3\n", "1 + 2", "line"),
        ("x = ", "\ny = 3\n", "1\n", "1", "line"),
        ("x = f(", ")\n", "a, (b)) + 1", "a, (b)", "suffix"),
        ("x = f(", ") + 1\n", "a[0]", "a[0]", "line"),
        ("x = [", "]", "1, [2]]", "1, [2]", "suffix"),
        ("import ", " as np\n", "numpy as np\n", "numpy ", "suffix"),
        ("if a:\n    b()\n", "\nelse:\n    c()\n", "else:\n", "", "suffix"),
        ("", "\nreturn x\n", "return x\n", "", "suffix"),
        (
            "def f(a):\n    a += 1\n    ",
            "",
            "if a:\n        return 1\n    return 2\n",
            "if a:\n        return 1",
            "block",
        ),
        ("def f(a):\n    ", "", "if a:\n        b()\n    c()\nd()\n", "if a:\n        b()\n    c()", "block"),
        ("def f(a):\n    ", "", "x = 1\n    return x\n\ndef g():\n", "x = 1\n    return x", "block"),
        ("def f(a):", "", "\n    return a\n\n\nx = 1\n", "\n    return a", "block"),
        ("void f() {\n  ", "\n", "if (a) {\n    b();\n  }\n  c();\n}\n", "if (a) {\n    b();\n  }\n  c();\n}", "block"),
        ("x = 1\n", "", "def f():\n    return 1\n\nx = 2\n", "def f():\n    return 1", "block"),
        ("x = f(", "", "\n    a,\n)\ny = 1\n", "\n    a,\n)", "block"),
        ("def f():\n    ", "    return 1\n", "x = 1\ny = 2\n", "x = 1", "line"),
        ('f("', '")\n', "name')\n", "name", "suffix"),
        ('f("', '")\n', "name'\n", "name", "suffix"),
        ('f("', '")\n', "name'\n)", "name", "suffix"),
        ("f('", "')\n", 'name")\n', "name", "suffix"),
        ('f("', '")\n', 'name", other="x")\n', "name", "suffix"),
        ('f("', '")\n', 'a \\" b")\n', 'a \\" b', "suffix"),
        ('f("', '")\n', '")\n', "", "suffix"),
        ('f("', '")\n', "the 'name'\n", "the 'name'", "line"),
        ("f(\"the '", '")\n', "name'\n", "name'", "line"),
        ('f("', '")\n', "don't\n", "don't", "line"),
        ("f(a, ", ', "b")\n', "'c'\n", "'c'", "line"),
        ("x = {a: b[", "]}\n", "c[0]]}\n", "c[0]", "suffix"),
        ("f() {\n  ", "\n}\n", "if (a) {\n    b();\n  }\n", "if (a) {\n    b();\n  }", None),
        ("f() {", "\n}\n", "\n  if (a) {\n    b();\n  }\n  c();\n}\n", "\n  if (a) {\n    b();\n  }\n  c();", "suffix"),
        ("f() {\n  if (a) {", "\n  }\n}\n", "\n    b();\n  }\n}\n", "\n    b();", "suffix"),
        ("  te.", "", "run(\n      [a,\n      ],\n    );\n    te.run(\n", "run(\n      [a,\n      ],\n    );", "block"),
        ("x = f(\n", "", "    a[\n        1\n    ],\n    )\n    b\n", "    a[\n        1\n    ],\n    )", "block"),
        ("from flask import ", "", "Flask, Flask, Flask, Flask, Fl", "Flask", "repetition"),
        ("from flask import Flask, ", "", "Flask, Flask, Flask\n", "", "repetition"),
        ("x = [", "]", "0, 0, 0, 0, 0, 0, 0", "0", "repetition"),
        ("x = [0, 0, 0, 0, ", "]", "0, 0, 0, 0]", "0, 0, 0, 0", "suffix"),
        ("x = [", "]", "0, 0, 0]", "0, 0, 0", "suffix"),
        ("x = f(", "", "0, 0, 0)\n", "0, 0, 0)", "line"),
        ("host = ", "", '"0.0.0.0"\n', '"0.0.0.0"', "line"),
        ("return ctx", "", ".request.request.request.request.", ".request", "repetition"),
        ("# ", "", "-" * 40 + "\n", "-" * 40, "line"),
        ("", "", "=" * 40 + "\n", "=" * 40, "line"),
        ("f(g(h(", "", "a))))))))\n", "a))))))))", "line"),
        ("  0x00, 0x00, 0x00, 0x00,\n  ", "", "0x00, 0x00, 0x00, 0x00,\n0x01", "", "repetition"),
        (
            "{ 0x00, 0x00, 0x00, 0x00,\n  ",
            "",
            "0x00, 0x00, 0x00, 0x00, 0x01,\n",
            "0x00, 0x00, 0x00, 0x00, 0x01,",
            "line",
        ),
        ("def f():\n    ", "", "g(1)\n    g(1)\n    g(1)\n", "g(1)", "repetition"),
        ("g()\ng()\nh()\ng()\n", "", "g()\n", "g()", "line"),
        ("g() \n\ng()\nh()\ng()\n", "", "g()\n", "g()", "line"),
        ("if a:\n  g()\ng()\n", "", "g()\n", "", "repetition"),
        ("f() {\n  ", "", "if (a) {\n    {\n    }\n  }\n}\n", "if (a) {\n    {\n    }\n  }\n}", "block"),
        ("x = 1", "", "\n\n\n\n\n\ny", "", "empty"),
        ("", "", "    \n", "", None),
    ],
)
def test_where_it_ends(prefix, suffix, text, kept, reason):
    for line_end in ("\n", "\r\n"):
        cursor = Cursor(prefix.replace("\n", line_end), suffix.replace("\n", line_end))
        assert end(cursor, text) == (kept, reason)


def test_a_line_only():
    assert end(Cursor("def f(a):\n    "), "if a:\n        return 1\n", "line") == ("if a:", "line")


def test_a_block_does_not_go_on_for_ever():
    kept, reason = end(Cursor("while True:\n    "), "".join(f"step({number})\n    " for number in range(40)))
    assert (len(kept.split("\n")), reason) == (MAX_BLOCK_LINES, "block")


def test_without_a_rule_only_stop_texts_end_it():
    assert end(Cursor("x"), "a\nb\n\nc", "none") == ("a\nb\n\nc", None)
    assert end(Cursor("x"), "a\nb\n\nc", "none", ("\n\n", "zzz")) == ("a\nb", "stop")


def test_a_stop_text_comes_before_the_end_of_a_line():
    assert end(Cursor("x = "), "1 # one\n", stop=(" #",)) == ("1", "stop")


def test_the_beginning_of_a_stop_text_is_held_back():
    rules = EndingRules.at(Cursor("x"), "none", ("END",))
    assert rules.judge("a EN").settled == 2
    assert rules.judge("a EN?").settled == 5


@given(st.text("ab:{}() \n", max_size=12), st.text("ab:{}() \n", max_size=12), st.text("ab:{}()= \n", max_size=40))
def test_any_text_ends_consistently(prefix, suffix, text):
    kept, _ = end(Cursor(prefix, suffix), text, stop=("a:",))
    assert text.startswith(kept)
    assert "a:" not in kept
