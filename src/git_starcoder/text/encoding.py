"""Bytes of a file → UTF-8 text with LF line ends, or the reason why it is none.

Nothing is guessed: a byte order mark, strict UTF-8, or an encoding that the file itself declares as PEP 263 has it.
"""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from git_starcoder.text.pointers import pointer_in

MARKS = (
    (codecs.BOM_UTF8, "utf-8", "bom"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)
COOKIE = re.compile(rb"\A(?:[^\r\n]*\r?[\r\n])?[^\r\n]*?coding[:=][ \t]*([-\w.]+)")
DECLARABLE = frozenset(
    [
        "big5",
        "euc-jp",
        "euc-kr",
        "gb18030",
        "gb2312",
        "gbk",
        "koi8-r",
        "koi8-u",
        "shift-jis",
        "sjis",
        "latin-1",
        "latin1",
    ]
    + [f"iso-8859-{part}" for part in (1, 2, 5, 7, 9, 15)]
    + [f"{family}{page}" for family in ("cp", "windows-") for page in range(1250, 1259)]
)
"""Only encodings of plain text: others in Python's table decompress, run long or change the text."""


class Text(NamedTuple):
    """A text, and what decoding altered."""

    utf8: bytes
    changed: tuple[str, ...]
    """Any of `bom`, `utf-16`, `utf-32`, `cookie`, `crlf`."""


class Refusal(NamedTuple):
    """Why a file is not used."""

    reason: str
    """`empty`, `lfs_pointer` and the others of `pointers`, `binary`, `undecodable`, `long_line`, `minified`."""
    because: str = ""


def decode(data: bytes, *, max_line: int, mean_line: int) -> Text | Refusal:
    """The text of a file. `max_line` and `mean_line` are limits in bytes of UTF-8, line ends not counted."""
    text = _utf8(data)
    if isinstance(text, Refusal):
        return text
    utf8, changed = text
    if b"\0" in utf8:
        return Refusal("binary", "has a NUL")
    if b"\r" in utf8:
        utf8 = utf8.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        changed = (*changed, "crlf")
    if not utf8.strip():
        return Refusal("empty")
    if pointer := pointer_in(utf8):
        return Refusal(pointer, "the content is not in the repository")
    lines = utf8.removesuffix(b"\n").split(b"\n")
    longest = max(map(len, lines))
    if longest > max_line:
        return Refusal("long_line", f"{longest} bytes")
    mean = sum(map(len, lines)) // len(lines)
    return Refusal("minified", f"{mean} bytes per line") if mean > mean_line else Text(utf8, changed)


def _utf8(data: bytes) -> Text | Refusal:
    for mark, encoding, name in MARKS:
        if data.startswith(mark):
            try:
                return Text(data[len(mark) :].decode(encoding).encode(), (name,))
            except UnicodeDecodeError as error:
                return Refusal("undecodable", _why(error))
    if b"\0" in data:
        return Refusal("binary", "has a NUL")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        declared = COOKIE.match(data)
        encoding = declared[1].decode("ascii", "replace").lower().replace("_", "-") if declared else ""
        if encoding not in DECLARABLE:
            return Refusal("undecodable", _why(error))
    else:
        return Text(data, ())
    try:
        return Text(data.decode(encoding).encode(), ("cookie",))
    except UnicodeDecodeError as error:
        return Refusal("undecodable", _why(error))


def _why(error: UnicodeDecodeError) -> str:
    return f"not {error.encoding} at byte {error.start}"
