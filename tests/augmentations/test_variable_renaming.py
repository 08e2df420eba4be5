from __future__ import annotations

import random

import pytest

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, variable_renaming
from git_starcoder.parse.renaming import IDENTIFIER_WORD, find_local_names, reserved_words
from git_starcoder.parse.tree import Code, parse

RUST = b"""\
fn f(first: u8, second: u8) -> u8 {
    let sum = first + second;
    println!("{}", sum);
    let double = sum * 2 + first;
    double
}
fn g(first: u8) -> u8 { first }
"""


def rename(source: bytes, language: str, seed: int = 0) -> tuple[Code, Variant, Code]:
    before = parse(source, language)
    variant = variable_renaming.vary(before, random.Random(seed))
    assert isinstance(variant, Variant), variant
    return before, variant, parse(variant.text, language)


def test_safe_names_are_new_everywhere_and_the_rest_is_as_it_was() -> None:
    before, variant, after = rename(RUST, "rust")
    old, new = IDENTIFIER_WORD.findall(before.data), IDENTIFIER_WORD.findall(variant.text)
    changed = {b"first", b"second", b"double"}
    assert [a for a, b in zip(old, new, strict=True) if a != b] == [word for word in old if word in changed]
    assert not {b for a, b in zip(old, new, strict=True) if a != b} & set(old)
    assert IDENTIFIER_WORD.sub(b"", before.data) == IDENTIFIER_WORD.sub(b"", variant.text)
    assert variable_renaming.verify(before, variant, after) == ""


def test_renamed_names_are_safe_again() -> None:
    before, _, after = rename(RUST, "rust")
    assert [list(one.safe_names.values()) for one in find_local_names(before).functions] != []
    assert [[len(places) for places in one.safe_names.values()] for one in find_local_names(after).functions] == [
        [len(places) for places in one.safe_names.values()] for one in find_local_names(before).functions
    ]


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        (b"double\n", b"single\n", "'double' became"),
        (b"{}", b"[]", "something else than safe names differs"),
        (b"fn g", b"fn h", "something else than safe names differs"),
        (b"println", b"eprintl", "something else than safe names differs"),
        (b" * 2", b" + 2", "something else than safe names differs"),
        (b"first: u8, second", b"third: u8, second", "'first' became"),
        (b"first", b"second", "a new name was there before"),
        (b"double", b"sum", "a new name was there before"),
        (b"let double = ", b"", "the tree differs"),
        (b"double", b"Double", "'Double' is no name"),
    ],
)
def test_what_is_not_alpha_equivalent_is_found(old: bytes, new: bytes, wrong: str) -> None:
    before = parse(RUST, "rust")
    count = -1 if b" " not in old and b"\n" not in old else 1
    after = parse(RUST.replace(old, new, count), "rust")
    assert variable_renaming.verify(before, Variant(after.data), after).startswith(wrong)


def test_two_names_may_not_become_one() -> None:
    before = parse(RUST, "rust")
    after = parse(RUST.replace(b"first", b"third").replace(b"second", b"third"), "rust")
    assert variable_renaming.verify(before, Variant(after.data), after) == "two names became one"


@pytest.mark.parametrize("language", ["go", "c"])
def test_there_are_names_for_a_thousand_in_the_style_of_the_language(language: str) -> None:
    names = [b"a%d" % index for index in range(1000)]
    form = {"go": (b"%s int", b"package p\nfunc f(%s) { g(%s) }"), "c": (b"int %s", b"int f(%s) { return g(%s); }")}
    one, all_ = form[language]
    source = all_ % (b", ".join(one % name for name in names), b", ".join(names))
    before, variant, after = rename(source, language)
    assert variable_renaming.verify(before, variant, after) == ""
    new = set(IDENTIFIER_WORD.findall(variant.text)) - set(IDENTIFIER_WORD.findall(source))
    assert len(new) == 1000
    assert not new & reserved_words(language)
    long = [word for word in new if word not in variable_renaming.NOUNS]
    assert all((b"_" in word) == (language == "c") and (word.islower()) == (language == "c") for word in long)


def test_nothing_to_rename() -> None:
    assert variable_renaming.vary(parse(b"struct S;", "rust"), random.Random(0)) == NOTHING_TO_CHANGE
