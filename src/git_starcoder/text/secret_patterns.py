"""What a secret looks like: its kind, the literals that it begins with, and a regular expression.

An expression is tried only where one of its literals stands, so a text without any costs one fast search. None can take
long on any text: a run without a limit is possessive and cannot begin within itself, all else is bounded. The prefixes
are those that the issuers document.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    Accepts = Callable[[re.Match[bytes], bytes], bool]


class Pattern(NamedTuple):
    """One kind of secret."""

    kind: str
    literals: tuple[bytes, ...]
    """Where the expression is tried; case counts."""
    regex: re.Pattern[bytes]
    """The group `secret` is the secret, or the whole match where there is none."""
    accepts: Accepts
    """Whether what was found is a secret and not a placeholder, given the match and the secret."""


TEMPLATE = re.compile(
    rb"[$#]\{|\$\(|\{\{|\{[\w.:!]{0,40}\}|%[sdv@]|%\(|\A<.*>\Z|\A\$[\w.-]+\$?\Z|\A%\w+%\Z|\A\[.*\]\Z"
    rb"|(?i:environ|getenv|\benv\.)|\(\)|\);|\(\?|\\[swdbSWD]|\][*+?{]"
)
"""A value that is put in later or looked up, a piece of code, a regular expression."""
PLACEHOLDER = re.compile(
    rb"(?i)xxxx|\*{3}|\.{3}|change[-_]?(?:me|this|it)|example|placeholder|dummy|fake|redacted|replace|insert|your[-_]"
    rb"|my[-_](?:secret|token|api|key|pass)|foo[-_]?bar|lorem"
)
"""What only a made-up secret has in it."""
EASY = re.compile(
    rb"(?i)test|secret|token|passw|pass\d|user|admin|login|key|sample|demo|mock|null|none|true|false|default|field|auth"
    rb"|label|text|error|message|required|confirm|valid"
)
"""What made-up passwords of words and numbers have in them, and the names of things."""
OTHER = re.compile(
    rb"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"  # a UUID
    rb"|(?:sha\d{1,3}|md5|blake\w{1,3})[-:=].*|\$(?:2[abxy]|argon2\w{1,2}|[156])\$.*"  # a hash, an SRI
    rb"|[~^<>=v]{0,3}\d+(?:\.\d+)+[-+.\w]*|[a-z][a-z0-9+.-]{0,20}:.*|[\d\W]+"  # a version, a URI, no letter
)
"""What is no secret, whatever its name."""
HASHED = re.compile(rb"(?i)hash|digest|checksum|sha\d|md5|fingerprint|regex|pattern|ur[il]|path|file|endpoint")
"""In a name: the value says something about the secret and is not it."""
LOOKUP = re.compile(rb"(?i)get|env|load|read|fetch|find|open|path|query|select|hash|compile|regex")
"""In the name of a function: what it is given is not the secret."""
WORDS = re.compile(rb"[-_./:~@#]{0,3}[A-Za-z\x80-\xff]+(?:[-_./:@]{1,2}[A-Za-z\x80-\xff]+)*[-_./:@]{0,2}")
"""An identifier, a path, a phrase."""
NUMBERED_WORDS = re.compile(rb"[-_./:~@#]{0,3}[A-Za-z]+\d{0,4}(?:[-_./:@]{1,2}(?:[A-Za-z]+\d{0,4}|\d{1,4}))*")
"""The same with small numbers: `user1`, `v2/tokens`, `Summer2024`."""
PASSWORD = re.compile(rb"(?i)pass(?:wor[dt]|wd|phrase)|pwd")
"""A name of what people think up themselves."""
DIGIT = re.compile(rb"\d")
CAPITAL = re.compile(rb"[A-Z]")


def _group(match: re.Match[bytes], name: str) -> bytes:
    return (match[name] or b"") if name in match.re.groupindex else b""


def _random(_: re.Match[bytes], secret: bytes) -> bool:
    return len(set(secret)) > 6 and not PLACEHOLDER.search(secret)


def _mixed(match: re.Match[bytes], secret: bytes) -> bool:
    """Has a digit and a capital, unlike words between hyphens."""
    return bool(DIGIT.search(secret) and CAPITAL.search(secret)) and _random(match, secret)


def _header(match: re.Match[bytes], secret: bytes) -> bool:
    return bool(DIGIT.search(secret)) and not NUMBERED_WORDS.fullmatch(secret) and _random(match, secret)


def _always(_match: re.Match[bytes], _secret: bytes) -> bool:
    return True


def _url_password(match: re.Match[bytes], secret: bytes) -> bool:
    if secret == match["user"] or TEMPLATE.search(secret) or PLACEHOLDER.search(secret):
        return False
    return not (EASY.search(secret) and NUMBERED_WORDS.fullmatch(secret))


def _django(_: re.Match[bytes], secret: bytes) -> bool:
    return not secret.isalnum() and not WORDS.fullmatch(secret) and not PLACEHOLDER.search(secret)


def _assigned(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a secret that a name like `password` is given: no template, hash, path or identifier."""
    name = match["name"]
    if (
        HASHED.search(name)
        or LOOKUP.search(_group(match, "call"))
        or TEMPLATE.search(secret)
        or PLACEHOLDER.search(secret)
    ):
        return False
    if OTHER.fullmatch(secret) or len(set(secret)) < 5:
        return False
    if _group(match, "bare"):  # without quotes code looks alike, but for several digits
        return len(DIGIT.findall(secret)) > 1 and not secret.startswith(b"0x") and not NUMBERED_WORDS.fullmatch(secret)
    if NUMBERED_WORDS.fullmatch(secret):  # Summer2024 and correct-horse-battery-staple are passwords and no tokens
        long_enough = len(secret) >= (20 if WORDS.fullmatch(secret) else 8)
        return (
            bool(PASSWORD.fullmatch(name))
            and long_enough
            and not re.search(rb"[/:]", secret)
            and not EASY.search(secret)
        )
    return not WORDS.fullmatch(secret)


