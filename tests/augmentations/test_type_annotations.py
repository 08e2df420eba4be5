from __future__ import annotations

import random

import pytest

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, type_annotations
from git_starcoder.parse.tree import parse

RUST = "fn f(s: &str) -> String {\n    %s\n    g(x)\n}\n"
PYTHON = "def f(a, b) -> None:\n    %s\n"
GO = "package p\n\nfunc f() {\n\t%s\n\tg(x)\n}\n"
TYPESCRIPT = "%s\n"
JAVA = "import java.util.List;\nclass C {\n    void f() {\n        var zero = g();\n        %s\n    }\n}\n"
CPP = "void f() {\n    auto zero = g();\n    %s\n}\n"
FRAMES = {"rust": RUST, "python": PYTHON, "go": GO, "typescript": TYPESCRIPT, "java": JAVA, "cpp": CPP}

PAIRS = [
    ("rust", "let x = true;", "let x: bool = true;"),
    ("rust", "let mut x = a == b;", "let mut x: bool = a == b;"),
    ("rust", "let x = s.n as u64;", "let x: u64 = s.n as u64;"),
    ("rust", 'let x = "a";', 'let x: &str = "a";'),
    ("rust", 'let x = format!("{s}");', 'let x: String = format!("{s}");'),
    ("rust", "let x = 5u8;", "let x: u8 = 5;"),
    ("rust", "let x = 0xffu8;", "let x: u8 = 0xff;"),
    ("rust", "let x = 1.5f64;", "let x: f64 = 1.5;"),
    ("python", "x = 5", "x: int = 5"),
    ("python", "x = [a for a in b]", "x: list = [a for a in b]"),
    ("python", "x = a is not b", "x: bool = a is not b"),
    ("python", "x = len(a)", "x: int = len(a)"),
    ("python", "x = f'{a}'", "x: str = f'{a}'"),
    ("go", "x := 5", "var x int = 5"),
    ("go", "x := a < b", "var x bool = a < b"),
    ("go", "x := &p.T{}", "var x *p.T = &p.T{}"),
    ("go", "x := make(map[string]int)", "var x map[string]int = make(map[string]int)"),
    ("typescript", "let x = 5;", "let x: number = 5;"),
    ("typescript", "let x = a === b;", "let x: boolean = a === b;"),
    ("typescript", "const x = `${a}`;", "const x: string = `${a}`;"),
    ("typescript", "const x = a as Foo;", "const x: Foo = a as Foo;"),
    ("typescript", "function f(x = 5) {}", "function f(x: number = 5) {}"),
    ("typescript", "class C { x = 5 }", "class C { x: number = 5 }"),
    ("java", 'final var x = "a";', 'final String x = "a";'),
    ("java", "var x = new a.B(1);", "a.B x = new a.B(1);"),
    ("cpp", "const auto x = T{1};", "const T x = T{1};"),
    ("cpp", "auto x = static_cast<T>(a);", "T x = static_cast<T>(a);"),
]


def vary(text: str, language: str) -> str:
    before = parse(text.encode(), language)
    assert before.is_clean
    variant = type_annotations.vary(before, random.Random(0))
    assert isinstance(variant, Variant), variant
    after = parse(variant.text, language)
    assert after.is_clean
    assert type_annotations.verify(before, variant, after) == ""
    return variant.text.decode()


@pytest.mark.parametrize(("language", "bare", "typed"), PAIRS)
def test_a_certain_type_is_written_out_and_left_out(language: str, bare: str, typed: str) -> None:
    frame = FRAMES[language]
    assert vary(frame % bare, language) == frame % typed
    assert vary(frame % typed, language) == frame % bare


@pytest.mark.parametrize(
    ("language", "declaration"),
    [
        pytest.param("java", "List<T> x = new ArrayList<T>();", id="a collection of the JDK"),
        pytest.param("java", "Box<A<B>> x = new Box<A<B>>();", id="the same class"),
    ],
)
def test_a_diamond_stands_for_the_declared_arguments(language: str, declaration: str) -> None:
    frame = JAVA.replace("var zero = g();", "")
    short = declaration[: declaration.rindex("<T>" if "<T>" in declaration else "<A<B>>")] + "<>();"
    assert vary(frame % declaration, language) == frame % short
    assert vary(frame % short, language) == frame % declaration


