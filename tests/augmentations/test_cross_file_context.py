from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from git_starcoder.augmentations import FramedText, FrameInput, PrefixPart, cross_file_context
from git_starcoder.augmentations.cross_file_context import MAX_PREFIX_BYTES
from git_starcoder.parse.language import detect_language
from git_starcoder.parse.structure import extract_symbols
from git_starcoder.parse.tree import parse, run_queries

if TYPE_CHECKING:
    from git_starcoder.records import Symbol

NET = """\
pub struct Config { pub size: usize }
impl Config {
    pub fn new(size: usize) -> Self { Config { size } }
    pub fn max_depth(&self) -> usize { 1 }
    pub fn len(&self) -> usize { 1 }
    pub fn idle_time(&self) -> usize { 1 }
}
pub enum Kind { A, B }
pub const LIMIT: usize = 10;
pub fn go(config: &Config) {}
"""


def symbols(path: str, text: str) -> tuple[Symbol, ...]:
    code = parse(text.encode(), detect_language(path))
    return extract_symbols(code, run_queries(code, "symbols"))


def around(text: str, path: str = "src/main.rs", **others: str) -> FrameInput:
    """A file with what it imports: `net="…"` is `src/net.rs`, next to it."""
    suffix = PurePosixPath(path).suffix
    named = {f"src/{name}{suffix}": other for name, other in others.items()}
    neighbours = tuple((other, symbols(other, code)) for other, code in named.items())
    return FrameInput(path, text.encode(), neighbours, symbols=symbols(path, text))


def shown(given: FrameInput) -> str:
    """The head but for the path of the file itself."""
    made = cross_file_context.frame(given)
    if isinstance(made, str):
        return made
    (frame,) = made
    assert cross_file_context.verify(given, frame) == ""
    assert frame.text == given.text
    *others, last = (part.control_token + part.text.decode() for part in frame.prefix)
    assert last == f"<file_sep>{given.path}\n"
    return "".join(others)


def test_what_is_used_is_shown_in_the_order_of_its_file_with_members_under_their_type() -> None:
    text = "use net::{go, Config};\nfn main() { let c = Config::new(LIMIT); go(&c); c.max_depth(); }\n"
    assert shown(around(text, net=NET)) == (
        "<file_sep>src/net.rs\npub struct Config { pub size: usize }\n    pub fn new(size: usize) -> Self\n"
        "    pub fn max_depth(&self) -> usize\npub const LIMIT: usize = 10\npub fn go(config: &Config)\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("fn f() { g(); }", id="another name"),
        pytest.param("fn f() { let go = 1; }", id="a function that is not called"),
        pytest.param("fn f() { x.go(); }", id="behind a dot"),
        pytest.param("fn f() { other::go(); }", id="of another module"),
        pytest.param("// go(c)\n/* go(c) */ fn f() { \"go(c)\"; }", id="in comments and strings"),
        pytest.param("fn go() {} fn f() { go(); }", id="declared by the file itself"),
        pytest.param("fn f() { gone(); let_go(); }", id="a part of a word"),
        pytest.param("fn f() { x.max_depth(); }", id="a member whose type is not named"),
    ],
)  # fmt: skip
def test_what_is_not_used_is_not_shown(text: str) -> None:
    assert shown(around(text, net=NET)) == "nothing_used"


@pytest.mark.parametrize(
    "text", ["net::go(c)", "crate::go(c)", "src::net::go(c)", "go (c)", "go::<T>(c)", "'a'; go(c)", 'b"x"; go(c)']
)
def test_a_function_is_used_by_brackets(text: str) -> None:
    assert "fn go(" in shown(around(f"fn f() {{ {text}; }}", net=NET))


def test_methods_with_names_of_one_word_need_more() -> None:
    assert "fn len" not in shown(around("fn f(c: Config) { c.len(); }", net=NET))
    assert "fn len" in shown(around("fn f(config: Config) { config.len(); }", net=NET))
    assert "fn len" in shown(around("fn f(c: Config) { Config::len(&c); }", net=NET))


def test_methods_that_two_types_have_need_their_type() -> None:
    other = "pub struct Tree(u8);\nimpl Tree { pub fn max_depth(&self) {} }\n"
    text = "fn f(c: Config, t: Tree) { c.max_depth(); }"
    assert "max_depth" not in shown(around(text, net=NET, tree=other))
    assert shown(around(text.replace("c.", "Config::"), net=NET, tree=other)).count("max_depth") == 1


def test_what_two_files_declare_is_shown_of_neither() -> None:
    assert shown(around("fn f() { go(); }", net=NET, tree="pub fn go() {}\n")) == "nothing_used"


def test_the_most_used_file_stands_last() -> None:
    one, two = "pub fn one() {}\n", "pub fn two() {}\n"
    rare_last = shown(around("fn f() { one(); one(); two(); }", one=one, two=two))
    assert rare_last == "<file_sep>src/two.rs\npub fn two()\n<file_sep>src/one.rs\npub fn one()\n"
    assert shown(around("fn f() { one(); two(); two(); }", one=one, two=two)).endswith("pub fn two()\n")


