"""The difficulty rises with branching, nesting and size only; windows start at items, in every language."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.parse.structure import (
    code_difficulty,
    count_nonblank_lines,
    difficulty_score,
    text_difficulty,
    window_starts,
)
from git_starcoder.parse.tree import Code, parse, run_queries

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


MARKED = {
    "rust": "§use a::b;\n\n§// what f does\n#[inline]\nfn f() {\n    let x = 1;\n    §if x > 0 {\n        g();\n    }\n}\n\n"
    "§impl A {\n    §/// doc\n    fn m(&self) {\n        h();\n    }\n}\n",
    "python": "§import a\n\n§# what f does\n@d\ndef f():\n    x = 1\n    §for y in z:\n        g()\n\n§class A:\n    §def m(self):\n        h()\n",
    "typescript": "§import a from 'a';\n§export class A {\n  §m(): void {\n    h();\n  }\n}\n",
    "javascript": "§/** doc */\nfunction f() {\n  g();\n}\n",
    "go": "§package p\n\n§// F does.\nfunc F() {\n\tx := 1\n\t§if x > 0 {\n\t\tg()\n\t}\n}\n",
    "java": "§class C {\n    int a;\n    §@Override\n    int f() {\n        return 1;\n    }\n}\n",
    "c": "§#include <a.h>\n§int f(void) {\n    return 1;\n}\n",
    "cpp": "§struct A {\n  int a;\n};\n§int f() {\n  §while (true) {\n    g();\n  }\n}\n",
}


@pytest.mark.parametrize("language", MARKED)
def test_items_begin_with_what_belongs_to_them(language):
    marked = MARKED[language].encode()
    mark = "§".encode()
    parts = marked.split(mark)
    expected = np.cumsum([len(part) for part in parts])[:-1].tolist()
    code = parse(marked.replace(mark, b""), language)
    assert code.is_clean
    assert np.frombuffer(window_starts(code), dtype="<u4").tolist() == expected


def test_a_comment_with_a_blank_line_below_belongs_to_nothing():
    code = parse(b"// of the file\n\nfn f() {}\n", "rust")
    assert np.frombuffer(window_starts(code), dtype="<u4").tolist() == [16]


def test_text_has_no_window_starts():
    assert window_starts(Code(b"plain", None, None, is_clean=False)) == b""
