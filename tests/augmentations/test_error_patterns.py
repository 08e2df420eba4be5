"""Each form of error handling becomes each of its counterparts, traps are left alone, spoiled variations are found."""

from __future__ import annotations

import random

import pytest

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, error_patterns
from git_starcoder.augmentations.error_patterns import FORMS_TABLE
from git_starcoder.parse.forms import alternative_forms, find_sites
from git_starcoder.parse.language import language_table
from git_starcoder.parse.tree import Code, parse

LANGUAGES = ["go", "java", "javascript", "python", "rust", "tsx", "typescript"]


def rust(result: str, body: str) -> str:
    """A Rust function."""
    lines = "".join(f"    {line}\n" if line else "\n" for line in body.strip("\n").split("\n"))
    return f"fn f() -> {result} {{\n{lines}}}\n"


MATCH = "let a: u8 = match b.c() {\n    Ok(value) => value,\n    Err(error) => return Err(From::from(error)),\n};"
MATCH_ERROR = "let a: u8 = match b.c() {\n    Ok(value) => value,\n    Err(error) => return Err(error),\n};"
MATCH_NONE = "let mut a = match b {\n    Some(value) => value,\n    None => return None,\n};"
PAIRS = {
    "question": ("rust", rust("io::Result<u8>", "let a: u8 = b.c()?;"), rust("io::Result<u8>", MATCH)),
    "question, assigned": (
        "rust",
        rust("Result<A, B>", "a = b?;"),
        rust(
            "Result<A, B>",
            "a = match b {\n    Ok(value) => value,\n    Err(error) => return Err(From::from(error)),\n};",
        ),
    ),
    "question, alone": (
        "rust",
        rust("fmt::Result", 'write!(a, "b")?;'),
        rust("fmt::Result", 'if let Err(error) = write!(a, "b") {\n    return Err(From::from(error));\n}'),
    ),
    "question, option": ("rust", rust("Option<u8>", "let mut a = b?;"), rust("Option<u8>", MATCH_NONE)),
    "question, else": (
        "rust",
        rust("Option<u8>", "let mut a = b?;"),
        rust("Option<u8>", "let Some(mut a) = b else {\n    return None;\n};"),
    ),
    "match, else": (
        "rust",
        rust("Option<u8>", MATCH_NONE),
        rust("Option<u8>", "let Some(mut a) = b else {\n    return None;\n};"),
    ),
    "leave some": (
        "rust",
        rust("B", "let a = match b {\n    Some(value) => value,\n    None => return Err(A::B),\n};"),
        rust("B", "let Some(a) = b else {\n    return Err(A::B);\n};"),
    ),
    "leave ok": (
        "rust",
        rust("B", "let a = match b() {\n    Ok(value) => value,\n    Err(_) => continue,\n};"),
        rust("B", "let Ok(a) = b() else {\n    continue;\n};"),
    ),
    "if some": (
        "rust",
        rust("B", "if let Some(a) = b() {\n    c(a); // d\n}"),
        rust("B", "match b() {\n    Some(a) => {\n        c(a); // d\n    }\n    None => {}\n}"),
    ),
    "if err": (
        "rust",
        rust("B", 'if let Err(a) = b() {\n    c(a, "d\ne");\n}'),
        rust("B", 'match b() {\n    Ok(_) => {}\n    Err(a) => {\n        c(a, "d\ne");\n    }\n}'),
    ),
    "if some else": (
        "rust",
        rust("B", "if let Some((a, _)) = b {\n    c(a)\n} else {\n    d\n}"),
        rust("B", "match b {\n    Some((a, _)) => {\n        c(a)\n    }\n    None => {\n        d\n    }\n}"),
    ),
    "if none first": (
        "rust",
        rust("B", "if let Some(a) = b {\n    c(a)\n} else {\n    d\n}"),
        rust("B", "match b {\n    None => {\n        d\n    }\n    Some(a) => {\n        c(a)\n    }\n}"),
    ),
    "if ok else": (
        "rust",
        rust("B", "if let Ok(a) = b {\n    c(a)\n} else {\n    d\n}"),
        rust("B", "match b {\n    Ok(a) => {\n        c(a)\n    }\n    Err(_) => {\n        d\n    }\n}"),
    ),
    "unwrap result": (
        "rust",
        rust("B", "let a = b.parse::<u8>().unwrap();"),
        rust("B", 'let a = b.parse::<u8>().expect("parse should succeed");'),
    ),
    "unwrap option": (
        "rust",
        rust("B", "a(b.next().unwrap())"),
        rust("B", 'a(b.next().expect("next should give a value"))'),
    ),
    "raise": ("python", "raise ValueError from a\n", "raise ValueError() from a\n"),
    "except": ("python", "try:\n    a\nexcept (B, c.D) as e:\n    f\n", "try:\n    a\nexcept (c.D, B) as e:\n    f\n"),
    "try else": (
        "python",
        "if z:\n  try:\n    a\n  except B:\n    raise\n  else:\n    c('''\nd''',\n      e)\n  f\n",
        "if z:\n  try:\n    a\n  except B:\n    raise\n  c('''\nd''',\n    e)\n  f\n",
    ),
    "raise else": (
        "python",
        "if a:\n    # b\n    raise C(d)\nelse:\n    e\n",
        "if a:\n    # b\n    raise C(d)\ne\n",
    ),
    "if none": (
        "python",
        "if a is None:\n    b\n    c\nelse:\n    d\n",
        "if a is not None:\n    d\nelse:\n    b\n    c\n",
    ),
    "choose none": ("python", "a = b if c is None else d\n", "a = d if c is not None else b\n"),
    "go declared": (
        "go",
        "package p\n\nfunc f() {\n\tif _, ok := g(); !ok {\n\t\th()\n\t}\n\ti()\n}\n",
        "package p\n\nfunc f() {\n\t_, ok := g()\n\tif !ok {\n\t\th()\n\t}\n\ti()\n}\n",
    ),
    "go return else": (
        "go",
        "package p\n\nfunc f() {\n\tif err != nil {\n\t\treturn\n\t} else {\n\t\tg()\n\t}\n}\n",
        "package p\n\nfunc f() {\n\tif err != nil {\n\t\treturn\n\t}\n\tg()\n}\n",
    ),
    "go if nil": (
        "go",
        "package p\n\nfunc f() {\n\tif a == nil {\n\t\tg()\n\t} else {\n\t\th()\n\t}\n}\n",
        "package p\n\nfunc f() {\n\tif a != nil {\n\t\th()\n\t} else {\n\t\tg()\n\t}\n}\n",
    ),
    "go if nil declared": (
        "go",
        "package p\n\nfunc f() {\n\tif a := b(); a == nil {\n\t\tg()\n\t} else {\n\t\th()\n\t}\n}\n",
        "package p\n\nfunc f() {\n\tif a := b(); a != nil {\n\t\th()\n\t} else {\n\t\tg()\n\t}\n}\n",
    ),
    "go return nil": (
        "go",
        "package p\n\nfunc f() error {\n\tif err == nil {\n\t\treturn nil\n\t}\n\treturn g(err)\n}\n",
        "package p\n\nfunc f() error {\n\tif err != nil {\n\t\treturn g(err)\n\t}\n\treturn nil\n}\n",
    ),
    "java catch": (
        "java",
        "class A {\n    void f() {\n        try { g(); } catch (B | C.D e) { h(e); }\n    }\n}\n",
        "class A {\n    void f() {\n        try { g(); } catch (C.D | B e) { h(e); }\n    }\n}\n",
    ),
}
BRACES = {
    "throw else": ("if (a) {\n    throw b;\n} else {\n    c();\n}", "if (a) {\n    throw b;\n}\nc();"),
    "throw bare": ("if (a) throw b;", "if (a) {\n    throw b;\n}"),
    "if null": (
        "if (a == null) {\n    b();\n} else {\n    c();\n}",
        "if (a != null) {\n    c();\n} else {\n    b();\n}",
    ),
    "choose null": ("a = b == null ? c : d;", "a = b != null ? d : c;"),
    "leave null": ("if (a == null) {\n    return b;\n}\nreturn c;", "if (a != null) {\n    return c;\n}\nreturn b;"),
}
SCRIPT = {
    "throw new": ("throw new TypeError(a, b);", "throw TypeError(a, b);"),
    "catch": ("a?.b;\ntry { b(); } catch (error) { c(); }", "a?.b;\ntry { b(); } catch { c(); }"),
    "catch, the only one": ("try { b(); } catch { c(); }", "try { b(); } catch (error) { c(); }"),
    "if undefined": (
        "if (a === undefined) {\n    b();\n} else {\n    c();\n}",
        "if (a !== undefined) {\n    c();\n} else {\n    b();\n}",
    ),
    "choose undefined": ("a = b === undefined ? c : d;", "a = b !== undefined ? d : c;"),
    "leave undefined": (
        "if (a === undefined) {\n    throw b;\n}\nreturn c;",
        "if (a !== undefined) {\n    return c;\n}\nthrow b;",
    ),
}


