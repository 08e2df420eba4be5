"""Which names can be renamed: exactly these. Each source is one trap, and a name that is fine beside it."""

from __future__ import annotations

import pytest

from git_starcoder.parse.renaming import find_local_names
from git_starcoder.parse.tree import parse

RUST = {
    "locals, parameters, closures, loops": (
        "fn f(a: &[u8]) -> u8 { let mut b = 0; for c in a { b += c; } let d = |e: u8| e + 1; d(b) }",
        "a b c d e",
    ),
    "patterns": (
        (
            "fn f(o: O) -> u8 { if let Some((a, ref b)) = o.x() { return a + b; } match o { P { q: c, .. } if c > 1 => c, "
            "d @ 1..=3 => d.into(), [e, ..] => e, _ => 0 } }"
        ),
        "a b c d e o",
    ),
    "inside a macro": ('fn f(a: u8, b: u8) { println!("{}", a); g(b) }', "b"),
    "in the format string of a macro": ('fn f(a: u8, b: u8) { println!("{a:?}"); g(b) }', "b"),
    "shorthand fields": ("fn f(a: u8, b: u8) -> S { let S { c, d: e } = g(b); h(c, e); S { a } }", "b e"),
    "a field of the same name": ("fn f(a: S) -> u8 { a.a + a.b.a() }", "a"),
    "nested items": ("fn f(a: u8, b: u8) -> u8 { fn g(a: u8) -> u8 { a } g(a) + b }", "b"),
    "a macro defined inside": ("fn f(a: u8, b: u8) -> u8 { macro_rules! m { () => { a } } m!() + b }", "b"),
    "used before it is bound": ("use m::*; fn f(b: u8) -> u8 { let a = a(b); a }", "b"),
    "used after its block": ("fn f(b: u8) -> u8 { { let a = b; g(a); } a(b) }", "b"),
    "used in the else branch of its if let": ("fn f(b: O) -> u8 { if let Some(a) = b { a } else { a() } }", "b"),
    "an item of the file": ("static a: u8 = 1; fn f(b: u8) -> u8 { let a = b; a + b }", "b"),
    "an import of the file": ("use m::a; fn f(b: u8) -> u8 { let a = b; a + b }", "b"),
    "perhaps a constant of another module": ("use m::*; fn f(b: u8) -> u8 { match b { a => 1, _ => b } }", "b"),
    "capitals and underscores": ("fn f(A: u8, _b: u8, c: u8) -> u8 { A + _b + c }", "c"),
    "an attribute that may read anything": ("#[test] #[instrument(skip(a))] fn f(a: u8) -> u8 { a + 1 }", ""),
    "an impl with such an attribute": ("#[pymethods] impl S { fn f(&self, a: u8) -> u8 { a + 1 } }", ""),
    "a harmless attribute": ("#[inline] #[must_use] fn f(a: u8) -> u8 { a + 1 }", "a"),
    "a label of the same name": ("fn f(a: u8) -> u8 { 'a: loop { break 'a a; } }", "a"),
    "a raw identifier": ("fn f(r: u8) -> u8 { let r#type = r; r#type }", ""),
    "an attribute that may become such an attribute": ("#[cfg_attr(x, instrument)] fn f(a: u8) -> u8 { a + 1 }", ""),
    "comments and strings": ('fn f(a: u8) -> u8 { // a\n g("a"); a }', "a"),
    "a path": ("fn f(a: u8, b: u8) -> u8 { a::g() + S::a(b) }", "b"),
}
PYTHON = {
    "locals, loops, with, except": (
        (
            "def f(p):\n    a = p\n    b, (c, *d) = a\n    for e in d:\n        g(b, c, e)\n    with open(a) as h:\n"
            "        h.i()\n    try:\n        pass\n    except E as j:\n        raise j\n"
        ),
        "a b c d e h j",
    ),
    "parameters": ("def f(a, b=1, *c, d, **e):\n    g = a + b\n    return g, c, d, e\n", "g"),
    "parameters of a nested function": (
        "def f():\n    def g(a):\n        return a\n    b = g(a=1)\n    return b\n",
        "b",
    ),
    "lambda parameters": ("def f(c):\n    b = lambda a: a + c\n    return b(a=1)\n", "b"),
    "keyword arguments are not the name": ("def f():\n    a = 1\n    return g(a=a).a\n", "a"),
    "global and nonlocal": (
        "def f():\n    global a\n    a = 1\n    b = a\n    c = 2\n    def g():\n        nonlocal c\n        c = b\n    return g\n",
        "b",
    ),
    "closures": ("def f():\n    a = 1\n    def g():\n        return a\n    return g\n", "a"),
    "local in the inner function only": (
        "def f():\n    def g():\n        a = 1\n        return a\n    return a, g\n",
        "",
    ),
    "f-strings": ('def f():\n    a = b = c = d = 1\n    return f"{a:{b}} {c=} {d!r}"\n', "a b d"),
    "strings that may name it": ('def f(p):\n    a = p\n    b = p\n    return p.query("@a > 1"), a, b\n', "b"),
    "docstring and comments": ('def f():\n    """The a."""\n    a = 1  # a\n    return a\n', "a"),
    "locals()": ('def f():\n    a = 1\n    return "{a}".format(**locals()), a\n', ""),
    "eval": ("def f():\n    a = 1\n    return eval('a'), a\n", ""),
    "nested class": ("def f():\n    a = 1\n    b = 2\n    class C:\n        a = a\n    return C, b\n", "b"),
    "imports inside": (
        "def f():\n    import a.b\n    from c import d as e\n    a = e\n    g = a\n    return g, e\n",
        "g",
    ),
    "a global of the file": ("a = 1\ndef f():\n    a = 2\n    b = a\n    return a, b\n", "b"),
    "comprehensions": (
        "def f(p):\n    return [a for a in p if a], {b: c for b, c in p}, list(d for d in p)\n",
        "a b c d",
    ),
    "iterable of a comprehension is outside": ("def f(p):\n    return [a for a in a]\n", ""),
    "used outside its comprehension": ("def f(p):\n    b = [a for a in p]\n    return a, b\n", "b"),
    "class attributes": ("class C:\n    a = 1\n    def f(self):\n        b = self.a\n        return b\n", "b"),
    "match": ("def f(p):\n    b = p\n    match b:\n        case C(x=a):\n            return a, b\n", "b"),
    "a default is evaluated outside": (
        "def f():\n    b = 1\n    def g(x=a):\n        a = x\n        return a\n    return g, b\n",
        "b",
    ),
    "deleted and annotated": ("def f():\n    a: int = 1\n    g(a)\n    del a\n", "a"),
}
SCRIPT = {
    "locals, parameters, closures, loops": (
        "function f(a) { const b = a; let c = 0; var d = 1; for (const e of a) { c += e; } return [b, d].map(g => g + c); }",
        "a b c d e g",
    ),
    "shorthand": ("function f(a, {b, c: d}) { const e = b; return {a, e: e, d}; }", "e"),
    "a property of the same name": ("function f(a) { return a.a({a: a}); }", "a"),
    "a label of the same name": ("function f(a) { a: for (;;) { break a; } return a; }", "a"),
    "eval": ("function f(a) { const b = a; return eval('b'); }", ""),
    "a global after its block": ("function f(b) { { let a = b; g(a); } return a + b; }", "b"),
    "assignment to a global": ("function f(b) { a = b; return a; }", "b"),
    "a global of the file": ("const a = 1; function f(b) { const a = b; return a; }", "b"),
    "an import": ("import {a} from 'x'; function f(b) { const a = b; return a; }", "b"),
    "a function inside": ("function f(b) { function a() {} var a = b; return a; }", "b"),
    "catch": ("function f() { try { g(); } catch (a) { throw a; } }", "a"),
    "templates": ("function f(a) { return `a ${a}`; }", "a"),
    "dollar and underscore": ("function f(_b, c) { let $a = c; return $a + _b + c; }", "c"),
    "injected by name": ("m.x('c', function ($scope, a) { return a.g($scope); });", ""),
    "defaults": ("function f(a, b = a) { return b; }", "a b"),
    "no declaration": ("function f(b) { for (a of b) { g(a); } return b; }", "b"),
}
TYPESCRIPT = {
    "parameter properties": ("class C { constructor(private a: T, b: T) { g(b); this.x(a); } }", "b"),
    "typeof in a type": ("function f(a: T, b: T): T { let c: typeof a = b; return c; }", "b c"),
    "type predicates": ("function f(a: T, b: T): a is U { return a === b; }", "b"),
    "namespaces and enums": ("function f(a: T, b: T) { enum E { X = a } return [E, a, b]; }", "b"),
    "as, ! and satisfies": ("function f(a: T) { return g(a as U, a!, a satisfies U); }", "a"),
}
TSX = {
    "elements": ("const F = (p: T) => { const a = p; const b = p; return <a x={b} {...p}>a {b}</a>; };", "b p"),
}
GO = {
    "everything bound": (
        (
            "package p\nfunc (r *T) F(a, b int, c ...string) (n int, err error) {\n\tx, y := a, b\n\tvar z int = x\n"
            "\tfor i, v := range c {\n\t\tg(i, v, y, z)\n\t}\n\tif k := h(); k > 1 {\n\t}\n\tswitch s := r.v.(type) {\n"
            "\tcase int:\n\t\tg(s)\n\t}\n\tfunc(w int) { g(w) }(x)\n\treturn n, err\n}\n"
        ),
        "a b c err i k n r s v w x y z",
    ),
    "keys of literals": ("package p\nfunc f(a, b int) { g(T{a: b}, map[int]int{a: b}, []int{b}) }\n", "b"),
    "used before it is bound": ("package p\nfunc f(b int) { a := a(b); g(a) }\n", "b"),
    "an import": ('package p\nimport "net/url"\nfunc f(b int) { url := g(b); h(url) }\n', "b"),
    "used after its statement": ("package p\nfunc f(b int) { if a := b; a > 1 { g(a) }; g(a) }\n", "b"),
    "the value of a type switch": ("package p\nfunc f(b T) { switch a := a.(type) { case int: g(a, b) } }\n", "b"),
    "local types and constants": ("package p\nfunc f(b int) { type a int; const c = 1; g(b, c, a(b)) }\n", "b"),
    "selectors and labels": ("package p\nfunc f(a T) {\na:\n\tfor {\n\t\tg(a.a)\n\t\tbreak a\n\t}\n}\n", "a"),
    "a range without a declaration": ("package p\nfunc f(b []int) { for a = range b { g(a) } }\n", "b"),
}
JAVA = {
    "everything bound": (
        (
            "class C { int m(int a, String b) { int c = a; for (int i = 0; i < c; i++) { g(i); } for (String s : b.t()) g(s);"
            " try (R r = h(b)) { g(r); } catch (E e) { throw e; } k((x, y) -> x + y, z -> z); return c; } }"
        ),
        "a b c e i r s x y z",
    ),
    "annotated parameters": ("class C { int m(@P int a, int b) { return a + b; } }", "b"),
    "annotated methods": (
        "class C { @GetMapping int m(int a) { return a + 1; } @Override int n(int b) { return b + 1; } }",
        "b",
    ),
    "anonymous classes": ("class C { B m(int a, int b) { g(b); return new B() { int x() { return a; } }; } }", "b"),
    "a field of the file": ("class C { int a; int m(int b) { int a = b; return a + this.a; } }", "b"),
    "methods of the same name": ("class C { int a(int a) { return a(a) + this.a(a); } }", "a"),
    "a field before the local": ("class C extends D { int m(int b) { a = b; int a = b; return a; } }", "b"),
    "parameters of constructors": ("class C { C(int a, int c) { int b = a; g(b, c); } }", "b"),
    "pattern variables": (
        "class C { int m(Object a) { if (a instanceof String b && b.c()) { return b.d(); } return 1; } }",
        "a",
    ),
}
C = {
    "everything bound": (
        (
            "int f(int a, char *b, int c[3]) { int d = 1, *e = &d; for (int i = 0; i < a; i++) { d += b[i] + c[i]; }"
            " return *e + sizeof(d); }"
        ),
        "a b c d e i",
    ),
    "a call that looks like a macro": ("int f(int a) { CHECK(a > 0); return a; }", ""),
    "a macro that takes a member": ("int f(T *a) { return g(list_first_entry(a, T, a)); }", ""),
    "another macro that takes a member": ("int f(T *a) { return g(container_of(a, T, a)); }", ""),
    "a function without a member": ("int f(T *a) { return reentry(a) + entry_of(a); }", "a"),
    "assert": ("int f(int a, int b) { assert(a); return b; }", "b"),
    "named in a #define of the file": ("#define add(x) (a + x)\nint f(int a, int b) { return add(b) + a; }", "b"),
    "extern": ("int f(int b) { extern int a; return a + b; }", "b"),
    "a prototype": ("int f(int b) { int g(int a); return g(a) + b; }", "b"),
    "a function pointer": ("int f(int (*d)(int e), int b) { return d(e) + b; }", "b"),
    "fields and labels": ("int f(struct s *a) { goto a; a: return a->a + a->b; }", "a"),
    "designators": ("int f(int a) { struct s b = {.a = a}; return b.a; }", "a b"),
    "a conditional declaration": (
        "int f(int b) {\n#ifdef X\n  int a = 1;\n#else\n  int a = 2;\n#endif\n  return a + b; }",
        "b",
    ),
    "a type of the same name": ("int f(int b) { a a = b; return a; }", "b"),
    "inline assembler": ('int f(int a) { asm("mov a" : "=r"(a)); return a; }', ""),
}
CPP = {
    "everything bound": (
        (
            "int f(int a, const T &b) { auto c = a; for (const auto &d : b) { c += d; } auto e = [&c](int g) { return g + c; };"
            " try { h(e(c)); } catch (const E &x) { i(x); } return c; }"
        ),
        "a b c d e g x",
    ),
    "a macro that takes a member": ("int f(T *a) { return offsetof(T, a) + a->b; }", ""),
    "the most vexing parse": ("int f(int a, int b) { T z(a); return z.y + b; }", "b"),
    "template arguments": ("int f(int a, int b) { return g<a>(b); }", "b"),
    "initialisers of members": ("struct S { S(int a, int b) : a(a), c{b} {} int a; int c; };", "a b"),
    "local classes": ("int f(int a, int b) { struct L { int m() { return a; } }; return L().m() + b; }", "b"),
    "structured bindings": ("int f(T t) { auto [a, b] = t; return a + b; }", "a b t"),
    "qualified names": ("int f(int a, int b) { return n::a(b) + a; }", "a b"),
}
CASES = [
    pytest.param(language, source, names, id=f"{language}: {about}")
    for language, table in (
        ("rust", RUST), ("python", PYTHON), ("javascript", SCRIPT), ("typescript", SCRIPT | TYPESCRIPT),
        ("tsx", SCRIPT | TSX), ("go", GO), ("java", JAVA), ("c", C), ("cpp", CPP),
    )
    for about, (source, names) in table.items()
]  # fmt: skip


@pytest.mark.parametrize(("language", "source", "names"), CASES)
def test_exactly_these_names_are_safe(language: str, source: str, names: str) -> None:
    code = parse(source.encode(), language)
    assert code.is_clean, code.root
    safe = {name.decode() for function in find_local_names(code).functions for name in function.safe_names}
    assert " ".join(sorted(safe)) == names


def test_all_places_of_a_name_are_known() -> None:
    code = parse(b"fn f(a: u8) -> u8 { let b = a; /* a */ a + b.a }", "rust")
    (function,) = find_local_names(code).functions
    assert function.safe_names == {b"a": [5, 28, 39], b"b": [24, 43]}


def test_what_stands_after_a_carriage_return_may_be_no_comment() -> None:
    code = parse(b"def f():\n    a = g()\n    b = a  # c\r    a = 1\n    return a + b\n", "python")
    (function,) = find_local_names(code).functions
    assert [*function.safe_names] == [b"b"]


def test_functions_are_looked_at_each_by_itself() -> None:
    code = parse(b"fn f(a: u8) -> u8 { a + 1 } fn g(a: u8) -> u8 { m!(a); a }", "rust")
    assert [function.safe_names for function in find_local_names(code).functions] == [{b"a": [5, 20]}]
