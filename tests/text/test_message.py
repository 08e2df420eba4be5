"""What is kept of a commit's message."""

import subprocess

import pytest

from git_starcoder.text.clean import MAX_MESSAGE_BYTES, MESSAGE_READ_BYTES, clean_message, decode_message
from git_starcoder.text.encoding import find_codec

HEAD = b"tree %s\nauthor Ada <ada@example.com> 1 +0000\ncommitter Ada <ada@example.com> 1 +0000" % (b"0" * 40)


def message(body: bytes, *more: bytes, redacted: bool = True) -> str:
    return clean_message(b"\n".join((HEAD, *more)) + b"\n\n" + body, redacted=redacted).decode()


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"Subject\n\nBody.\n", "Subject\n\nBody."),
        (b"", ""),
        (b"\n\n", ""),
        (b"\n  \nSubject   \n", "Subject"),
        (b"Subject\r\n\r\nBody\r\n", "Subject\n\nBody"),
        (b"Subject\n\nSigned-off-by: Ada <ada@example.com>\nChange-Id: I0123\n", "Subject"),
        (b"Subject\n\nCo-authored-by: A <a@b>\n\nCo-authored-by: B <b@c>\n", "Subject"),
        (b"Subject\n\nBody\n\n(cherry picked from commit 0123)\n", "Subject\n\nBody"),
        (b"Subject\n\nFixes: the bug\n", "Subject\n\nFixes: the bug"),
        (b"Reviewed-by: is a trailer\n\nin the middle of this", "Reviewed-by: is a trailer\n\nin the middle of this"),
        (b"Signed-off-by: Ada <ada@example.com>\n", ""),
        (b"nothing behind\0this", "nothing behind"),
        (b"caf\xe9", "caf\ufffd"),
        ("café 中".encode(), "café 中"),
    ],
)
def test_what_is_kept(body, kept):
    assert message(body) == kept


def test_a_declared_encoding():
    assert message(b"caf\xe9", b"encoding ISO-8859-1") == "café"
    assert message("café".encode(), b"encoding UTF-8") == "café"


@pytest.mark.parametrize(
    "name", [b"zlib_codec", b"unicode_escape", b"no-such", b"idna", b"x" * 5000, b"rot13", b"utf-7"]
)
def test_an_encoding_that_is_none(name):
    assert message(b"caf\xe9 \\x41 +AGk-", b"encoding " + name) == "caf\ufffd \\x41 +AGk-"


@pytest.mark.parametrize(
    ("name", "body", "text"),
    [
        (b"GBK", "修复".encode(), "修复"),  # another than it declares: git shows the bytes, which are UTF-8
        (b"ISO-8859-1", "café".encode(), "cafÃ©"),  # which fits, so that git believes it
        (b"'ISO-8859-1'", "café".encode(), "café"),  # which git does not know
        (b"'ISO-8859-1'", b"caf\xe9", "café"),
        (b" Latin-1 ", b"caf\xe9", "café"),
        (b"utf8mb4", "café".encode(), "café"),
        (b"UTF-8", b"caf\xe9", "caf\ufffd"),
        (b"UTF-16", b"caf\xe9", "caf\ufffd"),
        (b"UTF-16", "café".encode(), "café"),
        (b"GB2312", "朱镕基".encode("gbk"), "朱镕基"),
        (b"ISO-2022-JP", "日本語".encode("iso-2022-jp"), "日本語"),
        (b"EUC-TW", b"\xa4\xa4", "\ufffd\ufffd"),
        (b"GBK", b"\xd0\xde \xff\xff", "修 \ufffd\ufffd"),
    ],
)
def test_encodings_that_are_wrong_or_unknown(name, body, text):
    assert message(body, b"encoding " + name) == text
    commit = HEAD + b"\nencoding " + name + b"\n\n" + body
    assert decode_message(commit) == (text, "\ufffd" not in text)


def test_a_long_message_may_be_cut_inside_a_character():
    body = "日本".encode("gbk") * MESSAGE_READ_BYTES
    assert decode_message(HEAD + b"\nencoding GBK\n\n" + b"x" + body)[1]


def test_line_ends_of_a_message():
    assert message(b"Subject\rstill\n\nBody\r\n") == "Subject\rstill\n\nBody"
    assert message(b"Subject\r\rBody\r") == "Subject\n\nBody"