def braces(language: str, body: str) -> str:
    """A function around some statements."""
    if language == "java":
        lines = "".join(f"        {line}\n" for line in body.split("\n"))
        return f"class A {{\n    int f() {{\n{lines}    }}\n}}\n"
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    return f"function f() {{\n{lines}}}\n"


for _language in ("java", "javascript", "typescript", "tsx"):
    for _name, _pair in (BRACES if _language == "java" else BRACES | SCRIPT).items():
        _one, _other = (braces(_language, body) for body in _pair)
        PAIRS[f"{_language} {_name}"] = (_language, _one, _other)

ONLY_THERE = [name for name in PAIRS if name.endswith("the only one")]
"""Of these, nothing says that the way back is."""
WAYS = [pytest.param(*pair, id=name) for name, pair in PAIRS.items()] + [
    pytest.param(language, other, one, id=f"{name}, back")
    for name, (language, one, other) in PAIRS.items()
    if name not in ONLY_THERE
]
ONE_WAY = {
    "error": (rust("io::Result<u8>", MATCH_ERROR), rust("io::Result<u8>", "let a: u8 = b.c()?;")),
    "error, alone": (
        rust("Result<A, B>", "if let Err(a) = b() {\n    return Err(a);\n}"),
        rust("Result<A, B>", "b()?;"),
    ),
}


