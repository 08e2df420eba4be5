"""What is kept of a commit's message."""

import pytest

from git_starcoder.text.message import LONGEST, message_of

HEAD = b"tree %s\nauthor Ada <ada@example.com> 1 +0000\ncommitter Ada <ada@example.com> 1 +0000" % (b"0" * 40)


def message(body: bytes, *more: bytes, redacted: bool = True) -> str:
    return message_of(b"\n".join((HEAD, *more)) + b"\n\n" + body, redacted=redacted).decode()


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


@pytest.mark.parametrize("name", [b"zlib_codec", b"unicode_escape", b"no-such", b"idna", b"x" * 5000])
def test_an_encoding_that_is_none(name):
    assert message(b"caf\xe9 \\x41", b"encoding " + name) == "caf\ufffd \\x41"


def test_an_encoding_is_declared_in_the_head_only():
    assert message(b"caf\xe9\n\nencoding ISO-8859-1") == "caf\ufffd\n\nencoding ISO-8859-1"


@pytest.mark.parametrize(
    ("body", "size"),
    [
        (b"x" * 5000, LONGEST),
        (b"word " * 1000, LONGEST),
        (b"line of text\n" * 1000, LONGEST // 13 * 13 - 1),
        ("é".encode() * 5000, LONGEST),
        (b"x" + "é".encode() * 5000, LONGEST - 1),
        (b"x" * LONGEST, LONGEST),
        (b"x\n" * 1_000_000, LONGEST - 1),
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
    assert message_of(b"", redacted=True) == b""
    assert message_of(b"no empty line", redacted=True) == b""
