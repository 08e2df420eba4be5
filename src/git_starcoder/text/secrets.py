"""Redacts strings that look like keys, tokens or passwords: `REDACTED_<KIND>_<hash>` replaces them.

A model memorises what it sees, and a key that was once committed stays in the history. So every text passes through
`redact` before it goes any further, even into a cache. The patterns are in `secrets.toml`: to add one, add a line there
and an example to `tests/text/test_secrets.py`. A pattern is tried only where one of its literals occurs, so a text
without any costs one fast search. A test, a function `is_…` that is given the match and the value, decides whether what
a pattern finds is a secret.
"""

from __future__ import annotations

import hmac
import re
import tomllib
from collections import Counter, defaultdict
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.text.secret_values import TESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

VALUE_GROUPS = ("secret", "quoted", "bracketed", "element", "parameter", "bare", "inline", "loose")
"""Groups of an expression that hold the secret. Of one match, at most one of them is not empty."""
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
    "an SSH private key": r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_sk)?",
    "a key store": r".*\.(?:p12|pfx|jks|jceks|bks|keystore|kdbx|ppk)",
    "an environment file": r"\.env(?:\.(?!example|sample|template|dist|defaults?$).*)?|\.envrc",
    "a credentials file":
        r"credentials\.json|\.git-credentials|\.netrc|_netrc|\.pgpass|\.pypirc|\.htpasswd|\.dockercfg|.*\.tfstate",
}  # fmt: skip
"""Expressions for names of files that consist of secrets, by the reason for dropping the file."""
FILES_WITH_SECRETS = {
    "a private key": r".*\.(?:pem|key|asc|der|pkcs8|p8)",
    "a configuration with a secret in it":
        r"\.npmrc|\.yarnrc(?:\.yml)?|nuget\.config|service[-_]?account.*\.json|kubeconfig|auth\.json",
}  # fmt: skip
"""The same for files that are only dropped if they contain a secret."""


class SecretPattern(NamedTuple):
    """One way to recognise secrets of one kind."""

    kind: str
    """What replaces the secret: `REDACTED_<kind>_<hash>`."""
    literals: tuple[bytes, ...]
    """The expression is tried where one of these occurs."""
    expression: bytes
    """A regular expression. One of the groups in `VALUE_GROUPS` is the secret, or the whole match if there is none. A
    group `before` extends the secret to the left."""
    accepts: Callable[[re.Match[bytes], bytes], bool]
    """Given the match and the secret, whether it is a secret and not, for example, a placeholder."""


def _load_patterns() -> tuple[SecretPattern, ...]:
    """The patterns of `secrets.toml`."""
    table = tomllib.loads((files("git_starcoder.text") / "secrets.toml").read_text(encoding="utf-8"))
    parts: dict[str, str] = {}
    for name, expression in table["parts"].items():
        parts[name] = _fill_in(expression, parts)
    patterns: list[SecretPattern] = []
    for entry in cast("list[dict[str, Any]]", table["patterns"]["entries"]):
        token = entry.get("token", "")
        expression = entry.get("expression", f"<BEFORE>(?:{token})<AFTER>")
        if "before" in entry:  # the match begins at the literal and looks back from there
            expression = f"(?<=(?P<before>(?<![A-Za-z0-9_-]){entry['before']})){token}<AFTER>"
        literals = entry.get("literals", [])
        literals = literals.split() if isinstance(literals, str) else literals
        encoded = tuple(literal.encode() for literal in (*_spellings(entry.get("spellings", "")), *literals))
        test = TESTS[entry.get("test", "random")]
        patterns.append(SecretPattern(entry["kind"], encoded, _fill_in(expression, parts).encode(), test))
    return tuple(patterns)


def _fill_in(expression: str, parts: Mapping[str, str]) -> str:
    """An expression with each `<NAME>` replaced by the part of that name, on one line."""
    joined = "".join(line.strip() for line in expression.split("\n"))
    return re.sub(r"<([A-Z_]+)>", lambda match: parts[match[1]], joined)


def _spellings(names: str) -> list[str]:
    """Names as code spells them: `api_key` also as `api-key`, `apikey`, `apiKey`, `ApiKey`, `API_KEY`, `API key`, …."""
    found: set[str] = set()
    for name in names.split():
        parts = name.split("_")
        for glue in "_", "-", ".", " ", "":
            capital = glue.join(part.capitalize() for part in parts)
            found |= {glue.join(parts), glue.join(parts).upper(), capital, capital[0].lower() + capital[1:]}
            found |= {glue.join(parts).capitalize(), glue.join((parts[0].upper(), *parts[1:]))}
            found.add(glue.join((parts[0].upper(), *(part.capitalize() for part in parts[1:]))))
    return sorted(found)


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
    return redacted._replace(text=message, counts=redacted.counts + Counter(EMAIL=email_count))


def secret_file_reason(path: str, text: bytes = b"") -> str:
    """Why a file should be dropped as a whole for its name, or for its name and a secret in its text; else "".

    The text may be redacted already.
    """
    name = path.rpartition("/")[2].lower()
    for reason, expression in (SECRET_FILES | FILES_WITH_SECRETS).items():
        if re.fullmatch(expression, name):
            is_secret = reason in SECRET_FILES or REDACTED_MARK.search(text) or redact(text).counts
            return reason if is_secret else ""
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
            if (match := _compiled(order).match(text, position)) is None:
                continue
            group = next((name for name in VALUE_GROUPS if name in match.re.groupindex and match[name]), 0)
            stop = match.end(group)
            start = match.start("before" if "before" in match.re.groupindex else group)
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


PATTERNS = _load_patterns()
"""All patterns. Where several find the same secret, the first one names it."""
