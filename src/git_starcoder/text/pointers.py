"""Files whose content lies elsewhere, known by what they say in its place, whatever their name.

Git LFS (with its predecessors hawser and git-media), git-annex, git-fat, git-bigstore, DVC, Xet and Mercurial's
largefiles. All of the file must be such a pointer, so a text that shows one is none.
"""

from __future__ import annotations

import re

LARGEST = 4_096
"""Bytes of the largest pointer. Those of Git LFS have less than 1,024, those of git-annex a name of any length."""

LFS_VERSION = re.compile(
    rb"version https?://(?:git-lfs\.github\.com/spec|hawser\.github\.com/spec|git-media\.io)/[\w./]+"
)
LFS_OID = re.compile(rb"oid (?:\w+:)?[0-9a-fA-F]+")
LFS_LINE = re.compile(rb"(?:version|oid|size|ext-\d+-[\w.-]+|[a-z][a-z0-9.-]*) \S+")
HASH = rb"(?:[0-9a-f]{32}(?:\.dir)?|[0-9a-f]{40}|[0-9a-f]{64})"
FORMS = {
    "annex_pointer": rb"""(?x)
        (?: [^\n]{0,1000} [\\/] )? annex [\\/] objects [\\/] (?: [^\n\\/]{1,300} [\\/] ){0,4}
        [A-Z][A-Z0-9_]* (?: -[A-Za-z]\d+ )* -- [^\n]+ (?: \n /annex/ [^\n]* )*""",
    "fat_pointer": rb"\#\$\#[ ]git-fat[ ][0-9a-f]{40}(?:[ ]+\d+)?",
    "media_pointer": rb"[0-9a-f]{40}|\#[ ](?:git-media|external)\n[0-9a-f]{40,64}",
    "bigstore_pointer": rb"bigstore\n\w+\n[0-9a-f]{32,128}",
    "xet_pointer": rb"\#[ ]xet[ ]version[ ][^\n]*(?:\n\w+[ ]=[ ][^\n]*)*",
    "dvc_pointer": rb"(?:(?:md5|frozen|wdir):[ ][^\n]*\n)*outs:(?:\n(?:-|[ ])[ ]+(?:md5|etag|checksum|size|nfiles|hash"
    rb"|path|cache|persist|isexec|version_id|push|remote|desc|type):[ ][^\n]*)+",
}
"""What the whole of a file says, but for blanks at its end."""
COMPILED = {name: re.compile(form) for name, form in FORMS.items()}


def pointer_in(text: bytes) -> str:
    """The kind of pointer that a text is, `lfs_pointer` for example, or "". Line ends are LF."""
    if len(text) > LARGEST:
        return ""
    lines = [line.strip() for line in text.split(b"\n") if line.strip()]
    if (
        any(map(LFS_VERSION.fullmatch, lines))
        and any(map(LFS_OID.fullmatch, lines))
        and all(map(LFS_LINE.fullmatch, lines))
    ):
        return "lfs_pointer"
    whole = b"\n".join(line.rstrip() for line in text.rstrip().split(b"\n"))
    return next((name for name, form in COMPILED.items() if form.fullmatch(whole)), "")
