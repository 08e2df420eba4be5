"""Redacts strings that look like keys, tokens or passwords: `REDACTED_<KIND>_<hash>` replaces them.

A model memorises what it sees, and a key that was once committed stays in the history. So every text passes through
`redact` before it goes any further, even into a cache. `secret_patterns` and `secret_assignments` define what a secret
is.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text.secret_assignments import ASSIGNMENT_PATTERNS
from git_starcoder.text.secret_patterns import TOKEN_PATTERNS, VALUE_GROUPS

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERNS = (*TOKEN_PATTERNS, *ASSIGNMENT_PATTERNS)
"""All patterns. Where several find the same secret, the first one names it."""
HMAC_KEY = b"git-starcoder secrets"
"""Public and the same in every build; see `redact`."""
REDACTED_MARK = re.compile(rb"REDACTED_[A-Z]+(?:_[A-Z]+)*_[0-9a-f]{4}")
"""What replaces a secret."""
MAX_SECRETS = 20
"""Secrets in a text; a text with more is mostly secrets."""
MAX_SECRET_SHARE = 0.2
"""Share of secrets in the bytes of a text; a text with more is mostly secrets."""
MAIL_TRAILER = re.compile(rb"(?im)^[ \t]{0,8}(?:(?:[a-z]{1,20}-){1,4}by|cc|from|author|committer)[ \t]{0,8}:[^\n]*")
EMAIL = re.compile(rb"(?<![^\s<>(),;:\"])[^\s<>(),;:@\"]++@[^\s<>(),;:@\"]++")

SECRET_FILES = {
    re.compile(r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"): "an SSH private key",
    re.compile(r".*\.(?:p12|pfx|jks|jceks|bks|keystore|kdbx|ppk)"): "a key store",
    re.compile(r"\.env(?:\.(?!example|sample|template|dist|defaults?$).*)?|\.envrc"): "an environment file",
    re.compile(
        r"credentials\.json|\.git-credentials|\.netrc|_netrc|\.pgpass|\.pypirc|\.htpasswd|\.dockercfg|.*\.tfstate"
    ): ("a credentials file"),
}
"""Expressions for names of files that consist of secrets, with the reason."""
FILES_WITH_SECRETS = {
    re.compile(r".*\.(?:pem|key|asc|der|pkcs8|p8)"): "a private key",
    re.compile(r"\.npmrc|\.yarnrc(?:\.yml)?|nuget\.config|service[-_]?account.*\.json|kubeconfig|auth\.json"): (
        "a configuration with a secret in it"
    ),
}
"""The same for files that are only dropped if they contain a secret."""


class RedactedText(NamedTuple):
    """A text without its secrets."""

    text: bytes
    counts: Counter[str]
    """How many secrets of each kind were redacted."""
    secret_share: float = 0.0
    """Share of the bytes that were secrets, 0 to 1."""

    @property
    def is_mostly_secrets(self) -> bool:
        """Whether what is left says more about secrets than about code."""
        return self.counts.total() > MAX_SECRETS or self.secret_share > MAX_SECRET_SHARE


def redact(text: bytes) -> RedactedText:
    """Replace every secret in a UTF-8 text by `REDACTED_<KIND>_<4 hexadecimal digits>`.

    The replacement stays within the quotes of a literal, so code still parses, and every tokenizer reads it as plain
    text. A second pass changes nothing.

    The same secret gives the same digits everywhere: on both sides of a diff, in any file, in any build. They are 16
    bits of an HMAC-SHA256, so many possible secrets share them, and no key can be computed from them. The key of the
    HMAC is public, because a secret key would make the bytes of a dataset depend on more than commit, recipe and seed.
    So whoever has a list of likely passwords can exclude 65,535 of 65,536 wrong ones.
    """
    spans = _merge_spans(_find_secrets(text))
    if not spans:
        return RedactedText(text, Counter())
    parts: list[bytes] = []
    counts: Counter[str] = Counter()
    copied = secret_bytes = 0
    for start, stop, order in spans:
        kind = PATTERNS[order].kind
        tag = hmac.digest(HMAC_KEY, text[start:stop], sha256)[:2].hex()
        parts += text[copied:start], f"REDACTED_{kind}_{tag}".encode()
        counts[kind] += 1
        secret_bytes += stop - start
        copied = stop
    return RedactedText(b"".join((*parts, text[copied:])), counts, secret_bytes / len(text))


def redact_message(text: bytes) -> RedactedText:
    """Redact a commit message. Mail addresses in trailers (`Signed-off-by: Ada <…>`) become `<EMAIL>`; names stay."""
    redacted = redact(text)
    email_count = 0

    def redact_trailer(line: re.Match[bytes]) -> bytes:
        nonlocal email_count
        trailer, count = EMAIL.subn(b"<EMAIL>", line[0])
        email_count += count
        return trailer.replace(b"<<EMAIL>>", b"<EMAIL>")

    message = MAIL_TRAILER.sub(redact_trailer, redacted.text)
    if not email_count:
        return redacted
    return redacted._replace(text=message, counts=redacted.counts + Counter(EMAIL=email_count))


def secret_file_reason(path: str, text: bytes = b"") -> str:
    """Why a file should be dropped as a whole for its name, or for its name and a secret in its text; else "".

    The text may be redacted already.
    """
    name = path.rpartition("/")[2].lower()
    for expression, reason in SECRET_FILES.items():
        if expression.fullmatch(name):
            return reason
    for expression, reason in FILES_WITH_SECRETS.items():
        if expression.fullmatch(name) and (REDACTED_MARK.search(text) or redact(text).counts):
            return reason
    return ""


def _find_secrets(text: bytes) -> list[tuple[int, int, int]]:
    """Spans of secrets: start, stop, and the index of the pattern."""
    spans: list[tuple[int, int, int]] = []
    search, patterns_of_literal = _literal_search()
    searched = [0] * len(PATTERNS)  # where the last secret of each pattern ends
    for literal, position, _ in search(text):
        for order in patterns_of_literal[literal]:
            if position < searched[order]:
                continue
            match = _compiled(order).match(text, position)
            if match is None:
                continue
            group = next((name for name in VALUE_GROUPS if name in match.re.groupindex and match[name]), 0)
            start, stop = match.span(group)
            if "before" in match.re.groupindex:
                start = match.start("before")
            secret = text[start:stop]
            if not REDACTED_MARK.search(secret) and PATTERNS[order].accepts(match, secret):
                spans.append((start, stop, order))
                searched[order] = stop
    return spans


def _merge_spans(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """The spans in order. Overlapping ones become one, of the pattern that comes first."""
    merged: list[tuple[int, int, int]] = []
    for start, stop, order in sorted(spans):
        if merged and start < merged[-1][1]:
            first, last, other = merged.pop()
            merged.append((first, max(last, stop), min(other, order)))
        else:
            merged.append((start, stop, order))
    return merged


@cache
def _compiled(order: int) -> re.Pattern[bytes]:
    """The compiled expression of a pattern. Most are never needed, and to compile all takes a fifth of a second."""
    return re.compile(PATTERNS[order].expression)


@cache
def _literal_search() -> tuple[Callable[[bytes], list[tuple[int, int, int]]], list[list[int]]]:
    """A search for all literals at once (literal, start, stop), and for each literal the patterns that it calls for.

    One Aho-Corasick automaton reads a text ten times as fast as a search for each literal. A DFA is more than twice as
    fast as the implementation that the library would choose, and takes some megabytes more.
    """
    from ahocorasick_rs import BytesAhoCorasick, Implementation

    patterns: defaultdict[bytes, list[int]] = defaultdict(list)
    for order, pattern in enumerate(PATTERNS):
        for literal in pattern.literals:
            patterns[literal].append(order)
    automaton = BytesAhoCorasick(list(patterns), implementation=Implementation.DFA)
    return lambda text: automaton.find_matches_as_indexes(text, overlapping=True), list(patterns.values())