def variations(source: str, language: str, seeds: int = 60) -> set[str]:
    """What comes of a source, each variation verified."""
    before = parse(source.encode(), language)
    assert before.is_clean
    made: set[str] = set()
    for seed in range(seeds):
        variant = error_patterns.vary(before, random.Random(seed))
        if isinstance(variant, Variant):
            after = parse(variant.text, language)
            assert after.is_clean
            assert error_patterns.verify(before, variant, after) == ""
            made.add(variant.text.decode())
    return made


def found(source: str, language: str) -> set[str]:
    return {site.form.name for site in find_sites(parse(source.encode(), language), FORMS_TABLE)}


@pytest.mark.parametrize(("language", "one", "other"), WAYS)
def test_one_form_becomes_the_other(language: str, one: str, other: str) -> None:
    assert other in variations(one, language)


@pytest.mark.parametrize(("one", "other"), ONE_WAY.values(), ids=ONE_WAY)
def test_one_way(one: str, other: str) -> None:
    assert other in variations(one, "rust")
    assert one not in variations(other, "rust")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_form_is_tried(language: str) -> None:
    tried: set[str] = set()
    for key, one, other in [*PAIRS.values(), *(("rust", *pair) for pair in ONE_WAY.values())]:
        if key == language:
            tried |= found(one, language) | found(other, language)
    rules = language_table(language)[FORMS_TABLE]
    assert tried == set((language_table(rules["like"])[FORMS_TABLE] if "like" in rules else rules)["forms"])


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_form_loses_a_part_but_names_that_it_bound(language: str) -> None:
    for key, one, other in PAIRS.values():
        for source in (one, other) if key == language else ():
            code = parse(source.encode(), language)
            for site in find_sites(code, FORMS_TABLE):
                for form in alternative_forms(code, site, FORMS_TABLE):
                    lost = [name for name in site.parts if b"$" + name.encode() not in form.template]
                    assert set(lost) <= {*site.form.new_names, *site.form.local_parts, "method"}


