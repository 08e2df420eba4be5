"""Patterns of secrets that are known by their own form, and the tests that tell a secret from other values.

The forms of tokens are those that issuers document and that the scanners gitleaks and TruffleHog search for. A token
without a typical beginning is found by the name that it is assigned to (`secret_assignments`). Publishable keys
(`pk_live_…`, `phc_…`) are not secrets.

To add a token, add a line to `secret_patterns.toml` and an example to `tests/text/test_secrets.py`. A pattern is tried
only where one of its literals occurs, so a text without any costs one fast search. No pattern may take long on any
text: a run without a limit is possessive and cannot begin within itself, and everything else is bounded.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from importlib.resources import files
from typing import NamedTuple, cast

Accepts = Callable[[re.Match[bytes], bytes], bool]


class SecretPattern(NamedTuple):
    """One way to recognise secrets of one kind."""

    kind: str
    """What replaces the secret: `REDACTED_<kind>_<hash>`."""
    literals: tuple[bytes, ...]
    """The expression is tried where one of these occurs; case counts."""
    expression: bytes
    """A regular expression. One of the groups in `VALUE_GROUPS` is the secret, or the whole match if there is none. A
    group `before` extends the secret to the left."""
    accepts: Accepts
    """Given the match and the secret, whether it is a secret and not, for example, a placeholder."""


VALUE_GROUPS = ("secret", "quoted", "bracketed", "element", "parameter", "bare", "inline", "loose")
"""Groups of an expression that hold the secret. Of one match, at most one of them is not empty."""

# Expressions for values.
TEMPLATE = re.compile(
    rb"[$#]\{|\$\(|\{\{|\{\$?[\w.:!]{0,40}\}|%[sdv@]|%0\d?[dxX]|\[\$\w+\]|%\(|%[YmdHMS][-:/T]|\\\(|<[%?]"
    rb"|(?:\A|[/=:_-])<\w+>|&[lg]t;|\?\.|\A&#?\w+;\Z"  # a part is filled in
    rb"|\A<.*>\Z|\A%[^%]+%\Z|\A\[.*\]\Z|\A\(.*\)\Z|\A@\w+@\Z|\A__\w+__\Z"
    rb"|\A@?[\w.:>-]+\(.*\)\Z|\A%[A-Z]{3}"  # all of it is
    rb"|\A[\"'`]?\+\w+\+[\"'`]?\Z|\A([*#%@-])\1.*\1{2}\Z|\A\^.*\$\Z"
    rb"|\A\$[\w.-]+\$?\Z|\A\$[a-z]{4,}\$|(?:\A|[^\w$])\$[A-Za-z_]{3,}+(?![\d$])"  # a variable
    rb"|(?i:environ|getenv|\benv\.)|\(\)|\);|\A[),;\]}.].*\(|\(\Z|\A\{\\*\"|\A\w+:[\"']"  # code
    rb"|\(\?|\\[swdbSWD]|\][*+?{]"  # a regular expression
    rb"|(?i:%7b.*%7d|%26\w+%3d|%3a%2f|\A(?:%[0-9a-f]{2}){3,}\Z|(?:\\x[0-9a-f]{2}){3}|_x[0-9a-f]{4}_)|[a-z]\\[nrt][a-z]"
)
"""A value that is filled in later or looked up, code, or a regular expression."""
PLACEHOLDER = re.compile(
    rb"(?i)xxxx|\*{3}|\.{3}|change[-_]?(?:me|this|it)|example|placeholder|dummy|fake|redacted|removed|masked|hidden|replace|insert|your[-_]|(?-i:[Yy]our(?:Pw|Pass|Secret|Token|Key|Api))"
    rb"|my[-_](?:secret|token|api|key|pass)|foo[-_]?bar|lorem|[-_ ]character|crwdn[se]\d"
)
"""What only an invented secret contains."""
COMMON_WORDS = re.compile(
    rb"(?i)test|secret|token|passw|pass\d|user|admin|login|key|sample|demo|mock|null|none|true|false|default|field|auth"
    rb"|label|text|error|message|required|confirm|valid"
)
"""Words in invented passwords such as `test1234`, and in names of things."""
UUID = re.compile(rb"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
NOT_SECRET = re.compile(
    rb"(?i)(?:hmac-)?(?:sha\d{1,3}|md5|blake\w{1,3})[-:=].*"  # a hash, an SRI
    rb"|.{0,64}\$(?:2[abxy]|argon2\w{1,2}|[156y]|apr1)\$.*|\$\d\$.*|\$[\w-]+\$[\w=,-]+\$.*"
    rb"|\*[0-9A-F]{40}|md5[0-9a-f]{32}|SCRAM-.*"  # a hash of a password
    rb"|[./~]{0,2}/(?:[a-z0-9._-]+/)+[\w.-]*|(?:[\w.-]+/)+[0-9a-f-]{36}|.*/\w+_request.*"  # a path, a signature's scope
    rb"|[a-z][a-z0-9+.-]{1,20}://.*|(?!base64:)[a-z]{2,20}:[\w./:@=?&%#^~*-]*"  # a URI
    rb"|[~^<>=v]{0,3}\d+(?:\.\d+)+[-+.\w]*|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){3,}|[\w.-]+\.[#*]"  # a version, an address
    rb"|[\w./-]+\.(?:ya?ml|json|toml|xml|ini|conf|cfg|env|enc|pem|key|crt|cer|txt|html?|md)"  # a file
    rb"|[\w./-]+\.(?:svg|png|gz|sh|py|rb|js|ts|j2|erb)"
    rb"|[a-z_/]+#[a-z_]+|(?:[a-z][\w-]{0,24}\.){2,}[a-z][\w$]*"  # a route, a class
    rb"|(?:required|nullable|sometimes|present|filled|confirmed|bail|string)\|.*"  # a rule of a validator
    rb"|a\d{3}(?:cbc|gcm|kw)[a-z0-9-]{0,8}|rsa-oaep(?:-\d+)?"  # an algorithm of JOSE
    rb"|0x(?:[0-9a-f]{40}|0[23][0-9a-f]{64})"  # an address and a public key of Ethereum
    rb"|\d{4}_[a-z]+(?:_[a-z0-9]+)*|(?-i:[A-Z][a-z]+(?:%20[A-Z][a-z]+)+)"  # a migration of Django, words in a URL
    rb"|\d{4}-\d\d-\d\dT.*|(?-i:eyJ)\w{0,16}|[\d\W]+"  # a time, the beginning of every JWT, no letter
)
"""Values that are not secrets, whatever they are assigned to."""
WORDS = re.compile(rb"[-_./:~@#]{0,3}[A-Za-z\x80-\xff]+(?:[-_./:@,=|\\]{1,2}[A-Za-z\x80-\xff]+)*[-_./:@,=]{0,2}")
"""An identifier, a path or a phrase, without digits."""
_WORD = rb"(?:[A-Za-z]+\d{0,4}|\d[A-Za-z]{2,12}|[a-z]{1,3}\d{1,3}[a-z]{1,3}|[A-Za-z]{0,2}25519)"
NUMBERED_WORDS = re.compile(rb"[-_./:~@#]{0,3}" + _WORD + rb"(?:[-_./:@,=|\\]{1,2}(?:" + _WORD + rb"|\d{1,4}))*=?")
"""The same with short numbers: `user1`, `v2/tokens`, `Summer2024`, `2FA`, `k8s`."""
UNICODE_ESCAPE = re.compile(rb"\\{1,8}u([0-9A-Fa-f]{4})")
NON_LATIN = re.compile(rb"[\xcd-\xdf\xe0\xe1\xe3-\xed]")
"""A letter of a script other than Latin, in UTF-8."""
KEY_NAMES = re.compile(rb"(?i)(?:access|secret|api|account|private|auth|session)[-_]?(?:key|token|secret)")
"""In a value that only names what belongs there, such as `YOUR_API_KEY`."""
DIGIT = re.compile(rb"\d")
UPPERCASE = re.compile(rb"[A-Z]")
LOWERCASE = re.compile(rb"[a-z]")
WORD_PART = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
"""A word of an identifier: `xml`, `Http`, `URL`, `2`."""


# Tests of values. Those with two parameters are given the match and the secret, as `SecretPattern.accepts` is.


def is_scattered(secret: bytes) -> bool:
    """Whether the kind of character changes more often than in an identifier: `k3j9x2m8`, not `base64url2bytes`."""
    parts = WORD_PART.findall(secret)
    return len(secret) > 7 and len(parts) > 3 and sum(map(len, parts)) <= 2.5 * len(parts)


def is_jumbled(secret: bytes) -> bool:
    """Whether it is scattered, with upper and lower case, as no name is: `qWbTzKrLmp7d`."""
    return bool(LOWERCASE.search(secret) and UPPERCASE.search(secret)) and is_scattered(secret)


def unescape(secret: bytes) -> bytes:
    r"""A value with the characters that its `\uXXXX` stand for."""
    if b"\\u" not in secret:
        return secret
    return UNICODE_ESCAPE.sub(lambda match: chr(int(match[1], 16)).encode(errors="replace"), secret)


def is_alphabet(secret: bytes) -> bool:
    """Whether it lists the characters that passwords are drawn from: a to z, with digits or upper case."""
    lower = secret.lower()
    alphabets = lower.count(b"abcdefghijklmnopqrstuvwxyz")
    return alphabets > 1 or (alphabets > 0 and (b"0123456789" in lower or b"1234567890" in lower))


def is_translation(secret: bytes) -> bool:
    """Whether it is a text for users in a script in which passwords are rarely written."""
    return bool(NON_LATIN.search(secret)) and len(DIGIT.findall(secret)) < 4


def is_anything(_match: re.Match[bytes], _secret: bytes) -> bool:
    """Accepts every match: nothing else has the form of the pattern."""
    return True


def is_base64_key(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it has many distinct characters, unlike the A's or X's of an example."""
    return len(set(secret)) > 32


