"""What holds for every augmentation of the shelf that varies files; of the others, `test_frames` tells."""

from __future__ import annotations

import random

import pytest

from git_starcoder import augmentations, registry
from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.language import language_table
from git_starcoder.parse.tree import Code, parse
from git_starcoder.records import Span
from git_starcoder.stages import augment

KEYS = [key for key in registry.names("augmentations") if augmentations.input_kind(key) in {"text", "tree"}]
SOURCES = {
    "rust": '// one\nfn f(a: u8, b: u8) -> u8 {\n    let c = g(a, b); // two\n    let d = a == b;\n    if let Some(e) = i() {}\n\n    h(c, d, "u, v")\n}\n',
    "python": '# one\ndef f(a, b) -> T:\n    c = g(a, b)  # two\n    d = a is b\n    e = i if d is None else j\n\n    return h(c, d, "u, v")\n',
    "typescript": "// one\nfunction f(a: T, b: T): T {\n    const c = g(a, b); // two\n    let d = a === b;\n    if (d) throw Error();\n\n    return h(c, d, `u, v`);\n}\n",
    "tsx": "// one\nfunction f(a: T, b: T): T {\n    const c = g(a, b); // two\n    let d = a === b;\n    if (d) throw Error();\n\n    return <i x={c} y={d}>u, v</i>;\n}\n",
    "javascript": "// one\nfunction f(a, b) {\n    const c = g(a, b); // two\n    let d = a === b;\n    if (d) throw Error();\n\n    return h(c, d, `u, v`);\n}\n",
    "go": "package p\n\n// one\nfunc f(a, b int) int {\n\tc := g(a, b) // two\n\td := a == b\n\tif err := i(); err != nil {\n\t\tj()\n\t}\n\n\treturn h(c, d, `u, v`)\n}\n",
    "java": '// one\nclass C {\n    int f(int a, int b) {\n        int c = g(a, b); // two\n        var d = a == b;\n        if (d) throw i();\n\n        return h(c, d, "u, v");\n    }\n}\n',
    "c": '// one\nint f(int a, int b) {\n    int c = g(a, b); // two\n    int d = a == b;\n\n    return h(c, d, "u, v");\n}\n',
    "cpp": '// one\nint f(int a, int b) {\n    auto c = g(a, b); // two\n    auto d = true;\n\n    return h(c, d, R"(u, v)");\n}\n',
}
OWN = {key for key in KEYS for language in SOURCES if key in language_table(language)}
"""Augmentations with a table of their own name in a language file: they do nothing to a language without one."""
ALL = [(key, language) for key in KEYS for language in SOURCES if key not in OWN or key in language_table(language)]
NONE = [(key, language) for key in KEYS for language in SOURCES if (key, language) not in ALL]


def make(key: str, language: str, seed: int = 0) -> tuple[Code, Variant, Code]:
    before = parse(SOURCES[language].encode(), language)
    variant = augmentations.load_variation(key).vary(before, random.Random(seed))
    assert isinstance(variant, Variant), variant
    return before, variant, parse(variant.text, language)


def test_every_language_is_tried() -> None:
    assert sorted(SOURCES) == registry.names("languages")


@pytest.mark.parametrize("key", KEYS)
def test_says_what_it_does(key: str) -> None:
    help_line = registry.summary("augmentations", key)
    assert help_line.endswith(".")
    assert len(help_line) < 100


@pytest.mark.parametrize(("key", "language"), ALL)
def test_a_variation_is_verified_and_new(key: str, language: str) -> None:
    before, variant, after = make(key, language)
    assert after.is_clean
    assert augmentations.load_variation(key).verify(before, variant, after) == ""
    assert variant.text != before.data or variant.masked_spans


@pytest.mark.parametrize(("key", "language"), NONE)
def test_there_is_nothing_in_a_language_without_a_table(key: str, language: str) -> None:
    (answer,) = augment.make_variations(
        augment.VariationTask(SOURCES[language].encode(), language, [augment.DrawnVariation(key, 0)])
    )
    assert (answer.text, answer.reason) == (None, NOTHING_TO_CHANGE)


@pytest.mark.parametrize("key", [key for key in KEYS if augmentations.input_kind(key) == "tree"])
def test_the_tables_that_it_reads_are_named(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A language without one of them is left out; `test_languages` has one with no tables at all."""
    for language in (one for one in SOURCES if (key, one) in ALL):
        before = parse(SOURCES[language].encode(), language)
        assert before.language is not None
        assert augmentations.supports_language(key, before.language)
        for name in registry.load("augmentations", key).TABLES:
            with monkeypatch.context() as patch:
                patch.delitem(before.language.table, name)
                assert not augmentations.supports_language(key, before.language)


@pytest.mark.parametrize(("key", "language"), ALL)
def test_the_same_seed_gives_the_same(key: str, language: str) -> None:
    assert make(key, language, 7)[1] == make(key, language, 7)[1]


@pytest.mark.parametrize(("key", "language"), [one for one in ALL if augmentations.input_kind(one[0]) == "tree"])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b"g", b"gg", id="another word"),
        pytest.param(b"u, v", b"u, w", id="another string"),
        pytest.param(b"u, v", b"u,  v", id="another space in a string"),
        pytest.param(b"f(", b"f( /* three */ ", id="another comment"),
        pytest.param(b";", b"", id="a token less"),
        pytest.param(b"return", b"return  -", id="a token more"),
    ],
)
def test_what_spoils_a_variation_is_found(key: str, language: str, old: bytes, new: bytes) -> None:
    before, variant, _ = make(key, language)
    if old not in variant.text or (key == "comment_toggle" and new.startswith(b"f( /*")):
        pytest.skip("there is nothing to spoil like this")  # a comment more is no harm to who takes comments away
    spoiled = Variant(variant.text.replace(old, new, 1))
    assert augmentations.load_variation(key).verify(before, spoiled, parse(spoiled.text, language)) != ""


@pytest.mark.parametrize("key", KEYS)
def test_another_text_than_the_one_parsed_is_found(key: str) -> None:
    before, variant, after = make(key, "rust")
    assert (
        augmentations.load_variation(key).verify(before, Variant(variant.text + b" ", variant.masked_spans), after)
        != ""
    )


@pytest.mark.parametrize("holes", [(), ((0, 0),), ((0, 2), (1, 3)), ((2, 4), (0, 1)), ((0, 10**6),), ((0, 1),)])
def test_bad_holes_are_found(holes: tuple[tuple[int, int], ...]) -> None:
    before = parse(' fn f() { "é" }'.encode(), "rust")
    variant = Variant(before.data, tuple(Span(*hole) for hole in holes))
    assert augmentations.load_variation("token_masking").verify(before, variant, before) != ""


def test_a_hole_may_not_cut_a_character() -> None:
    before = Code("aé".encode(), None, None, is_clean=False)
    variant = Variant(before.data, (Span(0, 2),))
    assert (
        augmentations.load_variation("token_masking").verify(before, variant, before)
        == "a masked span cuts a character"
    )