TRAPS = {
    "the type is not written": ("rust", "fn f() { let g = |a| { let b = a?; Some(b) }; }"),
    "a closure in a function with a Result": ("rust", rust("Result<A, B>", "a.map(|b| { let c = b?; d(c) });")),
    "an async block": ("rust", rust("Result<A, B>", "async { let c = b?; d(c) };")),
    "another type": ("rust", rust("Poll<Result<A, B>>", "let a = b?;")),
    "something that polls": ("rust", rust("Result<A, B>", "let a = b.poll_next(c)?;")),
    "the literal of a struct": ("rust", rust("Result<A, B>", "let a = B { c }.d()?;")),
    "a match before else": ("rust", rust("Result<A, B>", "let Some(a) = b? else { return c(d()) };")),
    "another Ok": ("rust", "use anyhow::{Ok, Result};\n" + rust("Result<A>", "let a = b?;")),
    "every name of anyhow": ("rust", "use anyhow::*;\n" + rust("Result<A>", "let a = b?;")),
    "messages that a test reads": ("rust", '#[should_panic(expected = "a")]\n' + rust("A", "a.next().unwrap();")),
    "a name that lives on": ("rust", rust("Result<A, B>", "a?;")),
    "a pattern that does not fit all": ("rust", rust("A", "if let Some(0) = b { c() }")),
    "a pattern with a constant": ("rust", rust("A", "if let Some(A) = b { c() }")),
    "a lock": ("rust", rust("A", "if let Ok(a) = b.try_lock() { c() } else { d() }")),
    "calls of calls": ("rust", rust("A", "if let Some(a) = b(c()) { d() } else { e() }")),
    "what leaves calls": (
        "rust",
        rust("A", "let a = match b {\n    Some(value) => value,\n    None => return c(d()),\n};"),
    ),
    "an else behind it": ("rust", rust("A", "if a { b() } else if let Some(c) = d { e() }")),
    "another unwrap": ("rust", rust("A", "a.mine().unwrap();")),
    "a macro": ("rust", rust("Result<A, B>", "a! { let b = c?; }")),
    "a comment between": ("rust", rust("A", "match a {\n    Some(b) => { c(b) }\n    // d\n    None => {}\n}")),
    "a class of ours": ("python", "class ValueError(Exception): pass\nraise ValueError\n"),
    "an imported class": ("python", "from a import b as KeyError\nraise KeyError\n"),
    "not a class that is built in": ("python", "raise Mine\n"),
    "a handler that goes on": ("python", "try:\n    a\nexcept B:\n    c\nelse:\n    d\n"),
    "something at the end": ("python", "try:\n    a\nexcept B:\n    raise\nelse:\n    c\nfinally:\n    d\n"),
    "equal is not is": ("python", "a = b if c == None else d\n"),
    "choices within": ("python", "a = (b if c else d) if e is None else f\n"),
    "a name that is used again": ("go", "package p\n\nfunc f() {\n\tif err := g(); err != nil {\n\t}\n\terr()\n}\n"),
    "a name of a parameter": ("go", "package p\n\nfunc f(err error) {\n\tif err := g(); err != nil {\n\t}\n}\n"),
    "a declaration to jump over": (
        "go",
        "package p\n\nfunc f() {\n\tgoto a\n\tif err := g(); err != nil {\n\t}\na:\n}\n",
    ),
    "an if behind else": (
        "go",
        "package p\n\nfunc f() {\n\tif a {\n\t} else if err := g(); err != nil {\n\t}\n}\n",
    ),
    "what follows is a declaration": (
        "go",
        "package p\n\nfunc f() {\n\tif a == nil {\n\t\treturn\n\t}\n\tb := 1\n\tg(b)\n}\n",
    ),
    "a literal in the head": (
        "go",
        "package p\n\nfunc f() {\n\terr := T{1}.g()\n\tif err != nil {\n\t}\n}\n",
    ),
    "an if in a loop without brackets": (
        "java",
        "class A { void f() { for (;;) if (a) { throw b; } else { c(); } } }",
    ),
    "an else for somebody else": ("java", "class A { void f() { if (a) throw b; else c(); } }"),
    "a choice that needs brackets": ("java", "class A { void f() { a = b == null ? (c = d) : e; } }"),
    "an Error of ours": ("typescript", "import { Error } from './a';\nthrow new Error(b);\n"),
    "a caught error that is read": ("typescript", "a?.b;\ntry { b(); } catch (e) { c(e); }\n"),
    "old code": ("javascript", "const a = 1 ? .2 : 3;\ntry { b(); } catch (e) { c(); }\n"),
    "a declaration in else": ("javascript", "function f() { if (a) { throw b; } else { const c = d; } }"),
}