def is_random(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it has several distinct characters and is not a placeholder."""
    return len(set(secret)) > 6 and not PLACEHOLDER.search(secret)


def is_mixed(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it has a digit and an upper-case letter, unlike words with hyphens between them."""
    return bool(DIGIT.search(secret) and UPPERCASE.search(secret)) and is_random(match, secret)


def is_numbered(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it has digits and is not made of words with a number after them."""
    return bool(DIGIT.search(secret)) and not NUMBERED_WORDS.fullmatch(secret) and is_random(match, secret)


def is_password(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it may be a password, for a place where only passwords stand.

    Anything is, except templates, placeholders and the usual words of examples.
    """
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 4:
        return False
    if b"." in secret and WORDS.fullmatch(secret.rstrip(b")]}") + b"."):  # the end of a sentence, an attribute
        return False
    return not (COMMON_WORDS.search(secret) and NUMBERED_WORDS.fullmatch(secret))


# Expressions of patterns. A group is never possessive: before 3.11.5, Python loses matches of those.
BEFORE = rb"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt])|(?<=%[0-9A-Fa-f]{2}))"
"""The match does not begin within a longer run, which would otherwise be tried from each of its characters."""
AFTER = rb"(?![A-Za-z0-9_-])"
KEY_LINES = rb"[\s\"'`+\\,;#*|>bnr/%!.()\[\]-]"
"""What is between the lines of a key: line ends, also escaped ones, quotes, comment marks."""
KEY_BLOCK = (
    # A header, perhaps some fields, and then base64 at once: the constant in the source of a parser is not a key.
    rb"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:" + KEY_LINES + rb"{0,64}+[A-Z][A-Za-z-]{2,20}+: [^\n\\\"]{0,100}+){0,6}" + KEY_LINES + rb"{0,64}+"
    rb"[A-Za-z0-9/+=]{32,}+(?:[^-]*+(?:-(?!----)[^-]*+){0,4000}-----END[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"|(?:" + KEY_LINES + rb"{1,64}+[A-Za-z0-9/+=]{16,}+){0,4000})"  # one that breaks off
)
"""A private key in PEM format."""
UUID_TEXT = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def secret_pattern(
    kind: str, literals: str | tuple[bytes, ...], expression: bytes, accepts: Accepts = is_random
) -> SecretPattern:
    """A pattern. Literals in one string are separated by spaces."""
    parts = tuple(literals.encode().split()) if isinstance(literals, str) else literals
    return SecretPattern(kind, parts, expression, accepts)


def _load_token_patterns() -> tuple[SecretPattern, ...]:
    """The patterns of `secret_patterns.toml`."""
    table = tomllib.loads((files("git_starcoder.text") / "secret_patterns.toml").read_text(encoding="utf-8"))
    tests: dict[str, Accepts] = {
        "anything": is_anything,
        "base64_key": is_base64_key,
        "mixed": is_mixed,
        "numbered": is_numbered,
        "random": is_random,
    }
    parts = {b"<BEFORE>": BEFORE, b"<AFTER>": AFTER, b"<UUID>": UUID_TEXT, b"<LINES>": KEY_LINES, b"<BLOCK>": KEY_BLOCK}
    patterns: list[SecretPattern] = []
    for entry in cast("list[dict[str, str]]", table["patterns"]):
        token = entry.get("token", "")
        if "before" in entry:  # the match begins at the literal and looks back from there
            expression = f"(?<=(?P<before>(?<![A-Za-z0-9_-]){entry['before']})){token}<AFTER>"
        else:
            expression = entry.get("expression", f"<BEFORE>(?:{token})<AFTER>")
        filled = expression.encode()
        for name, part in parts.items():
            filled = filled.replace(name, part)
        patterns.append(secret_pattern(entry["kind"], entry["literals"], filled, tests[entry.get("test", "random")]))
    return tuple(patterns)


TOKEN_PATTERNS = _load_token_patterns()
"""Private keys, and tokens by what they begin with or contain."""
