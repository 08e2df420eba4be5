import codecs
import encodings.aliases

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.text.encoding import (
    CODECS,
    WEB_CODECS,
    WIDER_CODECS,
    DecodedText,
    Refusal,
    decode_text,
    find_codec,
    normalize_line_ends,
)
from git_starcoder.text.encoding import decode_file as decode_within


def decode(data: bytes, max_line: int = 65_536, mean_line: int = 500) -> DecodedText | Refusal:
    return decode_within(data, max_line=max_line, mean_line=mean_line)


def test_plain_utf8_is_left_alone():
    assert decode("naïve 😀\n".encode()) == DecodedText("naïve 😀\n".encode(), ())


@pytest.mark.parametrize(
    ("data", "utf8"),
    [
        (b"a\r\nb\r\n", b"a\nb\n"),
        (b"a\nb\r\n", b"a\nb\n"),
        (b"a\rb\r", b"a\nb\n"),
        (b"a\r\rb", b"a\n\nb"),
        (b"a\r\r\nb\r\n", b"a\nb\n"),
        (b"a\r\nb\r", b"a\nb"),
        (b"a\r", b"a"),
        (b"a\nb\r", b"a\nb"),
        (b"a\rb\nc\n", b"a\rb\nc\n"),
        (b"a\rb\r\nc\r\n", b"a\rb\nc\n"),
        (b"\ra\n", b"\ra\n"),
        (b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n", b"a\x0bb\x0cc\x1cd\xc2\x85e\xe2\x80\xa8f\n"),
    ],
)
def test_line_ends_become_lf_and_a_cr_inside_a_line_is_none(data, utf8):
    assert decode(data) == DecodedText(utf8, ("crlf",) if utf8 != data else ())


@given(st.lists(st.sampled_from([b"a", b"\r", b"\n", b"\r\n", b"bc"])).map(b"".join))
def test_line_ends_are_those_of_git(data):
    text = normalize_line_ends(data)
    assert normalize_line_ends(text) == text
    assert b"\r\n" not in text
    assert not text.endswith(b"\r")
    if b"\n" in data:
        assert text.count(b"\n") == data.count(b"\n")
    assert text.replace(b"\r", b"\n").split() == data.replace(b"\r", b"\n").split()


def test_many_crs_are_not_slow():
    assert decode(b"a" + b"\r" * 1_000_000 + b"b\n", max_line=2_000_000, mean_line=2_000_000).changed == ()


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
    assert decode(mark + "né\n".encode(encoding)) == DecodedText("né\n".encode(), (name,))
    assert decode(mark + "né\r\n".encode(encoding)) == DecodedText("né\n".encode(), (name, "crlf"))
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
    assert decode("# coding: latin-1\né\n".encode()) == DecodedText("# coding: latin-1\né\n".encode(), ())


@pytest.mark.parametrize(
    "name", ["zip", "rot13", "hex", "utf-7", "punycode", "unicode_escape", "no-such", "../x", "utf-8"]
)
def test_other_encodings_are_not_believed(name):
    assert decode(f"# coding: {name}\n".encode() + b"\xe9\n").reason == "undecodable"


@pytest.mark.parametrize("codec", sorted(CODECS))
def test_every_known_codec_is_of_text_in_which_ascii_is_ascii(codec):
    assert codecs.lookup(codec)._is_text_encoding
    assert b"Az09 +-*/.,:;()[]{}<>\t\n".decode(codec) == "Az09 +-*/.,:;()[]{}<>\t\n"
    assert find_codec(codec) == codec


def test_codecs_that_may_stand_in_are_known():
    assert {*WIDER_CODECS, *WIDER_CODECS.values(), *WEB_CODECS, *WEB_CODECS.values()} <= CODECS


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("ISO8859-1", "latin_1"), ("l1", "latin_1"), ("Latin-1", "latin_1"), ("ISO_8859-1:1987", "latin_1"),
        ("iso-8859-1-unix", "latin_1"), ("latin-1-", "latin_1"), ('"ISO-8859-1"', "latin_1"), (" latin1 ", "latin_1"),
        ("ISO-8859-1//TRANSLIT", "latin_1"), ("ISO_8859-15:1998", "iso8859_15"),
        ("CP936", "gbk"), ("MS936", "gbk"), ("WINDOWS-936", "gbk"), ("x-gbk", "gbk"), ("CN-GB", "gb2312"),
        ("eucJP", "euc_jp"), ("EUC-JP-MS", "euc_jp"), ("x-euc-jp", "euc_jp"), ("ujis", "euc_jp"),
        ("CP932", "cp932"), ("MS932", "cp932"), ("Windows-31J", "cp932"), ("csWindows31J", "cp932"), ("MS_KANJI", "cp932"),
        ("CSSHIFTJIS", "shift_jis"), ("x-sjis", "shift_jis"), ("KSC5601", "euc_kr"), ("csEUCKR", "euc_kr"),
        ("UHC", "cp949"), ("MSCP949", "cp949"), ("JOHAB", "johab"), ("BIG5HKSCS", "big5hkscs"), ("CN-BIG5", "big5"),
        ("Big5-HKSCS:2004", "big5hkscs"), ("MACINTOSH", "mac_roman"), ("x-mac-roman", "mac_roman"), ("MAC-UK", "mac_cyrillic"),
        ("windows-1252", "cp1252"), ("WINDOWS_1252", "cp1252"), ("win1251", "cp1251"), ("x-cp1250", "cp1250"), ("ansinew", "cp1252"),
        ("ibm850", "cp850"), ("850", "cp850"), ("IBM-866", "cp866"), ("MS-CYRL", "cp1251"), ("KOI8-U", "koi8_u"), ("cskoi8r", "koi8_r"),
        ("TIS-620", "tis_620"), ("TIS620.2533-0", "tis_620"), ("TCVN", ""), ("GEORGIAN-PS", ""), ("ARMSCII-8", ""), ("EUC-TW", ""),
        ("UTF8", "utf_8"), ("utf8mb4", "utf_8"), ("ISO-10646/UTF8", "utf_8"), ("CP65001", "utf_8"), ("iso2022jp", "iso2022_jp"),
        ("utf-7", ""), ("utf-16", ""), ("ucs-2", ""), ("cp037", ""), ("EBCDIC-US", ""), ("rot13", ""), ("zlib_codec", ""), ("zip", ""),
        ("unicode_escape", ""), ("raw_unicode_escape", ""), ("idna", ""), ("punycode", ""), ("undefined", ""), ("mbcs", ""), ("oem", ""),
        ("hex", ""), ("base64", ""), ("uu", ""), ("bz2", ""), ("charmap", ""), ("aliases", ""), ("", ""), ("-", ""), ("x", ""), ("\xe9", ""),
    ],
)  # fmt: skip
def test_names_of_encodings(name, codec):
    assert find_codec(name) == codec


