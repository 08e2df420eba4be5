"""Decodes the bytes of a file to UTF-8 text with LF line ends, or says why the file is not used.

Nothing is guessed: a text has a byte order mark, is valid UTF-8, or is in an encoding that the file itself declares in
one of the ways of Python, Ruby, Perl, PHP, XML, HTML, CSS, gettext, LaTeX, R, Emacs and Vim.

The module has three parts: decoding, the names of encodings (`find_codec`), and pointer files, whose content is stored
elsewhere (`pointer_kind`).
"""

from __future__ import annotations

import codecs
import re
import tomllib
from encodings.aliases import aliases
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "bom"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "utf-32"),  # before UTF-16, whose mark is the beginning of this one
    (codecs.BOM_UTF32_BE, "utf-32-be", "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "utf-16"),
)
"""Mark, codec, and the name in `DecodedText.changed`."""
HEAD_BYTES = 4096
"""Bytes at the beginning of a file in which its encoding may be declared."""
TAIL_BYTES = 3000
"""Bytes at the end of a file in which its encoding may be declared: as many as Emacs reads."""
MODELINE_LINES = 5
"""Lines at the beginning and at the end of a file in which Vim looks for a modeline."""
LINE_END = re.compile(rb"\r\n?|\n")
CR_BEFORE_LF = re.compile(rb"(?<!\r)\r+\n")
_NAME = rb"[\"']?([-\w.:/]{1,64})"
COOKIE = re.compile(rb"\A(?:[^\r\n]*\r?[\r\n])??[^\r\n]*?coding[ \t]*[:=][ \t]*" + _NAME, re.IGNORECASE)
"""In the first two lines, as PEP 263, Ruby, Emacs and Vim define it; also most XML and JSP pages match."""
MODELINE = re.compile(
    rb"\b(?:vim?|ex)(?:[<=>]?\d{1,9})?:[^\r\n]{0,256}?\b(?:fenc|fileencoding)=([-\w.]{1,64})", re.IGNORECASE
)
LOCAL_VARIABLE = re.compile(rb"Local Variables:.*?^[^\r\n]*?\bcoding:[ \t]*" + _NAME, re.DOTALL | re.MULTILINE)
DECLARATIONS = (
    re.compile(rb"\A\s*<\?xml\s[^>]*?\bencoding\s*=\s*" + _NAME),
    re.compile(rb"\bdeclare\s*\(\s*encoding\s*=\s*" + _NAME, re.IGNORECASE),  # PHP
    re.compile(rb"^[ \t]*use[ \t]+encoding[ \t]+" + _NAME, re.MULTILINE),  # Perl
    re.compile(rb"\\(?:usepackage|RequirePackage)\s*\[([-\w]{1,64})\]\s*\{inputenc\}"),  # LaTeX
    re.compile(rb"^Encoding:[ \t]*" + _NAME, re.MULTILINE),  # R, DESCRIPTION
    re.compile(rb"\\encoding\{" + _NAME),  # R, documentation
)
"""Declarations in the first `HEAD_BYTES`."""
WEB_DECLARATIONS = (
    re.compile(rb"\A@charset\s+" + _NAME, re.IGNORECASE),  # CSS
    re.compile(rb"\bcharset\s*=\s*" + _NAME, re.IGNORECASE),  # HTML, MIME, gettext
)
"""Declarations in the first `HEAD_BYTES` of web formats, where `WEB_CODECS` applies."""
WEB_CODECS = {"latin_1": "cp1252", "ascii": "cp1252", "iso8859_9": "cp1254", "iso8859_11": "cp874"}
"""What browsers read instead of an encoding, by the WHATWG standard: the same characters and more."""
SEVEN_BIT_CODECS = ("iso2022", "hz")
"""Prefixes of codecs that write everything in bytes below 128, so that their text is valid UTF-8, but another text."""


class DecodedText(NamedTuple):
    """A text, and what decoding altered."""

    utf8: bytes
    changed: tuple[str, ...]
    """Any of `bom`, `utf-16`, `utf-32`, `cookie` (another declared encoding), `crlf`."""


class Refusal(NamedTuple):
    """Why a file is not used."""

    reason: str
    """`empty`, `binary`, `undecodable`, `long_line`, `minified`, or the kind of a pointer such as `lfs_pointer`. The
    module `clean` has more reasons."""
    detail: str = ""


def decode_file(data: bytes, *, max_line: int, mean_line: int) -> DecodedText | Refusal:
    """The text of a file. `max_line` and `mean_line` limit the bytes of UTF-8 per line, without line ends."""
    text = decode_text(data)
    if isinstance(text, Refusal):
        return text
    if not text.utf8.strip():
        return Refusal("empty")
    if pointer := pointer_kind(text.utf8):
        return Refusal(pointer, "the content is not in the repository")
    line_bytes = list(map(len, text.utf8.removesuffix(b"\n").split(b"\n")))
    if max(line_bytes) > max_line:
        return Refusal("long_line", f"{max(line_bytes)} bytes")
    mean = sum(line_bytes) // len(line_bytes)
    return Refusal("minified", f"{mean} bytes per line") if mean > mean_line else text


