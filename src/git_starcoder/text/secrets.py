"""Secrets in a text → the same text with `REDACTED_<KIND>_<hash>` in their place.

A model learns by heart what it sees, and a key that was once committed stays in the history. So no text goes any
further, not even into a cache, before it was here. What counts as a secret: `secret_patterns`.
"""

from __future__ import annotations

import hmac
import re
from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.text.secret_patterns import PATTERNS
from git_starcoder.text.secret_values import VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = b"git-starcoder secrets"
MARK = re.compile(rb"REDACTED_[A-Z]+(?:_[A-Z]+)*_[0-9a-f]{4}")
"""What stands in the place of a secret."""
MOST = 20
"""Findings in a text that is not mostly secrets."""
MOST_SHARE = 0.2
"""Share of its bytes that may be secrets."""

TRAILER = re.compile(rb"(?im)^[ \t]{0,8}(?:(?:[a-z]{1,20}-){1,4}by|cc|from|author|committer)[ \t]{0,8}:[^\n]*")
EMAIL = re.compile(rb"(?<![^\s<>(),;:\"])[^\s<>(),;:@\"]++@[^\s<>(),;:@\"]++")

NAMES = {
    re.compile(r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?"): "an SSH private key",
    re.compile(r".*\.(?:p12|pfx|jks|jceks|bks|keystore|kdbx|ppk)"): "a key store",
    re.compile(r"\.env(?:\.(?!example|sample|template|dist|defaults?$).*)?|\.envrc"): "an environment file",
    re.compile(
        r"credentials\.json|\.git-credentials|\.netrc|_netrc|\.pgpass|\.pypirc|\.htpasswd|\.dockercfg|.*\.tfstate"
    ): ("a credentials file"),
}
"""Files that are only secrets, by their names."""
HOLDERS = {
    re.compile(r".*\.(?:pem|key|asc|der|pkcs8|p8)"): "a private key",
    re.compile(r"\.npmrc|\.yarnrc(?:\.yml)?|nuget\.config|service[-_]?account.*\.json|kubeconfig|auth\.json"): (
        "a configuration with a secret in it"
    ),
}
"""Files that are only secrets if they have one in them, by their names."""


class Redacted(NamedTuple):
    """A text without its secrets."""

    text: bytes
    found: Counter[str]
    """How many secrets of each kind there were."""
    share: float = 0.0
    """Share of the bytes that were secrets, 0 to 1."""

    @property
    def mostly_secrets(self) -> bool:
        """Whether what is left says more about secrets than about code."""
        return self.found.total() > MOST or self.share > MOST_SHARE


def redact(text: bytes) -> Redacted:
    """Put `REDACTED_<KIND>_<4 hexadecimal digits>` in the place of every secret in a UTF-8 text.

    It stays within the quotes of a literal, so code still parses, and is plain text to every tokenizer. The same secret
    gives the same digits wherever it stands: on both sides of a diff, in any file, in any build. They are 16 bits of an
    HMAC-SHA256, so 2^-16 of all possible secrets share them, and no key can be found from them. The HMAC's key is the
    same in every build and public, for a secret one would make the bytes of a dataset depend on more than commit,
    recipe and seed; whoever has a list of likely passwords can therefore strike 65,535 of 65,536 wrong ones from it.

    What it makes is left alone by a second pass.
    """
    spans = _merged(_find(text))
    if not spans:
        return Redacted(text, Counter())
    parts: list[bytes] = []
    found: Counter[str] = Counter()
    at = hidden = 0
    for start, stop, order in spans:
        kind = PATTERNS[order].kind
        tag = hmac.digest(KEY, text[start:stop], sha256)[:2].hex()
        parts += text[at:start], f"REDACTED_{kind}_{tag}".encode()
        found[kind] += 1
        hidden += stop - start
        at = stop
    return Redacted(b"".join((*parts, text[at:])), found, hidden / len(text))


def redact_message(text: bytes) -> Redacted:
    """The same for a commit message, whose trailers (`Signed-off-by: Ada <…>`) also lose their mail addresses.

    An address becomes the text `<EMAIL>`; names stay.
    """
    clean = redact(text)
    count = 0

    def trailer(line: re.Match[bytes]) -> bytes:
        nonlocal count
        short, found = EMAIL.subn(b"<EMAIL>", line[0])
        count += found
        return short.replace(b"<<EMAIL>>", b"<EMAIL>")

    message = TRAILER.sub(trailer, clean.text)
    return clean._replace(text=message, found=clean.found + Counter(EMAIL=count)) if count else clean


def only_secrets(path: str, text: bytes = b"") -> str:
    """Why a file is nothing but secrets, or "": by its name, or by its name and a secret in the text.

    The text may be redacted already.
    """
    name = path.rpartition("/")[2].lower()
    for names, reason in NAMES.items():
        if names.fullmatch(name):
            return reason
    if any(names.fullmatch(name) for names in HOLDERS) and (MARK.search(text) or redact(text).found):
        return next(reason for names, reason in HOLDERS.items() if names.fullmatch(name))
    return ""


def _find(text: bytes) -> list[tuple[int, int, int]]:
    """Spans of secrets, each with the place of its pattern."""
    spans: list[tuple[int, int, int]] = []
    search, tried = _searcher()
    done = [0] * len(PATTERNS)
    for literal, at, _ in search(text):
        for order in tried[literal]:
            if at < done[order]:
                continue
            pattern = PATTERNS[order]
            match = _regex(order).match(text, at)
            if match is None:
                continue
            group = next((name for name in VALUES if name in match.re.groupindex and match[name]), 0)
            start, stop = match.span(group)
            if "before" in match.re.groupindex:
                start = match.start("before")
            secret = text[start:stop]
            if not MARK.search(secret) and pattern.accepts(match, secret):
                spans.append((start, stop, order))
                done[order] = stop
    return spans


def _merged(spans: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Spans that overlap become one, of the pattern that is higher up."""
    merged: list[tuple[int, int, int]] = []
    for start, stop, order in sorted(spans):
        if merged and start < merged[-1][1]:
            first, last, other = merged.pop()
            merged.append((first, max(last, stop), min(other, order)))
        else:
            merged.append((start, stop, order))
    return merged


@cache
def _regex(order: int) -> re.Pattern[bytes]:
    """The expression of a pattern; all of them would take a fifth of a second."""
    return PATTERNS[order].regex


@cache
def _searcher() -> tuple[Callable[[bytes], list[tuple[int, int, int]]], list[list[int]]]:
    """A search for all literals at once (which, start, stop), and the patterns that each calls for.

    One Aho-Corasick automaton passes over a text ten times as fast as a search for each literal; a DFA is more than
    twice as fast as what the library would choose, for some megabytes of memory.
    """
    from ahocorasick_rs import BytesAhoCorasick, Implementation

    patterns: defaultdict[bytes, list[int]] = defaultdict(list)
    for order, pattern in enumerate(PATTERNS):
        for literal in pattern.literals:
            patterns[literal].append(order)
    automaton = BytesAhoCorasick(list(patterns), implementation=Implementation.DFA)
    return lambda text: automaton.find_matches_as_indexes(text, overlapping=True), list(patterns.values())
