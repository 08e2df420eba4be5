from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.augmentations import Variant, format_variation
from git_starcoder.parse.tree import Code, parse

SEEDS = range(20)


def variations(source: str, language: str) -> list[str]:
    before = parse(source.encode(), language)
    texts: list[str] = []
    for seed in SEEDS:
        variant = format_variation.vary(before, random.Random(seed))
        assert isinstance(variant, Variant)
        assert format_variation.verify(before, variant, parse(variant.text, language)) == ""
        texts.append(variant.text.decode())
    return texts


def test_indentation_blank_lines_and_commas_vary() -> None:
    texts = variations("fn f() {\n    g(a, b);\n\n\n    h();\n}\n", "rust")
    assert {len(text.split("\n")[1]) - len(text.split("\n")[1].lstrip(" ")) for text in texts} == {0, 2, 8}
    assert {text.count("\n") for text in texts} == {4, 5, 6}
    assert {"a,b" in text for text in texts} == {True, False}
    assert any("\n\tg" in text for text in texts)


@pytest.mark.parametrize(
    ("language", "source", "kept"),
    [
        ("python", 'def f():\n    a = """b,\n    c, d\n\n\n    e"""\n    return a\n', '"""b,\n    c, d\n\n\n    e"""'),
        ("rust", 'fn f() {\n    g(r#"a, b\n\n\n    c"#);\n}\n', 'r#"a, b\n\n\n    c"#'),
        ("rust", "fn f() {\n    /* a, b\n\n\n    c */\n    g(',');\n}\n", "/* a, b\n\n\n    c */"),
        ("javascript", "function f() {\n    return `a, b\n\n\n    ${c} d`;\n}\n", "`a, b\n\n\n    ${c} d`"),
        ("tsx", "function f() {\n    return <p>a, b\n\n\n    {c} d</p>;\n}\n", ">a, b\n\n\n    {c} d<"),
        ("go", "package p\n\nfunc f() {\n\tg(`a, b\n\n\n\tc`)\n}\n", "`a, b\n\n\n\tc`"),
        ("java", 'class C {\n    String a = """\n    b, c\n\n\n    d""";\n}\n', '"""\n    b, c\n\n\n    d"""'),
        (
            "c",
            "#define A(b, c) \\\n    b, c \\\n    d\nint f(void) {\n    return 1;\n}\n",
            "#define A(b, c) \\\n    b, c \\\n    d\n",
        ),
        ("cpp", 'auto f() {\n    return R"(a, b\n\n\n    c)";\n}\n', 'R"(a, b\n\n\n    c)"'),
    ],
)
def test_what_has_a_fixed_layout_is_not_touched(language: str, source: str, kept: str) -> None:
    assert kept in source
    assert all(kept in text for text in variations(source, language))


@pytest.mark.parametrize(
    ("language", "comment", "rest"),
    [
        pytest.param("go", "// +build linux", "package p\n\nfunc f() {\n\tg()\n}\n", id="a constraint"),
        pytest.param("go", "package p // b\n/* a */ ", 'import "C"\n\nfunc f() {\n\tg()\n}\n', id="no preamble"),
        pytest.param("c", "#define A 1 /* a */", "int f() {\n    g(1, 2);\n}\n", id="in a directive"),
        pytest.param("rust", "/// a", "fn f() {\n    g(1, 2);\n}\n", id="a comment with its line break"),
    ],
)
def test_a_blank_line_after_a_comment_stays(language: str, comment: str, rest: str) -> None:
    for blank in ("\n\n", "\n \t\n\n"):
        assert all(
            text.startswith((f"{comment}\n\n", f"{comment}\n \t\n"))
            for text in variations(comment + blank + rest, language)
        )
    before, after = (parse((comment + blank + rest).encode(), language) for blank in ("\n \n", "\n"))
    assert format_variation.verify(before, Variant(after.data), after) == "a comment differs"
    assert format_variation.verify(after, Variant(before.data), before) == "a comment differs"


def test_python_keeps_its_blocks() -> None:
    source = "def f(a):\n    if a:\n        # b\n        g()\n    else:\n        h(a,\n          b)\n    return 1\n"
    for text in variations(source, "python"):
        assert "\t" not in text
        compile(text, "f", "exec")


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.sampled_from([1, 2, 3, 4, 8]), st.integers(0, 99))
def test_any_nesting_of_python_survives(levels: list[int], unit: int, seed: int) -> None:
    lines = ["if a:"]
    depth = 1
    for level in levels:
        depth = min(depth, level + 1)
        lines.append(" " * unit * depth + "if b:")
        depth += 1
    source = "\n".join([*lines, " " * unit * depth + "c()"]).encode() + b"\n"
    before = parse(source, "python")
    variant = format_variation.vary(before, random.Random(seed))
    assert isinstance(variant, Variant)
    assert format_variation.verify(before, variant, parse(variant.text, "python")) == ""


def test_a_changed_comment_is_found() -> None:
    before = parse(b"f()  # a b\n", "python")
    after = parse(b"f()  # a  b\n", "python")
    assert format_variation.verify(before, Variant(after.data), after) == "a comment differs"


def test_a_changed_block_is_found() -> None:
    before, after = (parse(text, "python") for text in (b"if a:\n  b\n  c\n", b"if a:\n  b\nc\n"))
    assert isinstance(before, Code)
    assert format_variation.verify(before, Variant(after.data), after) == "the tree differs"
