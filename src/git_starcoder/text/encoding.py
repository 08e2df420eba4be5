"""Bytes of a file → UTF-8 text with LF line ends, or the reason why it is none.

Nothing is guessed: a byte order mark, strict UTF-8, or an encoding that the file itself declares, as Python, Ruby,
Perl, PHP, XML, HTML, CSS, gettext, LaTeX, R, Emacs and Vim have it.
"""

from __future__ import annotations

import codecs
import re
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text.charsets import WIDER, codec_of
from git_starcoder.text.pointers import pointer_in

if TYPE_CHECKING:
    from collections.abc import Iterator

MARKS = (
    (codecs.BOM_UTF8, "utf-8", "bom"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)
HEAD, TAIL = 4096, 3000
"""Bytes at the beginning and the end of a file that may declare its encoding; the second is how far Emacs looks."""
MODELINES = 5
"""Lines at the beginning and the end that Vim looks at."""
LINE = re.compile(rb"\r\n?|\n")
CR_BEFORE_LF = re.compile(rb"(?<!\r)\r+\n")
_NAME = rb"[\"']?([-\w.:/]{1,64})"
COOKIE = re.compile(rb"\A(?:[^\r\n]*\r?[\r\n])??[^\r\n]*?coding[ \t]*[:=][ \t]*" + _NAME, re.IGNORECASE)
"""As PEP 263, Ruby, Emacs and Vim have it, in the first two lines; also in most XML, and in pages of JSP."""
MODELINE = re.compile(
    rb"\b(?:vim?|ex)(?:[<=>]?\d{1,9})?:[^\r\n]{0,256}?\b(?:fenc|fileencoding)=([-\w.]{1,64})", re.IGNORECASE
)
LOCAL_VARIABLE = re.compile(rb"Local Variables:.*?^[^\r\n]*?\bcoding:[ \t]*" + _NAME, re.DOTALL | re.MULTILINE)
DECLARED = (
    re.compile(rb"\A\s*<\?xml\s[^>]*?\bencoding\s*=\s*" + _NAME),
    re.compile(rb"\bdeclare\s*\(\s*encoding\s*=\s*" + _NAME, re.IGNORECASE),  # PHP
    re.compile(rb"^[ \t]*use[ \t]+encoding[ \t]+" + _NAME, re.MULTILINE),  # Perl
    re.compile(rb"\\(?:usepackage|RequirePackage)\s*\[([-\w]{1,64})\]\s*\{inputenc\}"),  # LaTeX
    re.compile(rb"^Encoding:[ \t]*" + _NAME, re.MULTILINE),  # R, DESCRIPTION
    re.compile(rb"\\encoding\{" + _NAME),  # R, documentation
)
"""In the first `HEAD` bytes."""
ON_THE_WEB = (
    re.compile(rb"\A@charset\s+" + _NAME, re.IGNORECASE),  # CSS
    re.compile(rb"\bcharset\s*=\s*" + _NAME, re.IGNORECASE),  # HTML, MIME, gettext
)
"""The same, in formats where some names mean more than elsewhere."""
MEANT_ON_THE_WEB = {"latin_1": "cp1252", "ascii": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874"}
"""By the WHATWG's encoding standard; the same characters and more."""
SEVEN_BITS = ("iso2022", "hz")
"""How codecs are called that write everything in bytes below 128: their text is UTF-8, too, but another one."""


class Text(NamedTuple):
    """A text, and what decoding altered."""

    utf8: bytes
    changed: tuple[str, ...]
    """Any of `bom`, `utf-16`, `utf-32`, `cookie`, `crlf`."""


class Refusal(NamedTuple):
    """Why a file is not used."""

    reason: str
    """`empty`, `lfs_pointer` and the others of `pointers`, `binary`, `undecodable`, `long_line`, `minified`."""
    detail: str = ""


def decode(data: bytes, *, max_line: int, mean_line: int) -> Text | Refusal:
    """The text of a file. `max_line` and `mean_line` are limits in bytes of UTF-8, line ends not counted."""
    text = read(data)
    if isinstance(text, Refusal):
        return text
    utf8, changed = text
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


def read(data: bytes, *, like: str = "", cut: bool = False) -> Text | Refusal:
    """The text of a file, however long and however empty.

    `like` is the codec of a text that this one goes with, for what says nothing of its own encoding. Where a text is
    `cut`, it may end in the middle of a character, which is left out.
    """
    found = _decoded(data, like, cut=cut)
    if isinstance(found, Refusal):
        return found
    text, codec, changed = found
    if "\0" in text:
        return Refusal("binary", "has a NUL")
    utf8 = data if codec == "utf-8" and not changed and not cut else text.encode()
    lines = line_ends(utf8)
    told = (changed,) if changed else ()
    return Text(lines, told) if lines == utf8 else Text(lines, (*told, "crlf"))


def codec_of_text(data: bytes, *, cut: bool = False) -> str:
    """Python's codec for the text of a file; "" where it is none."""
    found = _decoded(data, "", cut=cut)
    return "" if isinstance(found, Refusal) else found.codec


def line_ends(text: bytes) -> bytes:
    """The text with LF line ends.

    As git has it, a line ends with LF; CRs right before belong to the line end, and so do those at the end of the text,
    as half a line end. A CR elsewhere is part of its line, but for a text without any LF: there every CR ends a line,
    as on old Macs.
    """
    if b"\r" not in text:
        return text
    whole = text.rstrip(b"\r")
    if b"\n" not in text and b"\r" in whole:
        return text.replace(b"\r", b"\n")
    return CR_BEFORE_LF.sub(b"\n", whole)


def lines_of(text: bytes) -> list[bytes]:
    """The lines of a text with their ends, as git counts them; `splitlines` parts at CR, too, and others."""
    return BytesIO(text).readlines()


class _Decoded(NamedTuple):
    """A text, the codec that it was read with, and what of `Text.changed` that is."""

    text: str
    codec: str
    changed: str


def _decoded(data: bytes, like: str, *, cut: bool) -> _Decoded | Refusal:
    for mark, codec, name in MARKS:
        if data.startswith(mark):
            return _with(data[len(mark) :], [codec], name, cut=cut)
    if like.startswith(("utf-16", "utf-32")):
        return _with(data, [like], like[:6], cut=cut)
    if b"\0" in data:
        return Refusal("binary", "has a NUL")
    if (b"\x1b" in data or b"~{" in data) and (codec := _declared(data)[0]).startswith(SEVEN_BITS):
        found = _with(data, [codec], "cookie", cut=cut)
        if isinstance(found, _Decoded) and found.text.encode() != data:
            return found
    plain = _with(data, ["utf-8"], "", cut=cut)
    if isinstance(plain, _Decoded):
        return plain
    codec, meant, name = _declared(data)
    if not codec and like:
        codec = meant = like
    if not codec:
        why = f"; it declares {name}, which is not known" if name and not codec_of(name) else ""
        return Refusal(plain.reason, plain.detail + why)
    return _with(data, [meant, codec, WIDER.get(codec, codec)], "cookie", cut=cut)


def _with(data: bytes, codecs_: list[str], changed: str, *, cut: bool) -> _Decoded | Refusal:
    """The text by the first codec that fits."""
    why = ""
    for codec in dict.fromkeys(codecs_):
        try:
            return _Decoded(codecs.getincrementaldecoder(codec)().decode(data, not cut), codec, changed)
        except UnicodeDecodeError as error:
            why = why or f"not {error.encoding} at byte {error.start}"
    return Refusal("undecodable", why)


def _declared(data: bytes) -> tuple[str, str, str]:
    """Python's codec for the encoding that a file declares, "" for none or UTF-8; what it means; and the name."""
    first = ""
    for name, on_the_web in _declarations(data):
        codec = codec_of(name)
        if codec and codec != "utf_8":
            return codec, MEANT_ON_THE_WEB.get(codec, codec) if on_the_web else codec, name
        first = first or name
    return "", "", first


def _declarations(data: bytes) -> Iterator[tuple[str, bool]]:
    """Names of encodings that a file declares, one for each way to do it, and whether a browser would read it."""
    head, tail = data[:HEAD], data[-TAIL:]
    lines = b"\n".join((*LINE.split(head)[:MODELINES], *LINE.split(tail)[-MODELINES - 1 :]))
    sought = [(COOKIE, head), (MODELINE, lines), (LOCAL_VARIABLE, tail), *((each, head) for each in DECLARED)]
    for expression, text in sought:
        if found := expression.search(text):
            yield found[1].decode("ascii", "replace"), False
    for expression in ON_THE_WEB:
        if found := expression.search(head):
            yield found[1].decode("ascii", "replace"), True
