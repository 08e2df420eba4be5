from __future__ import annotations

import random

import pytest

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, comment_toggle
from git_starcoder.parse.tree import parse

CASES = [
    ("rust", "// a\nfn f() {} // b\n", "fn f() {}\n"),
    ("rust", "fn f() {\n    // a\n    /* b\n       c */\n    g(); /* d */\n}\n", "fn f() {\n    g();\n}\n"),
    ("rust", "fn f(a/*b*/: u8, /* c */ d: u8) {}\n", "fn f(a : u8, d: u8) {}\n"),
    ("rust", "//! a\n\n/// b\n/// c\n// d\nfn f() {}\n", "\nfn f() {}\n"),
    ("rust", "/// a\n#[derive(B)]\nstruct S {\n    /// c\n    d: u8, // e\n}\n", "/// a\n#[derive(B)]\nstruct S {\n    /// c\n    d: u8,\n}\n"),
    ("rust", "/// a\nstruct S; // b\n\nimpl S {\n    /// c\n    fn f() {}\n}\n", "/// a\nstruct S;\n\nimpl S {\n    fn f() {}\n}\n"),
    ("rust", "#[pymethods]\nimpl P {\n    /// a\n    fn f() {} // b\n}\n/// c\nfn g() {}\n", "#[pymethods]\nimpl P {\n    /// a\n    fn f() {}\n}\nfn g() {}\n"),
    ("rust", "#[a]\n/// b\n// c\nfn f() {}\n#[inline]\n/// d\nfn g() {}\n#[a]\n/// e\nconst H: u8 = 1;\n",
     "#[a]\n/// b\nfn f() {}\n#[inline]\nfn g() {}\n#[a]\n/// e\nconst H: u8 = 1;\n"),
    ("rust", "#![allow(missing_docs)]\n#[a]\nextern {\n    /// b\n    fn f();\n}\ntrait T {\n    #[a]\n    /// c\n    fn g(); // d\n}\n",
     "#![allow(missing_docs)]\n#[a]\nextern {\n    /// b\n    fn f();\n}\ntrait T {\n    #[a]\n    /// c\n    fn g();\n}\n"),
    ("rust", 'fn f() { g("// a"); } // b', 'fn f() { g("// a"); }'),
    ("python", "#!/usr/bin/env python\n# coding: utf-8\n# a\ndef f():\n    '''b'''\n    # c\n    g()  # d\n    h()  # noqa: E1\n",
     "#!/usr/bin/env python\n# coding: utf-8\ndef f():\n    '''b'''\n    g()\n    h()  # noqa: E1\n"),
    ("go", "//go:build linux\n\npackage p\n\n// a\nfunc f() {} // b\n\n//go:noinline\nfunc g() {}\n",
     "//go:build linux\n\npackage p\n\nfunc f() {}\n\n//go:noinline\nfunc g() {}\n"),
    ("typescript", "/// <reference path='a' />\n// @ts-ignore\n// a\nlet b = 1; // eslint-disable-line\n",
     "/// <reference path='a' />\n// @ts-ignore\nlet b = 1; // eslint-disable-line\n"),
    ("javascript", "function f() { return /* a\n */ 1; }\n// b\n", "function f() { return /* a\n */ 1; }\n"),
    ("java", "/** a */\nclass C { int b; /* c */ }\n", "class C { int b; }\n"),
    ("c", "/* a */\n/* FALLTHROUGH */\n// Falls through\n// a full third\n", "/* FALLTHROUGH */\n// Falls through\n"),
    ("javascript", "/** @jest-environment jsdom */\n// a\n// deno-lint-ignore a\n/* exported f */\n// @noflow\nf();\n",
     "/** @jest-environment jsdom */\n// deno-lint-ignore a\n/* exported f */\n// @noflow\nf();\n"),
    ("python", "# a\rf()\n# b\n# cython: infer_types=True\ng()  # ty: ignore\n", "# a\rf()\n# cython: infer_types=True\ng()  # ty: ignore\n"),
    ("c", "/* a */\n#define B 1 /* c */\nint d; // e\n", "#define B 1 /* c */\nint d;\n"),
]  # fmt: skip


@pytest.mark.parametrize(("language", "source", "expected"), CASES)
def test_comments_go_and_directives_stay(language: str, source: str, expected: str) -> None:
    before = parse(source.encode(), language)
    variant = comment_toggle.vary(before, random.Random(0))
    assert isinstance(variant, Variant)
    assert variant.text.decode() == expected
    assert comment_toggle.verify(before, variant, parse(variant.text, language)) == ""


@pytest.mark.parametrize(
    ("language", "source"),
    [
        ("go", 'package p\n\n// #include <a.h>\nimport "C"\n'),
        ("go", "package p\n\nfunc ExampleF() {\n\tf()\n\t// Output:\n\t// 1\n}\n"),
        ("python", "def f():\n    'a'\n"),
        ("rust", "#![cfg_attr(not(test), deny(unsafe_code, missing_docs))]\n\n/// a\nfn f() {}\n"),
        ("python", "# a\n# /// script\n# dependencies = ['b']\n# ///\nf()\n"),
    ],
)
def test_nothing_to_remove(language: str, source: str) -> None:
    assert comment_toggle.vary(parse(source.encode(), language), random.Random(0)) == NOTHING_TO_CHANGE


def test_a_lost_directive_is_found() -> None:
    before = parse(b"f()  # noqa\n# a\n", "python")
    after = parse(b"f()\n", "python")
    assert comment_toggle.verify(before, Variant(after.data), after) == "a directive is gone"
