import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.text.encoding import DECLARABLE, Refusal, Text
from git_starcoder.text.encoding import decode as decode_within


def decode(data: bytes, max_line: int = 65_536, mean_line: int = 500) -> Text | Refusal:
    return decode_within(data, max_line=max_line, mean_line=mean_line)


def test_plain_utf8_is_left_alone():
    assert decode("naïve 😀\n".encode()) == Text("naïve 😀\n".encode(), ())


@pytest.mark.parametrize("data", [b"a\r\nb\r\n", b"a\rb\r", b"a\r\nb\r", b"a\nb\r\n"])
def test_line_ends_become_lf(data):
    assert decode(data) == Text(b"a\nb\n", ("crlf",))


@pytest.mark.parametrize(
    ("mark", "encoding", "name"),
    [
        (codecs.BOM_UTF8, "utf-8", "bom"),
        (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
        (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),
        (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    ],
)
def test_marks_are_believed_and_removed(mark, encoding, name):
    assert decode(mark + "né\n".encode(encoding)) == Text("né\n".encode(), (name,))
    assert decode(mark + "né\r\n".encode(encoding)) == Text("né\n".encode(), (name, "crlf"))
    assert decode(mark + "a\0b\n".encode(encoding)) == Refusal("binary", "has a NUL")


@pytest.mark.parametrize(
    "data", [codecs.BOM_UTF8 + b"\xff", codecs.BOM_UTF16_LE + b"a", codecs.BOM_UTF16_LE + b"\0\xd8"]
)
def test_a_mark_that_lies(data):
    assert decode(data).reason == "undecodable"


@pytest.mark.parametrize("data", [b"\0", b"a" * 9000 + b"\0", b"\x7fELF\0\0", b"x\0\xff\xfe"])
def test_a_nul_anywhere_is_binary(data):
    assert decode(data) == Refusal("binary", "has a NUL")


@pytest.mark.parametrize("first", [b"", b"#!/usr/bin/python\n", b"#!/usr/bin/python\r\n", b"#!/usr/bin/python\r"])
@pytest.mark.parametrize("declaration", [b"# -*- coding: latin-1 -*-", b"# vim: set fileencoding=ISO_8859-1 :"])
def test_an_encoding_may_be_declared(first, declaration):
    text = decode(first + declaration + b"\nx = '\xe9'\n")
    assert text.utf8.endswith("x = 'é'\n".encode())
    assert text.changed[0] == "cookie"


def test_a_declaration_in_the_third_line_is_none():
    assert decode(b"\n\n# coding: latin-1\n\xe9\n").reason == "undecodable"


def test_a_declaration_does_not_overrule_utf8():
    assert decode("# coding: latin-1\né\n".encode()) == Text("# coding: latin-1\né\n".encode(), ())


@pytest.mark.parametrize(
    "name", ["zip", "rot13", "hex", "utf-7", "punycode", "unicode_escape", "no-such", "../x", "utf-8"]
)
def test_other_encodings_are_not_believed(name):
    assert decode(f"# coding: {name}\n".encode() + b"\xe9\n").reason == "undecodable"


def test_every_declarable_encoding_is_one():
    assert all("a\n".encode(name) == b"a\n" for name in DECLARABLE)


def test_a_declared_encoding_that_does_not_fit():
    assert decode(b"# coding: big5\n\xff\xff\n").reason == "undecodable"


@pytest.mark.parametrize("data", [b"\xff\xff\n", b"caf\xe9\n", b"\xed\xa0\x80\n", b"\xc0\xaf\n"])
def test_nothing_is_guessed(data):
    assert decode(data).reason == "undecodable"


@pytest.mark.parametrize("data", [b"", b"\n", b" \t\r\n\n", codecs.BOM_UTF8])
def test_nothing_but_blanks_is_empty(data):
    assert decode(data) == Refusal("empty")


def test_a_pointer_is_not_its_content():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
    assert decode(pointer).reason == "lfs_pointer"
    assert isinstance(decode(pointer + b"x\n" * 1000), Text)


def test_line_limits_are_met_exactly():
    assert isinstance(decode(b"x" * 10 + b"\n", max_line=10), Text)
    assert decode(b"x" * 11 + b"\n", max_line=10) == Refusal("long_line", "11 bytes")
    assert decode(b"x\n" * 100 + b"y" * 11, max_line=10) == Refusal("long_line", "11 bytes")
    assert isinstance(decode(b"x" * 30 + b"\n" + b"y" * 10 + b"\n", mean_line=20), Text)
    assert decode(b"x" * 30 + b"\n" + b"y" * 12 + b"\n", mean_line=20) == Refusal("minified", "21 bytes per line")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_anything_is_a_text_or_a_reason(data):
    text = decode(data)
    if isinstance(text, Text):
        text.utf8.decode()
        assert not {b"\r", b"\0"} & {text.utf8[at : at + 1] for at in range(len(text.utf8))}
        assert text.changed or text.utf8 == data
    else:
        assert text.reason in {"empty", "lfs_pointer", "binary", "undecodable", "long_line", "minified"}