def _spelled(*names: str) -> tuple[bytes, ...]:
    """Names as code spells them: `api_key`, `api-key`, `apikey`, `apiKey`, `ApiKey`, `API_KEY` and so on."""
    found: set[str] = set()
    for name in names:
        parts = name.split("_")
        for glue in "_", "-", "":
            capital = glue.join(part.capitalize() for part in parts)
            found |= {glue.join(parts), glue.join(parts).upper(), capital, capital[0].lower() + capital[1:]}
            found.add(glue.join(parts).capitalize())
    return tuple(name.encode() for name in sorted(found))


def _pattern(kind: str, literals: str, regex: bytes, accepts: Accepts = _random) -> Pattern:
    return Pattern(kind, tuple(literals.encode().split()), re.compile(regex), accepts)


# A group is never possessive: before 3.11.5 Python loses matches of those.
_B = rb"(?<![A-Za-z0-9_-])"  # not within a longer run, which would be matched again from each of its characters
_E = rb"(?![A-Za-z0-9_-])"
_BETWEEN = rb"[\s\"'`+\\,;#*|>bnr/%!.()\[\]-]"  # lines of a key: line ends, also escaped ones, quotes, comment marks
_ASSIGNED = re.compile(
    rb"(?P<name>[A-Za-z0-9_-]{3,40}+)[\"'`]?\]?[ \t]{0,8}"
    rb"(?::[ \t]?[&*\w<>.'\[\]?]{1,24}(?: \w{1,16})?[ \t]{0,2}(?==))?"  # a type
    rb"(?:(?:[!=]?={1,3}>?|:=?|=>)\s{0,8}(?:new )?(?P<call>[A-Za-z_][\w:.]{0,40}+\()?[rbfuL@$]{0,2}+#{0,3}+"
    rb"(?P<quote>\"{3}|'{3}|[\"'`])(?P<quoted>(?:(?!(?P=quote))[^\s\\]|\\\S){8,256})(?P=quote)"
    rb"|[=:][ \t]{0,8}(?P<bare>[A-Za-z0-9+/=_.~@#!%^&*-]{8,256}+)(?=[ \t]*+(?:#|\n|\Z)))"
)
_KEY_BLOCK = (
    # A header, perhaps some fields, and base64 at once: the constant in the source of a parser is no key.
    rb"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:" + _BETWEEN + rb"{0,64}+[A-Z][A-Za-z-]{2,20}+: [^\n\\\"]{0,100}+){0,6}" + _BETWEEN + rb"{0,64}+"
    rb"[A-Za-z0-9/+=]{32,}+(?:[^-]*+(?:-(?!----)[^-]*+){0,4000}-----END[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"|(?:" + _BETWEEN + rb"{1,64}+[A-Za-z0-9/+=]{16,}+){0,4000})"  # one that breaks off
)
_PASSWORDS = _spelled("passw", "pass_word", "passphrase", "pass_phrase", "pwd")
_SECRETS = _spelled("secret", "token", "api_key", "access_key", "private_key", "auth_key", "encryption_key")

