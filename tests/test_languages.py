"""Every language on the shelf keeps the contract: its queries compile and its rules can be used."""

from __future__ import annotations

import re
from collections import Counter
from itertools import combinations

import pytest

from git_starcoder import registry
from git_starcoder.parse import language
from git_starcoder.parse.imports import find_resolver
from git_starcoder.parse.language import detect_language, language_table, load_language
from git_starcoder.parse.structure import AUXILIARY_CAPTURES, declaration_groups
from git_starcoder.stages.analyse import QUERY_TABLES

KEYS = registry.names("languages")
OURS = ("c", "cpp", "go", "java", "javascript", "python", "rust", "tsx", "typescript")
"""The languages that have everything; another may have less."""


def test_the_shelf_has_the_languages_promised():
    assert set(OURS) <= set(KEYS)


def test_no_extension_has_two_owners():
    owners = Counter(extension for key in KEYS for extension in language_table(key)["file"]["extensions"])
    assert max(owners.values()) == 1
    for extension in owners:
        assert extension.startswith(".")
        assert extension == extension.lower()


@pytest.mark.parametrize("key", KEYS)
def test_comment_kinds_are_in_the_grammar(key):
    loaded = load_language(key)
    assert loaded.comments
    for kind in loaded.comments:
        assert loaded.grammar.id_for_node_kind(kind, True) is not None


@pytest.mark.parametrize("key", KEYS)
def test_every_query_compiles_alone_and_together(key):
    loaded = load_language(key)
    present = [name for name in QUERY_TABLES if name in loaded.table]
    assert key not in OURS or {"symbols", "imports", "difficulty", "errors"} <= set(present)
    for name in present:
        assert loaded.compile_query(name).pattern_count > 0
    assert loaded.compile_query(*present) is loaded.compile_query(*present)


@pytest.mark.parametrize("key", KEYS)
def test_captures_are_the_ones_the_code_reads(key):
    loaded = load_language(key)
    names = {name: _captures(loaded.compile_query(name)) for name in QUERY_TABLES if name in loaded.table}
    for one, two in combinations(names.values(), 2):
        assert not {name for name in one & two if not name.startswith("_")}
    if "symbols" in names:
        captured = {name for name in names["symbols"] if not name.startswith("_")}
        assert captured - AUXILIARY_CAPTURES == set(declaration_groups(key))
        assert set(loaded.table["symbols"].get("public", ())) <= captured
    assert all(name == "inside" or name.startswith(("import.", "_")) for name in names.get("imports", ()))
    assert {"branch"} <= names.get("difficulty", {"branch"}) <= {"branch", "case", "chain"}
    assert names.get("errors", {"error"}) == {"error"}
    assert names.get("types", {"type"}) == {"type"}


def _captures(query):
    return {query.capture_name(index) for index in range(query.capture_count)}


@pytest.mark.parametrize("key", KEYS)
def test_patterns_compile_and_resolvers_exist(key):
    rules = language_table(key)
    for pattern in rules.get("symbols", {}).get("public", {}).values():
        re.compile(pattern)
    if "imports" in rules:
        parse_import, create_resolver = find_resolver(rules["imports"]["resolver"])
        assert callable(parse_import)
        assert callable(create_resolver)


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/b.rs", "rust"), ("A.PY", "python"), ("x.tsx", "tsx"), ("x.d.ts", "typescript"), ("x.mjs", "javascript"),
     ("x.go", "go"), ("X.java", "java"), ("x.c", "c"), ("x.h", "c"), ("x.hpp", "cpp"), ("x.md", "text"),
     ("Makefile", "text"), (".rs", "text"), ("dir.rs/file", "text"), ("", "text"), ("x.\udcff", "text")],
)  # fmt: skip
def test_a_path_says_its_language(path, expected):
    assert detect_language(path) == expected


@pytest.mark.parametrize(
    "text",
    [b"class Shape;", b"  public:\n", b"namespace a {", b"template <class T>", b"#include <vector>", b"std::string s;"],
)
def test_a_header_with_a_line_of_cpp_is_cpp(text):
    assert detect_language("shape.h", b"// head\n" + text) == "cpp"


@pytest.mark.parametrize(
    "text", [b"", b"struct s { int class_of; };", b"#include <stdint.h>\n/* a class of its own */", b"int public_key;"]
)
def test_other_headers_are_c(text):
    assert detect_language("shape.h", text) == "c"


def test_a_language_without_a_query_says_so():
    with pytest.raises(KeyError):
        load_language("javascript").compile_query("types")
    assert language.PLAIN_TEXT not in KEYS