def test_every_alias_of_python_for_a_known_codec_is_known():
    for alias, codec in encodings.aliases.aliases.items():
        if codec.replace("iso8859_1", "latin_1") == "latin_1" or codec in CODECS:
            assert find_codec(alias) == codec, alias
            assert find_codec(alias.replace("_", "-").upper()) == codec, alias


DECLARATIONS = [
    ("latin-1", "# -*- coding: {} -*-\nx = '{}'\n"),
    ("L1", "#!/usr/bin/env python\n# coding={}\nx = '{}'\n"),
    ("ISO8859-1", "# encoding: {}\nx = '{}'\n"),
    ("ISO-8859-1", "# -*- Encoding : {} -*-\nx = '{}'\n"),
    ("iso-8859-1-unix", ";;; -*- mode: lisp; coding: {}; -*-\n(x '{}')\n"),
    ("cp1252", "// vim: set fileencoding={} :\nx = '{}';\n"),
    ("latin1", "\n\n\n/* vim:fenc={}:ts=8: */\nchar x[] = '{}';\n"),
    ("latin1", "x = '{1}'\n" + "y\n" * 40 + "# vim: ts=4 fenc={0}\n"),
    ("windows-1252", "x = '{1}'\n" + "y\n" * 40 + "# Local Variables:\n# mode: x\n# coding: {0}\n# End:\n"),
    ("ISO-8859-15", '<?xml version="1.0" encoding="{}"?>\n<a>{}</a>\n'),
    ("latin1", "<?xml version='1.0'\n   standalone='yes'\n encoding='{}'?>\n<a>{}</a>\n"),
    ("iso-8859-1", '<html>\n<head>\n<meta charset="{}">\n<title>{}</title>\n'),
    ("windows-1252", "<html>\n\n<meta http-equiv='Content-Type' content='text/html; charset={}'>\n<p>{}\n"),
    ("ISO-8859-1", '@charset "{}";\na::before {{ content: "{}" }}\n'),
    ("latin1", '#!/usr/bin/perl\nuse strict;\nuse encoding "{}";\nprint "{}";\n'),
    ("iso-8859-1", "#!/usr/bin/perl\nuse strict;\nuse encoding '{}';\nprint '{}';\n"),
    ("ISO-8859-1", "<?php\n\ndeclare(encoding='{}');\necho '{}';\n"),
    ("ISO-8859-1", '# Translation\n#\nmsgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={}\\n"\n\nmsgstr "{}"\n'),
    ("latin1", "\\documentclass{{article}}\n% text\n\\usepackage[{}]{{inputenc}}\n{}\n"),
    ("latin1", "Package: p\nTitle: t\nEncoding: {}\nAuthor: {}\n"),
    ("GBK", '<%@ page language="java" pageEncoding="{}"%>\n<p>{}\n'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "form"), DECLARATIONS, ids=[form[:40] for _, form in DECLARATIONS])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_every_way_to_declare_an_encoding(name, form, end):
    said = "啊" if name == "GBK" else "é"
    text = form.format(name, said)
    data = text.replace("\n", end).encode(find_codec(name))
    assert decode(data) == DecodedText(text.encode(), ("cookie", "crlf") if end == "\r\n" else ("cookie",))