PATTERNS = (
    _pattern("PRIVATE_KEY", "-----BEGIN", _KEY_BLOCK, _always),
    _pattern("AWS_KEY", "AKIA ASIA ABIA ACCA", _B + rb"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}" + _E),
    _pattern(
        "AWS_SECRET",
        "AKIA ASIA",  # with its id before it
        rb"A(?:KI|SI)A[A-Z0-9]{16}[^A-Za-z0-9/+]{1,12}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    Pattern(
        "AWS_SECRET",
        _spelled("secret"),
        re.compile(
            rb"(?i)(?P<name>secret[_-]?(?:access[_-]?)?key)[\"'`]?\]?\s{0,4}(?:=>?|:=?)\s{0,4}[\"'`]?"
            rb"(?P<secret>[A-Z0-9/+]{40})(?![A-Z0-9/+=])"
        ),
        _mixed,
    ),
    _pattern("AZURE_KEY", "AccountKey= AccessKey=", rb"A\w{5,6}Key=(?P<secret>[A-Za-z0-9+/]{43,86}={1,2})"),
    _pattern("TWILIO_KEY", "AC SK", _B + rb"(?:AC|SK)[0-9a-f]{32}" + _E),
    _pattern("JWT", "eyJ", _B + rb"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{16,}+", _always),
    _pattern("GITHUB_TOKEN", "ghp_ gho_ ghu_ ghs_ ghr_", _B + rb"gh[pousr]_[A-Za-z0-9]{36,255}+" + _E),
    _pattern("GITHUB_TOKEN", "github_pat_", _B + rb"github_pat_[A-Za-z0-9_]{36,255}+" + _E),
    _pattern("GITLAB_TOKEN", "glpat- glptt- gldt- glrt- glcbt- glsoat- glft-", _B + rb"gl[a-z]{2,4}-[\w.-]{20,255}+"),
    _pattern("SLACK_TOKEN", "xox xapp-", _B + rb"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{15,255}+" + _E, _header),
    _pattern("SLACK_TOKEN", "hooks.slack.com/", rb"hooks\.slack\.com/\w{8,9}/(?P<secret>[A-Za-z0-9/+]{36,128}+)"),
    _pattern("NPM_TOKEN", "npm_", _B + rb"npm_[A-Za-z0-9]{36}" + _E),
    _pattern("PYPI_TOKEN", "pypi-Ag", _B + rb"pypi-Ag[A-Za-z0-9_-]{50,}+"),
    _pattern("HF_TOKEN", "hf_ api_org_", _B + rb"(?:hf|api_org)_[A-Za-z0-9]{34,40}" + _E),
    _pattern("ANTHROPIC_KEY", "sk-ant-", _B + rb"sk-ant-[A-Za-z0-9_-]{32,}+", _mixed),
    _pattern("OPENAI_KEY", "sk-", _B + rb"sk-(?!ant-)[A-Za-z0-9_-]{32,}+", _mixed),
    _pattern("GOOGLE_KEY", "AIza", _B + rb"AIza[A-Za-z0-9_-]{35}" + _E),
    _pattern("GOOGLE_KEY", "GOCSPX-", _B + rb"GOCSPX-[A-Za-z0-9_-]{28}" + _E),
    _pattern(
        "STRIPE_KEY", "sk_live_ rk_live_ sk_test_ rk_test_", _B + rb"[sr]k_(?:live|test)_[A-Za-z0-9]{16,255}+" + _E
    ),
    _pattern("STRIPE_KEY", "whsec_", _B + rb"whsec_[A-Za-z0-9+/=]{24,128}+"),
    _pattern("SENDGRID_KEY", "SG.", _B + rb"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}" + _E),
    _pattern(
        "URL_PASSWORD",
        "://",
        rb"://(?P<user>[^\s/:@\"'`<>\\]{0,64}):(?P<secret>[^\s/@\"'`<>\\]{6,128})@[A-Za-z0-9\[$_{%]",
        _url_password,
    ),
    _pattern(
        "AUTH_HEADER",
        "Bearer bearer Basic basic",
        rb"(?i:bearer|basic) (?P<secret>[A-Za-z0-9._~+/-]{16,2048}+={0,2})",
        _header,
    ),
    _pattern(
        "DJANGO_KEY",
        "SECRET_KEY",
        rb"SECRET_KEY[ \t]{0,8}=[ \t]{0,8}(?P<quote>[\"'])(?P<secret>[^\"'\s\\]{40,128})(?P=quote)",
        _django,
    ),
    Pattern("PASSWORD", _PASSWORDS, _ASSIGNED, _assigned),
    Pattern("SECRET", _SECRETS, _ASSIGNED, _assigned),
)
"""Where two find the same place, the one higher up names it."""
