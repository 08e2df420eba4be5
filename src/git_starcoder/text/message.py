"""What a commit says of itself, as text for a model: no trailers, no secrets, not too long."""

from __future__ import annotations

import codecs
import re

from git_starcoder.text.charsets import WIDER, codec_of
from git_starcoder.text.encoding import line_ends
from git_starcoder.text.secrets import redact_message

LONGEST = 1024
"""Bytes."""
READ = 65_536
"""Bytes of a message that are looked at."""
ENCODING = re.compile(rb"^encoding ([^\n]{1,100})$", re.MULTILINE)
PLAIN = re.compile(r"[-\w.:/()+]+")
"""A name as iconv takes it, without spaces and quotes; git knows no other."""
TRAILER = re.compile(
    r"(?:[A-Za-z]{1,20}-){1,4}by: .*|(?:Change-Id|Commit-Id|Reviewed-on|Reviewed-at|Cc|CC|Bug|BUG|Git-Pull|Git-Dch"
    r"|Gerrit-[\w-]+|Cr-[\w-]+|Differential Revision|PiperOrigin-RevId|Origin-[\w-]+|git-svn-id|Link|Topic): .*"
    r"|\(cherry picked from commit .*\)|\[skip ci\]|"
)
"""A line that a tool or a process left at the end, or an empty one."""


def message_of(commit: bytes, *, redacted: bool) -> bytes:
    """The message of a commit object, as UTF-8 with LF line ends; may be empty.

    A message that is cut ends at the end of a line, or of a word where the first line is longer than `LONGEST`.
    """
    lines = [line.rstrip() for line in decoded(commit)[0].strip().split("\n")]
    while lines and TRAILER.fullmatch(lines[-1]):
        lines.pop()
    data = "\n".join(lines).encode()
    return _cut(redact_message(data).text if redacted else data)


def decoded(commit: bytes) -> tuple[str, bool]:
    """The beginning of a commit's message as text, and whether all of its bytes are characters.

    As git shows it: read as the encoding that the commit declares, and where that is none that we know, or the message
    does not fit it, as UTF-8. Only where it is no UTF-8 either, what does not fit becomes U+FFFD.
    """
    head, _, body = commit.partition(b"\n\n")
    found = ENCODING.search(head)
    name = found[1].decode("ascii", "replace") if found else "UTF-8"
    declared = codec_of(name) or "utf_8"
    # Spelled in a way that git does not know, it may well be wrong.
    tried = [declared, "utf_8"] if PLAIN.fullmatch(name) else ["utf_8", declared]
    raw, cut = line_ends(body[:READ].partition(b"\0")[0]), len(body) > READ
    for codec in (*tried, WIDER.get(declared, declared)):
        try:
            return codecs.getincrementaldecoder(codec)().decode(raw, not cut), True
        except UnicodeDecodeError:
            continue
    return raw.decode(declared, "replace"), False


def _cut(data: bytes) -> bytes:
    if len(data) <= LONGEST:
        return data
    short = data[: LONGEST + 1]
    end = max(short.rfind(b"\n"), 0) or max(short.rfind(b" "), 0) or LONGEST
    return data[:end].rstrip().decode("utf-8", "ignore").encode()