def decode_text(data: bytes, *, like: str = "", cut: bool = False) -> DecodedText | Refusal:
    """The text of a file, however long and however empty.

    `like` is the codec of a related text, for a file that does not declare its encoding. With `cut`, the bytes may end
    in the middle of a character, which is then left out.
    """
    decoded = _decode(data, like, cut=cut)
    if isinstance(decoded, Refusal):
        return decoded
    text, codec, changed = decoded
    if "\0" in text:
        return Refusal("binary", "has a NUL")
    utf8 = data if codec == "utf-8" and not changed and not cut else text.encode()
    normalized = normalize_line_ends(utf8)
    return DecodedText(normalized, tuple(filter(None, (changed, "" if normalized == utf8 else "crlf"))))


def detect_codec(data: bytes, *, cut: bool = False) -> str:
    """Python's codec for the text of a file; "" where the file is not text."""
    decoded = _decode(data, "", cut=cut)
    return "" if isinstance(decoded, Refusal) else decoded.codec


def normalize_line_ends(text: bytes) -> bytes:
    """The text with LF line ends.

    As in git, a line ends with LF. CRs right before an LF belong to the line end, and so do those at the end of the
    text (half a line end). A CR elsewhere is part of its line, except in a text without any LF: there every CR ends a
    line, as on old Macs.
    """
    if b"\r" not in text:
        return text
    whole = text.rstrip(b"\r")
    if b"\n" not in text and b"\r" in whole:
        return text.replace(b"\r", b"\n")
    return CR_BEFORE_LF.sub(b"\n", whole)


def split_lines(text: bytes) -> list[bytes]:
    """The lines of a text with their ends, as git counts them. `splitlines` would also split at CR and others."""
    return BytesIO(text).readlines()


class _Decoded(NamedTuple):
    text: str
    codec: str
    changed: str
    """One of the words in `DecodedText.changed`, or ""."""


def _decode(data: bytes, like: str, *, cut: bool) -> _Decoded | Refusal:
    for mark, codec, name in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _decode_with(data[len(mark) :], [codec], name, cut=cut)
    if like.startswith(("utf-16", "utf-32")):
        return _decode_with(data, [like], like[:6], cut=cut)
    if b"\0" in data:
        return Refusal("binary", "has a NUL")
    if (b"\x1b" in data or b"~{" in data) and (codec := _declared_codec(data)[0]).startswith(SEVEN_BIT_CODECS):
        decoded = _decode_with(data, [codec], "cookie", cut=cut)
        if isinstance(decoded, _Decoded) and decoded.text.encode() != data:
            return decoded
    plain = _decode_with(data, ["utf-8"], "", cut=cut)
    if isinstance(plain, _Decoded):
        return plain
    codec, web_codec, name = _declared_codec(data)
    if not codec and like:
        codec = web_codec = like
    if not codec:
        why = f"; it declares {name}, which is not known" if name and not find_codec(name) else ""
        return Refusal(plain.reason, plain.detail + why)
    return _decode_with(data, [web_codec, codec, WIDER_CODECS.get(codec, codec)], "cookie", cut=cut)


def _decode_with(data: bytes, candidates: list[str], changed: str, *, cut: bool) -> _Decoded | Refusal:
    first_error = ""
    for codec in dict.fromkeys(candidates):
        try:
            return _Decoded(codecs.getincrementaldecoder(codec)().decode(data, not cut), codec, changed)
        except UnicodeDecodeError as error:
            first_error = first_error or f"not {error.encoding} at byte {error.start}"
    return Refusal("undecodable", first_error)


def _declared_codec(data: bytes) -> tuple[str, str, str]:
    """The codec that a file declares ("" for none or UTF-8), the one that a browser would use, and the name."""
    first_name = ""
    for name, is_web in _declared_names(data):
        codec = find_codec(name)
        if codec and codec != "utf_8":
            return codec, WEB_CODECS.get(codec, codec) if is_web else codec, name
        first_name = first_name or name
    return "", "", first_name


def _declared_names(data: bytes) -> Iterator[tuple[str, bool]]:
    """Names of encodings that a file declares, one for each way to do it, and whether a browser would read it."""
    head, tail = data[:HEAD_BYTES], data[-TAIL_BYTES:]
    edges = b"\n".join((*LINE_END.split(head)[:MODELINE_LINES], *LINE_END.split(tail)[-MODELINE_LINES - 1 :]))
    places = [(COOKIE, head), (MODELINE, edges), (LOCAL_VARIABLE, tail)]
    places += [(expression, head) for expression in (*DECLARATIONS, *WEB_DECLARATIONS)]
    for expression, text in places:
        if match := expression.search(text):
            yield match[1].decode("ascii", "replace"), expression in WEB_DECLARATIONS