def test_on_the_web_latin1_has_the_characters_of_windows():
    data = b'<meta charset="iso-8859-1">\n<p>\x93quoted\x94\n'
    assert decode(data).utf8.endswith("<p>\u201cquoted\u201d\n".encode())
    assert decode(b"# coding: iso-8859-1\n\x93\n").utf8.endswith("\x93\n".encode())


def test_the_first_line_that_declares_is_believed():
    assert decode(b"# coding: latin-1\n# coding: koi8-r\n\xe9\n").utf8.endswith("é\n".encode())


def test_a_declaration_of_utf8_leaves_room_for_another():
    assert decode(b'<?xml version="1.0" encoding="utf-8"?>\n<meta charset="koi8-r">\n\xc1\n').utf8.endswith(
        "а\n".encode()
    )


@pytest.mark.parametrize(("name", "wide"), [("gb2312", "gbk"), ("shift_jis", "cp932"), ("euc-kr", "cp949")])
def test_characters_that_programs_write_beyond_the_encoding_they_declare(name, wide):
    said = {"gb2312": "镕", "shift_jis": "①", "euc-kr": "똠"}[name]
    assert decode(f"# coding: {name}\n{said}\n".encode(wide)).utf8 == f"# coding: {name}\n{said}\n".encode()


def test_an_encoding_of_seven_bits_is_read_where_it_is_declared():
    text = "# coding: iso-2022-jp\n# 日本語\n"
    assert decode(text.encode("iso-2022-jp")) == DecodedText(text.encode(), ("cookie",))
    assert decode(b"# coding: iso-2022-jp\n\x1b[31m\n") == DecodedText(b"# coding: iso-2022-jp\n\x1b[31m\n", ())
    assert decode(b"\x1b$B no encoding\n") == DecodedText(b"\x1b$B no encoding\n", ())


def test_a_name_that_is_not_known_is_told():
    why = decode(b"# coding: georgian-ps\n\xe9\n")
    assert why == Refusal("undecodable", "not utf-8 at byte 22; it declares georgian-ps, which is not known")


def test_declarations_that_are_hard_to_find_are_found_fast():
    for piece in (b"vi:", b"Local Variables:\n", b"charset", b"coding", b"declare ", b"use ", b"<?xml "):
        assert decode((piece * 7000)[:20_000] + b"\xe9\n", max_line=10**6, mean_line=10**6).reason == "undecodable"


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
    assert isinstance(decode(pointer + b"x\n" * 1000), DecodedText)


def test_line_limits_are_met_exactly():
    assert isinstance(decode(b"x" * 10 + b"\n", max_line=10), DecodedText)
    assert decode(b"x" * 11 + b"\n", max_line=10) == Refusal("long_line", "11 bytes")
    assert decode(b"x\n" * 100 + b"y" * 11, max_line=10) == Refusal("long_line", "11 bytes")
    assert isinstance(decode(b"x" * 30 + b"\n" + b"y" * 10 + b"\n", mean_line=20), DecodedText)
    assert decode(b"x" * 30 + b"\n" + b"y" * 12 + b"\n", mean_line=20) == Refusal("minified", "21 bytes per line")


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_anything_is_a_text_or_a_reason(data):
    text = decode(data)
    if isinstance(text, DecodedText):
        text.utf8.decode()
        assert b"\0" not in text.utf8
        assert normalize_line_ends(text.utf8) == text.utf8
        assert text.changed or text.utf8 == data
    else:
        assert text.reason in {"empty", "lfs_pointer", "binary", "undecodable", "long_line", "minified"}


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-32", "utf-8-sig"])
def test_a_text_that_is_cut_loses_half_a_character(codec):
    data = "日本語\n".encode(codec)
    whole = decode_text(data).utf8
    for at in range(8, len(data)):
        text = decode_text(data[:at], cut=True)
        assert whole.startswith(text.utf8)
        assert len(whole) - len(text.utf8) <= 4 * (len(data) - at) + 3
    assert decode_text(b"# coding: gbk\n" + "啊".encode("gbk")[:1], cut=True).utf8 == b"# coding: gbk\n"


def test_a_text_may_go_with_another():
    assert decode_text(b"caf\xe9\n", like="latin_1").utf8 == "café\n".encode()
    assert decode_text("café\n".encode("utf-16-be"), like="utf-16-be").utf8 == "café\n".encode()
    assert (
        decode_text("# coding: koi8-r\nж\n".encode("koi8-r"), like="latin_1").utf8 == "# coding: koi8-r\nж\n".encode()
    )
    assert decode_text("café\n".encode(), like="latin_1").utf8 == "café\n".encode()