ICONV = """
    UTF-8 ISO-8859-1 ISO8859-1 ISO_8859-1 ISO88591 L1 LATIN1 ISO-8859-2 L2 ISO-8859-3 ISO-8859-4 ISO-8859-5 CYRILLIC
    ISO-8859-6 ISO-8859-7 GREEK8 ISO-8859-8 HEBREW ISO-8859-9 L5 ISO-8859-10 ISO-8859-11 ISO-8859-13 L7 ISO-8859-14
    ISO-8859-15 LATIN-9 ISO8859-15 ISO-8859-16 L10 8859_5 CP437 437 IBM437 CP737 CP775 CP850 850 IBM850 CP852 CP855 CP857
    CP858 CP860 CP861 CP862 CP863 CP865 CP866 IBM866 CP869 CP874 CP1125 CP1250 MS-EE CP1251 MS-CYRL WINDOWS-1251 CP1252
    MS-ANSI WINDOWS-1252 CP1253 MS-GREEK CP1254 CP1256 CP1257 WINBALTRIM KOI8-R CSKOI8R KOI8-U KOI8-T PT154
    RK1048 TIS-620 TIS620 TIS620.2533-0 HP-ROMAN8 R8 BALTIC ECMA-128 GB2312 EUC-CN EUCCN CN-GB GBK CP936 MS936 WINDOWS-936
    GB18030 BIG5 BIG-5 CN-BIG5 CP950 BIG5-HKSCS BIG5HKSCS EUC-KR EUCKR CSEUCKR CP949 UHC MSCP949 JOHAB EUC-JP EUCJP UJIS
    EUC-JP-MS SHIFT_JIS SHIFT-JIS SJIS MS_KANJI CSSHIFTJIS CP932 MS932 WINDOWS-31J CSWINDOWS31J SJIS-WIN ISO-2022-JP
    ISO2022JP CSISO2022JP ISO-2022-KR ISO-8859-1//TRANSLIT latin-1 Latin1 utf8
"""
SAID = ("naïve café, déjà vu", "Исправлено: ошибка", "διόρθωση σφάλματος", "תיקון באג", "إصلاح الخطأ", "แก้ไขข้อผิดพลาด",
        "修复错误", "修正錯誤", "修正しました", "버그 수정", "příliš žluťoučký kůň", "pataisyta klaida ąčęėįšųūž", "şğıİöü",
        "sửa", "ȘȚșț", "ŵŷẁ", "țară", "þæð", "қазақ", "тоҷикӣ", "ґєії", "½¼«»±", "plain words")  # fmt: skip


def test_messages_are_those_that_git_shows(repo_maker, git):
    """In every encoding that git's iconv and we both know, whatever can be said in it. In CP1255 and CP1258 git loses last letters."""
    stream = b""
    for number, (name, said) in enumerate((name, said) for name in ICONV.split() for said in SAID):
        codec = find_codec(name)
        assert codec, name
        try:
            data = said.encode(codec)
        except UnicodeEncodeError:
            continue
        stream += b"commit refs/heads/main\ncommitter A <a@b> %d +0000\n" % (1_700_000_000 + number)
        stream += b"encoding %s\ndata %d\n" % (name.encode(), len(data)) + data + b"\n"
    repo = repo_maker([])
    git(repo, "fast-import", "--quiet", stdin=stream)
    shown = git(repo, "log", "--encoding=UTF-8", "--format=%H %e %s", "main").splitlines()
    names = [line.split(b" ")[0] for line in shown]
    raw = subprocess.run(
        ["git", "-C", repo, "cat-file", "--batch"], input=b"\n".join(names), capture_output=True, check=True
    ).stdout
    compared = set()
    for line in shown:
        name, encoding, subject = line.split(b" ", 2)
        size = int(raw.partition(b"\n")[0].split()[2])
        start = raw.index(b"\n") + 1
        commit, raw = raw[start : start + size], raw[start + size + 1 :]
        body = commit.partition(b"\n\n")[2]
        if subject == body and not body.isascii() and find_codec(encoding.decode()) != "utf_8":
            continue  # this iconv does not know it
        if any("\ue000" <= sign <= "\uf8ff" for sign in subject.decode()):
            continue  # nor this character
        assert clean_message(commit, redacted=False) == subject, (encoding, subject.decode("utf-8", "replace"))
        compared.add(encoding)
    assert len(compared) > 100
    assert {b"CP936", b"EUCJP", b"CP932", b"ISO8859-1"} <= compared


def test_an_encoding_is_declared_in_the_head_only():
    assert message(b"caf\xe9\n\nencoding ISO-8859-1") == "caf\ufffd\n\nencoding ISO-8859-1"


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (b"x" * 5000, MAX_MESSAGE_BYTES),
        (b"word " * 1000, MAX_MESSAGE_BYTES),
        (b"line of text\n" * 1000, MAX_MESSAGE_BYTES // 13 * 13 - 1),
        ("é".encode() * 5000, MAX_MESSAGE_BYTES),
        (b"x" + "é".encode() * 5000, MAX_MESSAGE_BYTES - 1),
        (b"x" * MAX_MESSAGE_BYTES, MAX_MESSAGE_BYTES),
        (b"x\n" * 1_000_000, MAX_MESSAGE_BYTES - 1),
    ],
)
def test_a_long_message_is_cut(body, size):
    assert len(message(body).encode()) == size


def test_secrets_go():
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    kept = message(f"Use {token}\n\nFrom: Ada <ada@example.com>\nlast".encode())
    assert token not in kept
    assert "REDACTED" in kept
    assert "ada@example.com" not in kept
    assert token in message(f"Use {token}".encode(), redacted=False)


def test_what_is_no_commit_object():
    assert clean_message(b"", redacted=True) == b""
    assert clean_message(b"no empty line", redacted=True) == b""