@pytest.mark.parametrize(
    ("language", "declaration"),
    [
        pytest.param("rust", "let x = 5;", id="a number may be of any type"),
        pytest.param("rust", "let x: u64 = y;", id="a variable of an unknown type"),
        pytest.param("rust", "let x = 1f32;", id="no floating-point literal"),
        pytest.param("rust", "let x = 0xf32;", id="hexadecimal"),
        pytest.param("rust", 'let x = b"a";', id="bytes"),
        pytest.param("rust", "let x = b'a';", id="a byte"),
        pytest.param("rust", "let x: &[u8; 1] = &[1u8];", id="a reference"),
        pytest.param("rust", "let x: u64 /* why */ = 5;", id="a comment in between"),
        pytest.param("rust", "let x = n as *const _;", id="a type with a hole"),
        pytest.param("rust", "let x: dyn_t = true;", id="another type than the value says"),
        pytest.param("python", "x = 5\n    x = None", id="bound twice"),
        pytest.param("python", "x = 5\n    x += 1.5", id="changed"),
        pytest.param("python", "global x\n    x = 5", id="global"),
        pytest.param("python", "x = 5\n    def g():\n        nonlocal x\n        x = 'a'", id="bound within"),
        pytest.param("python", "class A:\n        x = 5", id="a field of a class"),
        pytest.param("python", "x = a == b", id="numpy compares to arrays"),
        pytest.param("python", "def len(y): ...\n    x = len(a)", id="another len"),
        pytest.param("python", "x = y = 5", id="two targets"),
        pytest.param("go", "x, y := 5, 6", id="two names"),
        pytest.param("go", "x := a && b", id="a named boolean type"),
        pytest.param("go", "x := f()", id="a call"),
        pytest.param("go", "if x := 5; x > y { g() }", id="no statement of its own"),
        pytest.param("go", "len := 5\n\tx := len(y)", id="another len"),
        pytest.param("typescript", "const x = 5;", id="a constant has the type of its literal"),
        pytest.param("typescript", "const x = a === b;", id="a constant narrows"),
        pytest.param("typescript", "const x = `a`;", id="a constant template is a literal"),
        pytest.param("typescript", "const x: string = `a`;", id="a constant template of a wider type"),
        pytest.param("typescript", "let x = 'a' as const;", id="as const"),
        pytest.param("typescript", "class C { readonly x = 5; @D() y = 5 }", id="read only, and decorated"),
        pytest.param("typescript", "g((x = 5) => x);", id="a callback"),
        pytest.param("java", "var x = new A() {};", id="an anonymous class"),
        pytest.param("java", "var x = new ArrayList<>();", id="a diamond"),
        pytest.param("java", "long x = 5;", id="a wider type"),
        pytest.param("java", "List<?> x = new ArrayList<>();", id="a wildcard"),
        pytest.param("java", "int x = 5, y = 6;", id="two declarators"),
        pytest.param("cpp", "auto x = f();", id="a call"),
        pytest.param("cpp", "auto& x = T{1};", id="a reference"),
        pytest.param("cpp", "long x = 5;", id="a wider type"),
        pytest.param("cpp", "auto x = 5, y = 6;", id="two declarators"),
    ],
)
def test_nothing_is_guessed(language: str, declaration: str) -> None:
    code = parse((FRAMES[language] % declaration).encode(), language)
    assert code.is_clean
    assert type_annotations.vary(code, random.Random(0)) == NOTHING_TO_CHANGE


@pytest.mark.parametrize(
    ("language", "text"),
    [
        pytest.param("python", "def f(a):\n    x = 5\n", id="no annotations"),
        pytest.param("python", "def f() -> None: ...\nx = 5\n", id="a module"),
        pytest.param("java", "class C { void f() { int x = 5; } }\n", id="before Java 10"),
        pytest.param("cpp", "void f() { int x = 5; }\n", id="before C++11"),
        pytest.param("rust", 'fn f() { let x = format!("a"); }\n', id="a file that never names String"),
    ],
)
def test_a_file_that_is_written_otherwise_is_left_alone(language: str, text: str) -> None:
    assert type_annotations.vary(parse(text.encode(), language), random.Random(0)) == NOTHING_TO_CHANGE


def test_one_variation_goes_one_way() -> None:
    text = RUST % "let x = true;\n    let y: bool = false;\n    let z = a == b;"
    results = {vary_with(text, seed) for seed in range(16)}
    written = text.replace("x =", "x: bool =").replace("z =", "z: bool =")
    assert results == {written, text.replace(": bool", "")}


def vary_with(text: str, seed: int) -> str:
    variant = type_annotations.vary(parse(text.encode(), "rust"), random.Random(seed))
    assert isinstance(variant, Variant)
    return variant.text.decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("x: bool", "x: u8", id="another type"),
        pytest.param("y: bool", "y", id="a type that is not certain is gone"),
        pytest.param("z = 5", "z: i32 = 5", id="a type that is not certain is written"),
        pytest.param("x: bool = true", "x: bool = false", id="another value"),
        pytest.param("x: bool", "w: bool", id="another name"),
    ],
)
def test_what_is_not_certain_is_found(old: str, new: str) -> None:
    before = parse((RUST % "let x = true;\n    let y: bool = f();\n    let z = 5;").encode(), "rust")
    variant = type_annotations.vary(before, random.Random(0))
    assert isinstance(variant, Variant)
    assert old in variant.text.decode()
    spoiled = Variant(variant.text.decode().replace(old, new).encode())
    after = parse(spoiled.text, "rust")
    assert type_annotations.verify(before, spoiled, after) == "more than certain types differs"