# Names of encodings: every name that Python, glibc or libiconv knows, and those of editors. Only encodings of text in
# which ASCII is ASCII (in ISO 2022 and HZ until an escape) are included. Python's table has others that decompress, run
# long or change the text, and some, such as UTF-16 and EBCDIC, in which a file could not have declared them.
_TABLE = tomllib.loads((files("git_starcoder.text") / "encoding.toml").read_text(encoding="utf-8"))
CODECS = frozenset(cast("str", _TABLE["codecs"]).split())
"""Python's codecs that may be used."""
WIDER_CODECS = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "cp950"}
"""What programs write that declare the first encoding: the same characters and more."""
_NUMBERED_NAME = re.compile(r"(?:cp|ibm|windows|win|ms|mscp|microsoftcp|dos|ccsid|ansi)(\d{3,5})")
_YEAR_SUFFIX = re.compile(r":(?:19|20)\d\d$")
_EDITOR_SUFFIX = re.compile(r"-(?:unix|dos|mac)$", re.IGNORECASE)


def _plain_name(name: str) -> str:
    """A name as Python and iconv compare it, with only letters and digits."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


_CODEC_BY_NAME = {
    **{_plain_name(alias): codec for alias, codec in aliases.items() if codec in CODECS},
    **{_plain_name(codec): codec for codec in CODECS},
    **{name: codec for codec, names in cast("dict[str, str]", _TABLE["names"]).items() for name in names.split()},
}


@lru_cache(256)
def find_codec(name: str) -> str:
    """Python's codec for the name of an encoding, or "" where there is none that is safe.

    Suffixes that iconv and Emacs allow are ignored: `//TRANSLIT`, `-unix`.
    """
    name = name.strip(" \t\"'").partition("//")[0]
    for spelling in (name, _YEAR_SUFFIX.sub("", name), _EDITOR_SUFFIX.sub("", name)):
        plain = _plain_name(spelling)
        for candidate in (plain, plain.removeprefix("x"), plain.removeprefix("cs")):
            numbered = _NUMBERED_NAME.fullmatch(candidate)
            if codec := _CODEC_BY_NAME.get(candidate) or (numbered and _CODEC_BY_NAME.get(f"cp{numbered[1]}")):
                return codec
    return ""


# Pointer files, whose content is stored elsewhere, are known by their content, whatever their name: those of Git LFS
# (with its predecessors hawser and git-media), git-annex, git-fat, git-bigstore, DVC, Xet and Mercurial's largefiles.
# The whole file must be such a pointer, so a text that only shows one is not.
MAX_POINTER_BYTES = 4_096
"""Bytes of the largest pointer. Git LFS allows less than 1,024; git-annex puts a name of any length in it."""


_LFS_VERSION = re.compile(
    rb"version https?://(?:git-lfs\.github\.com/spec|hawser\.github\.com/spec|git-media\.io)/[\w./]+"
)
_LFS_OID = re.compile(rb"oid (?:\w+:)?[0-9a-fA-F]+")
_LFS_LINE = re.compile(rb"(?:version|oid|size|ext-\d+-[\w.-]+|[a-z][a-z0-9.-]*) \S+")
_POINTER_FORMS = {
    "annex_pointer": rb"""(?x)
        (?: [^\n]{0,1000} [\\/] )? annex [\\/] objects [\\/] (?: [^\n\\/]{1,300} [\\/] ){0,4}
        [A-Z][A-Z0-9_]* (?: -[A-Za-z]\d+ )* -- [^\n]+ (?: \n /annex/ [^\n]* )*""",
    "fat_pointer": rb"\#\$\#[ ]git-fat[ ][0-9a-f]{40}(?:[ ]+\d+)?",
    "media_pointer": rb"[0-9a-f]{40}|\#[ ](?:git-media|external)\n[0-9a-f]{40,64}",
    "bigstore_pointer": rb"bigstore\n\w+\n[0-9a-f]{32,128}",
    "xet_pointer": rb"\#[ ]xet[ ]version[ ][^\n]*(?:\n\w+[ ]=[ ][^\n]*)*",
    "dvc_pointer": rb"(?:(?:md5|frozen|wdir):[ ][^\n]*\n)*outs:(?:\n(?:-|[ ])[ ]+(?:md5|etag|checksum|size|nfiles|hash|"
    rb"path|cache|persist|isexec|version_id|push|remote|desc|type):[ ][^\n]*)+",
}
"""Expressions for the whole file, without blanks at its end."""


def pointer_kind(text: bytes) -> str:
    """The kind of pointer that a text with LF line ends is, such as `lfs_pointer`, or ""."""
    if len(text) > MAX_POINTER_BYTES:
        return ""
    lines = [line.strip() for line in text.split(b"\n") if line.strip()]
    has_version, has_id = any(map(_LFS_VERSION.fullmatch, lines)), any(map(_LFS_OID.fullmatch, lines))
    if has_version and has_id and all(map(_LFS_LINE.fullmatch, lines)):
        return "lfs_pointer"
    whole = b"\n".join(line.rstrip() for line in text.rstrip().split(b"\n"))
    return next((name for name, form in _POINTER_FORMS.items() if re.fullmatch(form, whole)), "")
