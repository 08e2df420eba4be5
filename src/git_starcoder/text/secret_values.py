"""What a pattern of a secret is, and what its value may be: a secret, or a placeholder, a name, a path, a hash.

The functions `is_…` are given the match and the value found; `Pattern.accepts` is one of them.
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
    form: bytes
    """A regular expression. One of the groups `VALUES` is the secret; where there is none of them, the whole match."""
    accepts: Accepts
    """Whether what was found is a secret and not a placeholder, given the match and the secret."""

    @property
    def regex(self) -> re.Pattern[bytes]:
        """The expression, compiled. Whoever needs it more than once keeps it: most are never needed."""
        return re.compile(self.form)


VALUES = ("secret", "quoted", "bracketed", "element", "parameter", "bare", "inline", "loose")
"""Groups of an expression that hold the secret; of one match, one is not empty."""

TEMPLATE = re.compile(
    rb"[$#]\{|\$\(|\{\{|\{\$?[\w.:!]{0,40}\}|%[sdv@]|%0\d?[dxX]|\[\$\w+\]|%\(|%[YmdHMS][-:/T]|\\\(|<[%?]"
    rb"|(?:\A|[/=:_-])<\w+>|&[lg]t;|\?\.|\A&#?\w+;\Z"  # a part is put in
    rb"|\A<.*>\Z|\A%[^%]+%\Z|\A\[.*\]\Z|\A\(.*\)\Z|\A@\w+@\Z|\A__\w+__\Z"
    rb"|\A@?[\w.:>-]+\(.*\)\Z|\A%[A-Z]{3}"  # all of it
    rb"|\A[\"'`]?\+\w+\+[\"'`]?\Z|\A([*#%@-])\1.*\1{2}\Z|\A\^.*\$\Z"
    rb"|\A\$[\w.-]+\$?\Z|\A\$[a-z]{4,}\$|(?:\A|[^\w$])\$[A-Za-z_]{3,}+(?![\d$])"  # a variable
    rb"|(?i:environ|getenv|\benv\.)|\(\)|\);|\A[),;\]}.].*\(|\(\Z|\A\{\\*\"|\A\w+:[\"']"  # code
    rb"|\(\?|\\[swdbSWD]|\][*+?{]"  # a regular expression
    rb"|(?i:%7b.*%7d|%26\w+%3d|%3a%2f|\A(?:%[0-9a-f]{2}){3,}\Z|(?:\\x[0-9a-f]{2}){3}|_x[0-9a-f]{4}_)|[a-z]\\[nrt][a-z]"
)
"""A value that is put in later or looked up, a piece of code, a regular expression."""
PLACEHOLDER = re.compile(
    rb"(?i)xxxx|\*{3}|\.{3}|change[-_]?(?:me|this|it)|example|placeholder|dummy|fake|redacted|removed|masked|hidden|replace|insert|your[-_]|(?-i:[Yy]our(?:Pw|Pass|Secret|Token|Key|Api))"
    rb"|my[-_](?:secret|token|api|key|pass)|foo[-_]?bar|lorem|[-_ ]character|crwdn[se]\d"
)
"""What only a made-up secret has in it."""
EASY = re.compile(
    rb"(?i)test|secret|token|passw|pass\d|user|admin|login|key|sample|demo|mock|null|none|true|false|default|field|auth"
    rb"|label|text|error|message|required|confirm|valid"
)
"""What made-up passwords of words and numbers have in them, and the names of things."""
UUID = re.compile(rb"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OTHER = re.compile(
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
"""What is no secret, whatever its name."""
WORDS = re.compile(rb"[-_./:~@#]{0,3}[A-Za-z\x80-\xff]+(?:[-_./:@,=|\\]{1,2}[A-Za-z\x80-\xff]+)*[-_./:@,=]{0,2}")
"""An identifier, a path, a phrase."""
_WORD = rb"(?:[A-Za-z]+\d{0,4}|\d[A-Za-z]{2,12}|[a-z]{1,3}\d{1,3}[a-z]{1,3}|[A-Za-z]{0,2}25519)"
NUMBERED_WORDS = re.compile(rb"[-_./:~@#]{0,3}" + _WORD + rb"(?:[-_./:@,=|\\]{1,2}(?:" + _WORD + rb"|\d{1,4}))*=?")
"""The same with small numbers: `user1`, `v2/tokens`, `Summer2024`, `2FA`, `k8s`."""
ESCAPED = re.compile(rb"\\{1,8}u([0-9A-Fa-f]{4})")
FOREIGN = re.compile(rb"[\xcd-\xdf\xe0\xe1\xe3-\xed]")
"""A letter of another script than the Latin one, in UTF-8."""
NAMES = re.compile(rb"(?i)(?:access|secret|api|account|private|auth|session)[-_]?(?:key|token|secret)")
"""What is in a value that says what would be there."""
DIGIT = re.compile(rb"\d")
CAPITAL = re.compile(rb"[A-Z]")
SMALL = re.compile(rb"[a-z]")


PART = re.compile(rb"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
"""A word of an identifier: `xml`, `Http`, `URL`, `2`."""


def is_scattered(secret: bytes) -> bool:
    """Whether kinds of characters change more often than in an identifier: `k3j9x2m8`, unlike `base64url2bytes`."""
    parts = PART.findall(secret)
    return len(secret) > 7 and len(parts) > 3 and sum(map(len, parts)) <= 2.5 * len(parts)


def is_jumbled(secret: bytes) -> bool:
    """Whether it is so with capitals and small letters, as in no name of anything: `qWbTzKrLmp7d`."""
    return bool(SMALL.search(secret) and CAPITAL.search(secret)) and is_scattered(secret)


def with_letters(secret: bytes) -> bytes:
    r"""A value whose `\uXXXX` are the letters that they stand for."""
    if b"\\u" not in secret:
        return secret
    return ESCAPED.sub(lambda match: chr(int(match[1], 16)).encode(errors="replace"), secret)


def is_alphabet(secret: bytes) -> bool:
    """Whether it is the characters that a password is drawn from: a to z, and digits or capitals."""
    small = secret.lower()
    letters = small.count(b"abcdefghijklmnopqrstuvwxyz")
    return letters > 1 or (letters > 0 and (b"0123456789" in small or b"1234567890" in small))


def is_label(secret: bytes) -> bool:
    """Whether it is a text of a translation, in a script in which few write passwords."""
    return bool(FOREIGN.search(secret)) and len(DIGIT.findall(secret)) < 4


def is_anything(_match: re.Match[bytes], _secret: bytes) -> bool:
    """Nothing else has this form."""
    return True


def is_key(_match: re.Match[bytes], secret: bytes) -> bool:
    """Base64, unlike the A's or X's of an example."""
    return len(set(secret)) > 32


def is_random(_: re.Match[bytes], secret: bytes) -> bool:
    """Many characters, and no placeholder."""
    return len(set(secret)) > 6 and not PLACEHOLDER.search(secret)


def is_mixed(match: re.Match[bytes], secret: bytes) -> bool:
    """Has a digit and a capital, unlike words between hyphens."""
    return bool(DIGIT.search(secret) and CAPITAL.search(secret)) and is_random(match, secret)


def is_numbered(match: re.Match[bytes], secret: bytes) -> bool:
    """Has digits and is not made of words with a number behind them."""
    return bool(DIGIT.search(secret)) and not NUMBERED_WORDS.fullmatch(secret) and is_random(match, secret)


def is_password(_: re.Match[bytes], secret: bytes) -> bool:
    """Where nothing but a password can stand: all but templates, placeholders and the usual words of examples."""
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 4:
        return False
    if b"." in secret and WORDS.fullmatch(secret.rstrip(b")]}") + b"."):  # the end of a sentence, an attribute
        return False
    return not (EASY.search(secret) and NUMBERED_WORDS.fullmatch(secret))
