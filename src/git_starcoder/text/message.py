"""What a commit says of itself, as text for a model: no trailers, no secrets, not too long."""

from __future__ import annotations

import re

from git_starcoder.text.encoding import DECLARABLE
from git_starcoder.text.secrets import redact_message

LONGEST = 1024
"""Bytes."""
READ = 65_536
"""Bytes of a message that are looked at."""
ENCODING = re.compile(rb"^encoding ([-\w.]{1,20})$", re.MULTILINE)
TRAILER = re.compile(
    r"(?:[A-Za-z]{1,20}-){1,4}by: .*|(?:Change-Id|Commit-Id|Reviewed-on|Reviewed-at|Cc|CC|Bug|BUG|Git-Pull|Git-Dch"
    r"|Gerrit-[\w-]+|Cr-[\w-]+|Differential Revision|PiperOrigin-RevId|Origin-[\w-]+|git-svn-id|Link|Topic): .*"
    r"|\(cherry picked from commit .*\)|\[skip ci\]|"
)
"""A line that a tool or a process left at the end, or an empty one."""


def message_of(commit: bytes, *, redacted: bool) -> bytes:
    """The message of a commit object, as UTF-8 with LF line ends; may be empty.

    Its encoding is what the commit declares, as far as we know it, else UTF-8; what does not fit becomes U+FFFD. A
    message that is cut ends at the end of a line, or of a word where the first line is longer than `LONGEST`.
    """
    head, _, body = commit.partition(b"\n\n")
    declared = ENCODING.search(head)
    encoding = declared[1].decode("ascii").lower().replace("_", "-") if declared else "utf-8"
    raw = body[:READ].partition(b"\0")[0].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    text = raw.decode(encoding if encoding in DECLARABLE else "utf-8", "replace")
    lines = [line.rstrip() for line in text.strip().split("\n")]
    while lines and TRAILER.fullmatch(lines[-1]):
        lines.pop()
    data = "\n".join(lines).encode()
    return _cut(redact_message(data).text if redacted else data)


def _cut(data: bytes) -> bytes:
    if len(data) <= LONGEST:
        return data
    short = data[: LONGEST + 1]
    end = max(short.rfind(b"\n"), 0) or max(short.rfind(b" "), 0) or LONGEST
    return data[:end].rstrip().decode("utf-8", "ignore").encode()