@pytest.mark.parametrize(("language", "source"), TRAPS.values(), ids=TRAPS)
def test_traps_are_left_alone(language: str, source: str) -> None:
    assert variations(source, language, 5) == set()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("From::from(error)", "error", id="without From"),
        pytest.param("Ok(value) => value", "Ok(value) => other", id="another value"),
        pytest.param("Ok(value) => value", "Ok(_) => value", id="no name"),
        pytest.param("b.c()", "b.d()", id="another part"),
        pytest.param("return Err(", "Err(", id="it does not return"),
        pytest.param("let a", "let  a", id="another space"),
        pytest.param("value", "surprise", id="a name not on the list"),
        pytest.param("io::Result<u8>", "io::Result<u16>", id="another type"),
        pytest.param("};\n", "};\n    d();\n", id="one more statement"),
        pytest.param("};\n", "}; // d\n", id="one more comment"),
    ],
)
def test_a_spoiled_variation_is_found(old: str, new: str) -> None:
    _, one, other = PAIRS["question"]
    before, after = parse(one.encode(), "rust"), parse(other.encode(), "rust")
    assert error_patterns.verify(before, Variant(after.data), after) == ""
    spoiled = parse(other.replace(old, new).encode(), "rust")
    assert spoiled.data != after.data
    assert "differs" in error_patterns.verify(before, Variant(spoiled.data), spoiled)


@pytest.mark.parametrize(("old", "new"), [("'''\nd'''", "'''\n d'''"), ("    c(", "    if e:\n        c(")])
def test_a_part_may_only_change_its_indentation(old: str, new: str) -> None:
    source = "def f():\n    try:\n        a\n    except B:\n        raise\n    else:\n        c('''\nd''', e)\n"
    (other,) = variations(source, "python")
    spoiled = other.replace(old, new)
    assert spoiled != other
    before, after = parse(source.encode(), "python"), parse(spoiled.encode(), "python")
    assert after.is_clean
    assert error_patterns.verify(before, Variant(after.data), after) != ""


def test_a_form_that_is_no_site_before_is_found() -> None:
    """In a closure it is not known what `?` does, so no `match` may come of it, however right it looks."""
    one = rust("Result<A, B>", "a(|| { let b = c?; });")
    other = one.replace("c?", "match c { Ok(value) => value, Err(error) => return Err(From::from(error)) }")
    before, after = parse(one.encode(), "rust"), parse(other.encode(), "rust")
    assert before.is_clean
    assert after.is_clean
    assert error_patterns.verify(before, Variant(after.data), after) != ""


def test_without_a_tree_nothing_is_verified() -> None:
    code = Code(b"raise ValueError", None, None, is_clean=False)
    assert error_patterns.verify(code, Variant(code.data), code) != ""


def test_many_places_of_one_block_are_verified_like_few() -> None:
    find_sites = "".join(
        f"\tif e{place} := g(); e{place} != nil {{\n\t}}\n" for place in range(2 * error_patterns.MAX_SINGLE_LOOKUPS)
    )
    before = parse(f"package p\n\nfunc f() {{\n{find_sites}}}\n".encode(), "go")
    variant = error_patterns.vary(before, random.Random(0))
    assert isinstance(variant, Variant)
    after = parse(variant.text, "go")
    assert error_patterns.verify(before, variant, after) == ""
    spoiled = parse(variant.text.replace(b"e1 != nil", b"e2 != nil"), "go")
    assert error_patterns.verify(before, Variant(spoiled.data), spoiled) != ""


def test_nothing_to_change() -> None:
    assert error_patterns.vary(parse(b"struct S;", "rust"), random.Random(0)) == NOTHING_TO_CHANGE
