"""Difficulty rises with branching, nesting and size, and with nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.parse.structure import code_difficulty, count_nonblank_lines, difficulty_score, text_difficulty
from git_starcoder.parse.tree import parse, run_queries

PLAIN = {
    "rust": ("fn f(a: u8) -> u8 {{ {} }}", "if a > 1 {{ {} }}", "a;"),
    "python": ("def f(a):\n    {}", "(1 if a else {})", "a"),
    "typescript": ("function f(a: number) {{ {} }}", "if (a) {{ {} }}", "a;"),
    "tsx": ("function f(a: number) {{ {} }}", "if (a) {{ {} }}", "a;"),
    "javascript": ("function f(a) {{ {} }}", "if (a) {{ {} }}", "a;"),
    "go": ("package p\nfunc f(a bool) {{ {} }}", "if a {{ {} }}", "g()"),
    "java": ("class C {{ void f(boolean a) {{ {} }} }}", "if (a) {{ {} }}", "g();"),
    "c": ("void f(int a) {{ {} }}", "if (a) {{ {} }}", "g();"),
    "cpp": ("void f(int a) {{ {} }}", "if (a) {{ {} }}", "g();"),
}


def hardness(text, key):
    code = parse(text.encode(), key)
    assert code.is_clean, text
    return code_difficulty(run_queries(code, "difficulty"), count_nonblank_lines(code.data))


@pytest.mark.parametrize("key", PLAIN)
def test_a_branch_is_harder_than_none_and_nesting_harder_than_a_row(key):
    frame, branch, leaf = PLAIN[key]
    glue = ", " if key == "python" else "; " if key == "go" else " "
    trivial = hardness(frame.format(leaf), key)
    one = hardness(frame.format(branch.format(leaf)), key)
    row = hardness(frame.format(glue.join([branch.format(leaf)] * 3)), key)
    nested = hardness(frame.format(branch.format(branch.format(branch.format(leaf)))), key)
    assert 0 <= trivial < one < row < nested < 1


def test_an_else_if_branches_but_adds_no_level():
    chain = hardness("fn f(a: u8) { if a == 1 { 1 } else if a == 2 { 2 } else if a == 3 { 3 } else { 4 }; }", "rust")
    assert chain == difficulty_score(3, 1, 1)


def test_cases_add_no_level():
    assert hardness("fn f(a: u8) { match a { 1 => 1, 2 => 2, _ => 3 }; }", "rust") == difficulty_score(4, 1, 1)


counts = st.integers(0, 10_000)


@given(counts, counts, counts)
def test_more_of_anything_is_never_easier(branches, nesting, lines):
    now = difficulty_score(branches, nesting, lines)
    assert 0 <= now < 1
    assert difficulty_score(branches + 1, nesting, lines) >= now
    assert difficulty_score(branches, nesting + 1, lines) >= now
    assert difficulty_score(branches, nesting, lines + 1) >= now


def test_text_is_measured_by_lines_and_indentation():
    assert text_difficulty(b"") == 0
    assert text_difficulty(b"a\n") < text_difficulty(b"a\nb\n") < text_difficulty(b"a\n  b\n")
    assert text_difficulty(b"a\n\n \t\n") == text_difficulty(b"a\n")
