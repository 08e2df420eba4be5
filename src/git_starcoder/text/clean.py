"""Cleans what is read from a repository: file contents and commit messages become UTF-8 text without secrets.

This is the only place where bytes become text, for builds and for checks. The text of a file follows from its bytes
alone: decoded, of a notebook only code and Markdown, and without secrets. Whether the file is used also depends on its
path (`find_refusal`).
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text import notebook
from git_starcoder.text.encoding import WIDER_CODECS, Refusal, decode_file, find_codec, normalize_line_ends
from git_starcoder.text.secrets import RedactedText, redact, redact_message, secret_file_reason

if TYPE_CHECKING:
    from git_starcoder.recipe import ReadOptions

MAX_MESSAGE_BYTES = 1024
"""Bytes of a commit message that are kept: enough for a summary and a paragraph."""
MESSAGE_READ_BYTES = 65_536
"""Bytes of a commit message that are decoded."""
ENCODING_HEADER = re.compile(rb"^encoding ([^\n]{1,100})$", re.MULTILINE)
PLAIN_ENCODING_NAME = re.compile(r"[-\w.:/()+]+")
"""A name as iconv accepts it, without spaces and quotes. Git knows no other names."""
TRAILER_LINE = re.compile(
    r"(?:[A-Za-z]{1,20}-){1,4}by: .*|(?:Change-Id|Commit-Id|Reviewed-on|Reviewed-at|Cc|CC|Bug|BUG|Git-Pull|Git-Dch"
    r"|Gerrit-[\w-]+|Cr-[\w-]+|Differential Revision|PiperOrigin-RevId|Origin-[\w-]+|git-svn-id|Link|Topic): .*"
    r"|\(cherry picked from commit .*\)|\[skip ci\]|"
)
"""A line that a tool or a workflow adds at the end of a message, or an empty one."""


class CleanText(NamedTuple):
    """The text of a file."""

    text: bytes
    """UTF-8 with LF line ends."""
    changed: tuple[str, ...]
    """What decoding altered (see `DecodedText.changed`), and `notebook` for a notebook."""
    secret_counts: Counter[str]
    """How many secrets of each kind were redacted."""
    secret_share: float
    """Share of the bytes that were secrets, 0 to 1."""
    notebook_counts: Counter[str]
    """What of a notebook is left out; see `NotebookText.counts`."""


def max_file_bytes(path: str, options: ReadOptions) -> int:
    """The size above which a file is not even read."""
    return max(options.max_bytes, notebook.MAX_NOTEBOOK_BYTES if notebook.has_notebook_name(path) else 0)


def clean_file(data: bytes, options: ReadOptions) -> CleanText | Refusal:
    """The text of a file, or the reason why there is none. `find_refusal` says whether a file with it may be used."""
    extracted = _extract_notebook(data, options)
    if isinstance(extracted, Refusal):
        return extracted
    content, changed, notebook_counts = extracted or (data, (), Counter[str]())
    if len(content) > options.max_bytes:
        return Refusal("too_large", f"{len(content)} bytes{' of code and Markdown' if extracted else ''}")
    decoded = decode_file(content, max_line=options.max_line, mean_line=options.mean_line)
    if isinstance(decoded, Refusal):
        return decoded
    redacted = RedactedText(decoded.utf8, Counter()) if options.secrets == "off" else redact(decoded.utf8)
    return CleanText(
        redacted.text, (*changed, *decoded.changed), redacted.counts, redacted.secret_share, notebook_counts
    )


def _extract_notebook(
    data: bytes, options: ReadOptions
) -> tuple[bytes, tuple[str, ...], Counter[str]] | Refusal | None:
    """The text of a notebook, what decoding altered, and what is left out; None for any other file."""
    if len(data) > max(options.max_bytes, notebook.MAX_NOTEBOOK_BYTES) or not notebook.may_be_notebook(data):
        return None
    json = decode_file(data, max_line=len(data), mean_line=len(data))
    if isinstance(json, Refusal):
        return json
    extracted = notebook.extract_text(json.utf8, options.max_line)
    return None if extracted is None else (extracted.utf8, (*json.changed, "notebook"), extracted.counts)


def find_refusal(path: str, text: CleanText, options: ReadOptions) -> Refusal | None:
    """Why the file at a path is not used, given its text, or None."""
    if notebook.has_notebook_name(path) and "notebook" not in text.changed:
        return Refusal("no_notebook", "its content is not a Jupyter notebook")
    if options.secrets == "off":
        return None
    # Details name only kinds and counts of secrets, never values.
    if reason := secret_file_reason(path, text.text):
        return Refusal("secret_file", reason)
    if RedactedText(text.text, text.secret_counts, text.secret_share).is_mostly_secrets:
        return Refusal("mostly_secrets", f"{text.secret_counts.total()} secrets, {text.secret_share:.0%} of its bytes")
    if text.secret_counts and options.secrets == "drop":
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(text.secret_counts.items()))
        return Refusal("secret", kinds)
    return None


def clean_message(commit: bytes, *, redacted: bool) -> bytes:
    """The message of a commit object as UTF-8 with LF line ends, without trailers; may be empty.

    A message that is too long is cut at the end of a line, or of a word where the first line is longer than
    `MAX_MESSAGE_BYTES`.
    """
    lines = [line.rstrip() for line in decode_message(commit)[0].strip().split("\n")]
    while lines and TRAILER_LINE.fullmatch(lines[-1]):
        lines.pop()
    data = "\n".join(lines).encode()
    data = redact_message(data).text if redacted else data
    if len(data) <= MAX_MESSAGE_BYTES:
        return data
    start = data[: MAX_MESSAGE_BYTES + 1]
    end = max(start.rfind(b"\n"), 0) or max(start.rfind(b" "), 0) or MAX_MESSAGE_BYTES
    return data[:end].rstrip().decode("utf-8", "ignore").encode()


def decode_message(commit: bytes) -> tuple[str, bool]:
    """The beginning of a commit's message as text, and whether all of its bytes are characters.

    The result is what git shows: the message is read in the encoding that the commit declares. Where that encoding is
    unknown or does not fit, the message is read as UTF-8. Only where it is not UTF-8 either, the bytes that do not fit
    become U+FFFD.
    """
    head, _, body = commit.partition(b"\n\n")
    match = ENCODING_HEADER.search(head)
    name = match[1].decode("ascii", "replace") if match else "UTF-8"
    declared = find_codec(name) or "utf_8"
    # A declaration in a spelling that git does not know may well be wrong.
    candidates = [declared, "utf_8"] if PLAIN_ENCODING_NAME.fullmatch(name) else ["utf_8", declared]
    raw, is_cut = normalize_line_ends(body[:MESSAGE_READ_BYTES].partition(b"\0")[0]), len(body) > MESSAGE_READ_BYTES
    for codec in (*candidates, WIDER_CODECS.get(declared, declared)):
        try:
            return codecs.getincrementaldecoder(codec)().decode(raw, not is_cut), True
        except UnicodeDecodeError:
            continue
    return raw.decode(declared, "replace"), False