def test_the_budget_holds_the_most_used_whole() -> None:
    net = "".join(f"pub fn function_{at}({'a: u8, ' * 40}) {{}}\n" for at in range(20))
    text = "fn f() {" + "".join(f"function_{at}();" * (at + 1) for at in range(20)) + "}"
    head = shown(around(text, net=net))
    assert MAX_PREFIX_BYTES // 2 < len(head) - len("<file_sep>") <= MAX_PREFIX_BYTES
    assert "function_19(" in head
    assert "function_0(" not in head
    assert all(line.endswith(")") for line in head.splitlines()[1:])


def test_a_type_that_has_no_room_has_no_members_either() -> None:
    sizes = "".join(f"pub const CONSTANT_{at}: usize = {'1' * 300};\n" for at in range(7))
    text = "fn f() {" + "".join(f"CONSTANT_{at};" * 5 for at in range(7)) + "Config::new(1); }"
    net = f"pub struct Config {{ {'x' * 350}: u8 }}\nimpl Config {{ pub fn new() {{}} }}\n"
    assert "new" not in shown(around(text, net=net, sizes=sizes))


def test_no_imports_no_context() -> None:
    assert shown(around("fn f() {}")) == "no_imports"


def test_what_is_declared_twice_is_shown_once() -> None:
    text = '#include "net.h"\nint main(void) { return go(1); }\n'
    given = FrameInput("a.c", text.encode(), (("net.h", symbols("net.h", "int go(int a);\nint go(int a);\n")),))
    assert shown(given) == "<file_sep>net.h\nint go(int a)\n"


@pytest.mark.parametrize(
    ("path", "net", "text", "expected"),
    [
        ("m.py", "class Config:\n    size: int\n    def max_depth(self): pass\nLIMIT = 1\ndef go(a): pass\n",
         "import net\nnet.go(net.LIMIT)  # Config\n", "LIMIT = 1\ndef go(a)\n"),
        ("m.py", "class Config:\n    size: int\n    def max_depth(self): pass\n",
         "from net import Config\n'''Config.new()'''\nc = Config()\nc.max_depth()\n",
         "class Config: size: int\n    def max_depth(self)\n"),
        ("m.go", "package net\ntype Config struct { Size int }\nfunc (c *Config) MaxDepth() int { return 1 }\nfunc go_() {}\n",
         "package m\nfunc f(c net.Config) { c.MaxDepth(); go_() }\n",
         "type Config struct { Size int }\n    func (c *Config) MaxDepth() int\n"),
        ("M.java", "public class Config { public int maxDepth() { return 1; }\n public static final int LIMIT = 1; }\n",
         "class M { int f(Config c) { return c.maxDepth() + Config.LIMIT; } }\n",
         "public class Config\n    public int maxDepth()\n    public static final int LIMIT = 1\n"),
        ("m.ts", "export interface Config { size: number }\nexport const go = (a: Config): void => {};\ntype Own = string;\n",
         "import { go, Config } from './net';\nlet c: Config = { size: 1 }; go(c); let o: Own;\n",
         "export interface Config { size: number }\ngo = (a: Config): void\n"),
        ("m.cpp", "class Config { public: int max_depth() const; };\n#define LIMIT 10\n",
         "int f(Config *c) { return c->max_depth() + LIMIT; }\n",
         "class Config\n    int max_depth() const\n#define LIMIT 10\n"),
    ],
)  # fmt: skip
def test_languages(path: str, net: str, text: str, expected: str) -> None:
    name = f"src/net{PurePosixPath(path).suffix}"
    assert shown(around(text, path, net=net)) == f"<file_sep>{name}\n{expected}"


@pytest.mark.parametrize(
    ("parts", "wrong"),
    [
        ([], "nothing is shown"),
        ([b"src/net.rs\n"], "a file is shown twice, or is not imported"),
        ([b"src/other.rs\npub fn go(config: &Config)\n"], "a file is shown twice, or is not imported"),
        ([b"src/net.rs\npub fn go(config: &Config)\n"] * 2, "a file is shown twice, or is not imported"),
        ([b"src/net.rs\npub fn go()\n"], "the file declares no such thing"),
        ([b"src/net.rs\n    pub fn new(size: usize) -> Self\n"], "the file declares no such thing"),
        ([b"src/net.rs\npub fn new(size: usize) -> Self\n"], "the file declares no such thing"),
        ([b"src/net.rs\npub const LIMIT: usize = 10\n"], "the file itself declares it"),
        ([b"src/net.rs\npub enum Kind { A, B }\n"], "the text does not name it"),
        ([b"src/net.rs\n" + b"pub fn go(config: &Config)\n" * 100], "the prefix is too long"),
    ],
)
def test_what_is_wrong_is_said(parts: list[bytes], wrong: str) -> None:
    given = around("const LIMIT: usize = 1; fn f(c: Config) { go(LIMIT); Config::new(1); }", net=NET)
    head = (*(PrefixPart("<file_sep>", part) for part in parts), PrefixPart("<file_sep>", b"src/main.rs\n"))
    assert cross_file_context.verify(given, FramedText(head, given.text)) == wrong


@pytest.mark.parametrize("filler", ["/*", '\\"', " ", '"', "'", "a.", "a(", ". ", '""" ', "a" + " " * 79])
@pytest.mark.parametrize("path", ["m.rs", "m.py", "m.js"])
def test_hostile_texts_take_no_time(filler: str, path: str) -> None:
    text = filler * (200_000 // len(filler)) + "\ngo()\n"
    given = FrameInput(path, text.encode(), (("net.rs", symbols("net.rs", NET)),))
    assert isinstance(cross_file_context.frame(given), list | str)
