from __future__ import annotations

import re

import pytest

from git_starcoder import registry
from git_starcoder.parse.identifiers import identifier_mask

SAMPLES = {
    "c": (b"struct s { int a; }; int f(void) { goto x; } // no", "s a f x"),
    "cpp": (b"namespace n { std::vector<int> f(T x) { return x.y; } } // no", "n std vector f T x x y"),
    "go": (b"package main\nfunc (r *R) F(x int) { r.y = x } // no", "main r R F x int r y x"),
    "java": (b"class A extends B { int f(C x) { return x.y; } } // no", "A B f C x x y"),
    "javascript": (b"const {a, b: c} = d.e(); class F { #g = `no ${h}`; }", "a b c d e F #g h"),
    "python": (b"from a.b import c\ndef f(x: int):\n    return f'{x} no' + self.z # no\n", "a b c f x int x self z"),
    "rust": (b"use a::b; fn f<'t>(x: &'t mut Vec<T>) -> S { S { y, z: w } } // no", "a b f t x t Vec T S S y z w"),
    "tsx": (b"const a = <B c={d}>no</B>;", "a B c d B"),
    "typescript": (b"interface F { g: H } const a: string = 'no'", "F g H a"),
    "text": (b"Two words, x2 and 3 na\xc3\xafve ones", "Two words x2 and na\xefve ones"),
}


@pytest.mark.parametrize("language", [*registry.names("languages"), "text"])
def test_identifiers_are_what_the_tree_calls_so(language):
    text, names = SAMPLES[language]
    mask = identifier_mask((text, language))
    assert mask.shape == (len(text),)
    spans = re.finditer(rb"\x01+", bytes(mask.astype("u1").tolist()))
    assert [text[slice(*span.span())].decode() for span in spans] == names.split()


def test_a_text_that_is_too_deep_to_parse_is_read_as_words():
    text = b"(" * 10_001 + b"if x"
    assert identifier_mask((text, "python")).nonzero()[0].tolist() == [10_001, 10_002, 10_004]
