from __future__ import annotations

import random

import pytest

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant, ast_based
from git_starcoder.parse.renaming import find_local_names, reserved_words
from git_starcoder.parse.tree import parse


def rename(text: str, language: str, seed: int = 0) -> str:
    before = parse(text.encode(), language)
    assert before.is_clean
    variant = ast_based.vary(before, random.Random(seed))
    assert isinstance(variant, Variant), variant
    after = parse(variant.text, language)
    assert after.is_clean
    assert ast_based.verify(before, variant, after) == ""
    return variant.text.decode()


@pytest.mark.parametrize(
    ("language", "text", "old", "new"),
    [
        ("rust", "fn f(c: &mut NetworkConfig) { g(c); }", "c", "network_config"),
        ("rust", "fn f(from: &Account) { g(from); }", "from", "from_account"),
        ("rust", "fn f(v: Vec<Option<Arc<Peer>>>) { g(v); }", "v", "peers"),
        ("rust", "fn f(m: HashMap<u8, Entry>) { g(m); }", "m", "entry_map"),
        ("rust", "fn f(b: u64) { g(b); }", "b", "number"),
        ("rust", "fn f() { let x = Config::load()?; g(x); }", "x", "loaded_config"),
        ("rust", "fn f() { let x = Config::new(); g(x); }", "x", "config"),
        ("rust", "fn f() { let x = user_count(); g(x); }", "x", " user_count"),
        ("rust", "fn f() { let x = get_user_name().await.unwrap(); g(x); }", "x", "user_name"),
        ("rust", "fn f() { let x = peers.len(); g(x); }", "x", "peer_count"),
        ("rust", "fn f() { let same = a == b; g(same); }", "same", "is_same"),
        ("rust", "fn f() { let x = total > limit; g(x); }", "x", "is_total_above"),
        ("rust", "fn f() { let x = 5; g(x); }", "x", "number"),
        ("rust", "fn f() { for x in self.entries.iter() { g(x); } }", "x", "entry"),
        ("rust", "fn f() { for i in 0..9 { g(i); } }", "i", "index"),
        ("rust", "fn f() { let header = parse(a); g(header); }", "header", "parsed_header"),
        ("rust", "fn f() { let tx_buf = h; g(tx_buf); }", "tx_buf", "transaction_buffer"),
        ("python", "def f():\n    x = load_users()\n    g(x)\n", "x", "loaded_users"),
        ("python", "def f():\n    for x in items:\n        g(x)\n", "x", "item"),
        ("python", "def f():\n    with open_file() as h:\n        g(h)\n", "h", "opened_file"),
        ("typescript", "function f(c: Promise<NetworkConfig> | null) { g(c); }", "c", "networkConfig"),
        ("typescript", "function f() { const x = new RequestHandler(1); g(x); }", "x", "requestHandler"),
        ("javascript", "function f() { for (const x of this.users) g(x); }", "x", "user"),
        ("go", "package p\nfunc f(r *http.Request) { g(r) }", "r", "request"),
        ("go", "package p\nfunc f() { for _, x := range c.Handlers { g(x) } }", "x", "handler"),
        ("java", "class C { void f(StringBuilder s) { g(s); } }", "s", "stringBuilder"),
        ("c", "void f(const TcpHeader *h) { g(h); }", "h", "tcp_header"),
        ("cpp", "void f(std::vector<Shape>& v) { g(v); }", "v", "shapes"),
    ],
)
def test_a_name_is_what_the_tree_says(language: str, text: str, old: str, new: str) -> None:
    (function,) = find_local_names(parse(text.encode(), language)).functions
    places = function.safe_names[old.encode()]
    result = rename(text, language)
    words = new.strip()
    expected = text.encode()
    for place in reversed(places):
        expected = expected[:place] + b"%s" + expected[place + len(old) :]
    if new != words:  # taken, so it has another word before it
        head, _, tail = expected.decode().partition("%s")
        words = result[len(head) : len(result) - len(tail)].partition(";")[0].split(" =")[0]
        assert words.endswith("_" + new.strip())
    assert result == expected.decode().replace("%s", words)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        pytest.param("rust", "fn f(config: &Config) { g(config); }", id="called so already"),
        pytest.param("rust", "fn f(network_config: &Config) { g(network_config); }", id="called more than that"),
        pytest.param("rust", "fn f(retries: u8) { g(retries); }", id="a scalar says little"),
        pytest.param("rust", "fn f() { let fee = 5; g(fee); }", id="a literal says little"),
        pytest.param("rust", "fn f<T>(thing: T) { g(thing); }", id="a parameter of a type"),
        pytest.param("rust", "fn f() { let (x, y) = h(); g(x, y); }", id="a pattern"),
        pytest.param("rust", "struct S;", id="no function"),
        pytest.param("python", "def f(cfg):\n    g(cfg)\n", id="no safe name"),
    ],
)
def test_where_the_tree_says_nothing_new_nothing_changes(language: str, text: str) -> None:
    assert ast_based.vary(parse(text.encode(), language), random.Random(0)) == NOTHING_TO_CHANGE


def test_a_new_name_stands_nowhere_else_and_is_no_keyword() -> None:
    text = "fn f(a: Peer, b: Peer, c: Peer, d: Type, e: &Match) { g(a, b, c, d, e, peer) }"
    results = [rename(text, "rust", seed) for seed in range(8)]
    assert len(set(results)) > 1
    for result in results:
        (function,) = find_local_names(parse(result.encode(), "rust")).functions
        assert len(function.safe_names) == 5
        assert sum(name.endswith(b"_peer") for name in function.safe_names) == 3
        assert function.safe_names.keys().isdisjoint(reserved_words("rust") | {b"peer"})


@pytest.mark.parametrize("type_", ["[" * 150 + "T", "&" * 300, "Vec<" * 40 + "T" + ">" * 40, "fn(" * 30 + ")" * 30])
def test_odd_types_do_no_harm(type_: str) -> None:
    assert ast_based.vary(parse(b"fn f(x: T) { g(x); }".replace(b"T", type_.encode()), "rust"), random.Random(0))


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        pytest.param(b"network_config", b"g", "a new name was there before", id="another's name"),
        pytest.param(b"network_config)", b"c)", "'c' became", id="one place only"),
        pytest.param(b"NetworkConfig", b"NetworkPeers1", "something else", id="a type"),
        pytest.param(b"; }", b" }", "the tree differs", id="a token less"),
    ],
)
def test_what_is_not_alpha_equivalent_is_found(old: bytes, new: bytes, wrong: str) -> None:
    before = parse(b"fn f(c: &NetworkConfig) { g(c); }", "rust")
    variant = ast_based.vary(before, random.Random(0))
    assert isinstance(variant, Variant)
    spoiled = Variant(variant.text.replace(old, new))
    assert ast_based.verify(before, spoiled, parse(spoiled.text, "rust")).startswith(wrong)
