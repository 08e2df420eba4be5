"""Decides whether a match of a pattern for secrets is one, or a placeholder, a name, code, or a public value.

Each pattern in `secrets.toml` names one of the `TESTS`.
"""

from __future__ import annotations

import re

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
PLAIN_WORDS = re.compile(rb"[-_./:~@#]{0,3}[A-Za-z\x80-\xff]+(?:[-_./:@,=|\\]{1,2}[A-Za-z\x80-\xff]+)*[-_./:@,=]{0,2}")
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
    """Whether it is no template, placeholder or usual word of examples, for a place where only passwords stand."""
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 4:
        return False
    if b"." in secret and PLAIN_WORDS.fullmatch(secret.rstrip(b")]}") + b"."):  # the end of a sentence, an attribute
        return False
    return not (COMMON_WORDS.search(secret) and NUMBERED_WORDS.fullmatch(secret))


# Values in context. A name such as `password` is connected with its value in many ways. All of them are one expression,
# the part `ASSIGNMENT` in `secrets.toml`. It is tried where the name begins, so that a name without a value costs one
# attempt. Its groups are:
#
#    text                               name               close  sign  value in group
#    db_password = "…"                  password                  =     quoted
#    "password": '…'                    password           "      :     quoted
#    setPassword("…")                   Password                  (     quoted
#    define('DB_PASSWORD', '…')         PASSWORD           '      ,     quoted
#    password "…"                       password                  empty quoted
#    secret = [[…]]                     secret                    =     bracketed
#    ?token=…&user=…                    token                           parameter
#    password: …  (end of the line)     password                        bare
#    Server=db;Password=…;              Password                        inline
#    --password …                       password                        loose
#    <password>…</password>             password                        element
#
# What is before the group `name` (`db_`) is its prefix.

PROPERTY_NAME = re.compile(
    rb"(?i)hash|digest|checksum|sha\d|md5|fingerprint|regex|pattern|ur[il]|path|file|endpoint|(?<!user)name|type|kind"
    rb"|label|title|field|column|header|prefix|suffix|len(?:gth)?(?![a-z])|size|(?<!ac)count|limit|expir|ttl|timeout"
    rb"|(?<!up)date|time|version|algo|arn(?![a-z])|policy|rule|status|scope|issuer|audience|input|form|prompt|hint|help"
    rb"|desc|strength|require|enabled|disabled|encod|selector|iz(?:e|ing)|less(?![a-z])|accessor|chars|alphabet"
    rb"|separator|delimit|model|resource|provider|duration|lease|period|public[_-]?key|address|contract"
    rb"|(?<!access[_-]key[_-])(?<!accesskey)ids?\Z"
)
"""In a name: the value is a property of the secret, such as its hash, not the secret."""
EXCLUDING_PREFIX = re.compile(
    rb"(?i)(?:public[_-]?key|hashed|encrypted|csrf|xsrf|\bno)[_.-]?\Z|\AREDACTED_|[^a-z]REDACTED_"
)
"""Prefix of a name whose value is not secret, or that is another word."""
POSITION_TOKEN = re.compile(rb"(?i)(?:next|page|pagination|continuation|cancell?(?:ation)?|sync|resume)[_.-]?token")
"""Name of a token that marks a position, such as a page."""
CREDENTIAL_NAME = re.compile(
    rb"(?i)(?:secret(?:[_-]?id)?|token|passw(?:or)?d|pwd|(?<=[\w.-])pass|key|credentials?)(?:[_-]?value)?\d{0,2}\Z"
)
"""End of a name whose value is a credential even if it is a UUID."""
LOOKUP_FUNCTION = re.compile(
    rb"(?i)get|env|load|read|fetch|find|open|path|query|select|hash|compile|regex|guid|uuid|mask|redact|scrub|parse|shuffle"
)
"""In the name of a function whose argument is not the secret itself."""
TOKEN_FUNCTION = re.compile(rb"(?i)(?:build|create|generate|make|issue|mint|sign)_?\w*(?:token|jwt)\w*[(]|\.set[(]\Z")
"""A function that makes a token from its argument, or returns one for it, as Python's `ContextVar.set` does."""
HASH_CALL = re.compile(rb"(?i)(?:hash|hmac|digest|md5|sha\d{1,3}|crypt|pbe|pbkdf)\w{0,16}\([\"'`]\Z")
"""Before a name in quotes: the value after it is its hash."""
NEXT_PAIR = re.compile(rb"[ \t]{0,40}(?:=>|:(?!:))")
"""After a value: it is itself the key of a pair."""
LEXER_TOKEN = re.compile(rb"token[A-Z]\w+|Token[A-Z]\w+")
"""A kind of token of a lexer, unless it is the name of a credential."""
PASSWORD_NAME = re.compile(rb"(?i)pass(?:wor[dt]|wd|phrase|code)|pwd|masterauth|pass|pw|psk")
"""Name of something that people invent themselves, so that its value may consist of words."""
PASS_PREFIXES = tuple(b"db my user auth root smtp mail require ftp ssh sql admin host bind ldap".split())
"""Prefixes with which `pass` means a password: `dbpass`, but not `bypass`."""
CONSTANT_NAME = re.compile(rb"[A-Z][A-Z0-9]*_[A-Z0-9_]*")
PROGRAMS_WITH_JOINED_PASSWORD = re.compile(rb"mysql|mariadb|\b7z")
"""Programs that accept a password as `-p…`."""
PROGRAMS_WITH_SEPARATE_PASSWORD = re.compile(rb"mongo| login ")
"""Programs that accept one as `-p …`."""
TOKEN_VALUE = re.compile(rb"(?!0[xX])[\w+/.~-]{16,}={0,2}")
HEXADECIMAL_NUMBER = re.compile(rb"0x[0-9A-Fa-f]+")
ATTRIBUTE_NAME = re.compile(rb"[a-z]{1,16}\.[A-Z]\w*")
"""`package.Name`, if it consists of words."""
NAME_PREFIX = re.compile(rb"[\w.$-]{0,32}\Z")


def is_url_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password, for the part of a URL after the user name."""
    return secret != match["user"] and is_password(match, secret)


def is_django_key(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is as random as what Django generates, and not words."""
    return not secret.isalnum() and not PLAIN_WORDS.fullmatch(secret) and not PLACEHOLDER.search(secret)


def is_wordpress_salt(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is as random as what WordPress generates, with letters, digits and several other characters."""
    others = {byte for byte in secret if not chr(byte).isalnum()}
    return len(others) > 3 and len(set(secret)) > 12 and bool(DIGIT.search(secret)) and not PLACEHOLDER.search(secret)


def is_sql_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the password itself: SQL accepts its hash too. `identified by "a::b"` may be English."""
    is_hash_or_text = re.fullmatch(rb"\*[0-9A-F]{40}|md5[0-9a-f]{32}|SCRAM-.*|[a-z]+(?:::[a-z]+)+", secret)
    return is_password(match, secret) and not is_hash_or_text


def is_option_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether the value of `-p` is a password. For most programs it is a port or a path."""
    if re.search(rb"[:/]|\A[\d\W]+\Z", secret) or not DIGIT.search(secret) or not is_password(match, secret):
        return False
    is_separate = match["separator"].strip(b"\"'")
    programs = PROGRAMS_WITH_SEPARATE_PASSWORD if is_separate else PROGRAMS_WITH_JOINED_PASSWORD
    return bool(programs.search(_line_before(match)))


def _line_before(match: re.Match[bytes]) -> bytes:
    return match.string[max(0, match.start() - 200) : match.start()].rpartition(b"\n")[2]


def is_login_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the second half of `user:password`, not the group of a user."""
    if secret == match["user"] or not is_password(match, secret) or not re.search(rb"[A-Za-z]", secret):
        return False
    return not PLAIN_WORDS.fullmatch(secret) or b"curl" in _line_before(match)


def is_second_argument(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password, for a call whose second argument is one."""
    is_named = NUMBERED_WORDS.fullmatch(secret) or NOT_SECRET.fullmatch(secret)
    return secret != match["user"] and is_password(match, secret) and not is_named


def is_one_of_two(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password, for a call with two strings that may be a login: `auth("user", "…")`."""
    if not (DIGIT.search(secret) and re.search(rb"[A-Za-z]", secret)) or NOT_SECRET.fullmatch(secret):
        return False
    if NUMBERED_WORDS.fullmatch(secret) and not (secret.isalnum() and len(secret) > 7):
        return False
    return is_password(match, secret)


def is_npm_login(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is base64 and not an identifier."""
    has_form = LOWERCASE.search(secret) and (secret.endswith(b"=") or is_scattered(secret))
    return bool(has_form) and is_mixed(match, secret)


def is_assigned_secret(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether a value is a secret, not a template, hash, path or identifier, and its name means one."""
    name, sign, close = match["name"], match["sign"], match["close"]
    secret = unescape(secret)
    # Most values are short words, and this test is the fastest.
    if len(secret) < 15 and PLAIN_WORDS.fullmatch(secret) and not is_jumbled(secret):
        return False
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 5 or is_translation(secret):
        return False
    found = NAME_PREFIX.search(match.string[max(0, match.start() - 32) : match.start()])
    prefix: bytes = found[0] if found else b""  # of the whole name: `DB_` of `DB_PASSWORD`
    if EXCLUDING_PREFIX.search(prefix) or POSITION_TOKEN.search(prefix + name):
        return False
    if _is_no_name(match, prefix) or _is_argument(match, prefix):
        return False
    if UUID.fullmatch(secret):
        return bool(CREDENTIAL_NAME.search(prefix + name)) and not (sign == b"," and not close)
    if PROPERTY_NAME.search(name) or KEY_NAMES.search(secret) or NOT_SECRET.fullmatch(secret) or is_alphabet(secret):
        return False
    if sign is None and not close and not prefix and LEXER_TOKEN.fullmatch(name) and not CREDENTIAL_NAME.search(name):
        return False
    if match["quoted"] or match["bracketed"] or match["element"]:
        if sign == b"(" and name.lower().startswith(b"token"):  # else the call may belong to a lexer
            is_dense = secret.isalnum() and secret[:1] != b"0" and _is_dense(secret)
            if not is_dense and not TOKEN_VALUE.fullmatch(secret):
                return False
        return _is_quoted_secret(name, secret, is_loose=sign in {None, b""} or (sign == b"," and not close))
    return _is_unquoted_secret(match, prefix, secret)


def _is_no_name(match: re.Match[bytes], prefix: bytes) -> bool:
    """Whether the name is no name: the end of a text, `"Confirm password", "…"`, a verb, `pass "…"`, an item."""
    name, sign, close = match["name"], match["sign"], match["close"]
    start = match.start() - len(prefix)
    byte_before = match.string[max(0, start - 1) : start]
    has_owner = prefix.endswith(PASS_PREFIXES)
    if name in {b"pass", b"pw", b"PW", b"psk"} and not has_owner:
        last = prefix[-1:] or byte_before
        if last.isalnum() or last in {b"/", b"+"}:  # within base64
            return True
    if sign == b",":
        # The value is the key of the next pair, 'a': 'password', 'b': 'c', or the name is an item, "password123", "…".
        if NEXT_PAIR.match(match.string, match.end()) or (close and re.search(rb"\d{3}\Z", name)):
            return True
        if close:
            return byte_before not in {b'"', b"'", b"`", b";"}
    if match["element"] and byte_before == b"/":
        return True  # the end of another element
    return name == b"pass" and sign == b"" and prefix[-1:] not in {b"_", b"-", b"."} and not has_owner


def _is_argument(match: re.Match[bytes], prefix: bytes) -> bool:
    """Whether the value is an argument of a function that looks it up, makes a token from it, or hashes it."""
    call, sign = match["call"], match["sign"]
    if call and b"token" in (prefix + match["name"]).lower() and TOKEN_FUNCTION.search(call):
        return True
    start = match.start() - len(prefix)
    if sign in {b",", b"(", None} and HASH_CALL.search(match.string[max(0, start - 40) : start]):
        return True
    return bool(LOOKUP_FUNCTION.search(call or (prefix if sign == b"(" else b"")))


def _is_unquoted_secret(match: re.Match[bytes], prefix: bytes, secret: bytes) -> bool:
    """Whether it is a secret and not code, for a value without quotes."""
    name = match["name"]
    if HEXADECIMAL_NUMBER.fullmatch(secret) or (ATTRIBUTE_NAME.fullmatch(secret) and not is_scattered(secret)):
        return False
    # After a space, only --password … and ENV DB_PASSWORD … are assignments for certain.
    if match["loose"] and not (prefix.endswith(b"-") or (prefix.endswith(b"_") and name.isupper())):
        return _is_dense(secret) and not NUMBERED_WORDS.fullmatch(secret)
    next_byte = match.string[match.end() : match.end() + 1]
    if match["inline"] and secret.islower() and secret.isalnum() and next_byte in {b",", b")"}:
        return is_scattered(secret) or len(DIGIT.findall(secret)) > 3  # else it may be a variable in a call
    # Without quotes, code looks alike, so a secret needs several digits.
    digit_count = len(DIGIT.findall(secret))
    if is_jumbled(secret):
        return True
    if NUMBERED_WORDS.fullmatch(secret):
        return _may_be_words(name, secret) and digit_count > 2
    return digit_count > 1 or (digit_count > 0 and bool(re.search(rb"[@!#$^]", secret)))


def _is_quoted_secret(name: bytes, secret: bytes, *, is_loose: bool) -> bool:
    """Whether it is a secret and not words; `is_loose` if only its position connects it with the name."""
    if is_jumbled(secret) and (not is_loose or DIGIT.search(secret)):
        return True
    if not DIGIT.search(secret) and (is_loose or not PASSWORD_NAME.match(name)):
        return False
    if not NUMBERED_WORDS.fullmatch(secret):
        is_phrase = PLAIN_WORDS.fullmatch(secret.strip(b"!?*")) and (COMMON_WORDS.search(secret) or len(secret) < 8)
        is_constant = is_loose and CONSTANT_NAME.fullmatch(secret)
        return not (is_phrase or is_constant or PLAIN_WORDS.fullmatch(secret))
    # Summer2024 and correct-horse-battery-staple are passwords, but not tokens.
    if is_loose or not _may_be_words(name, secret):
        return False
    if PLAIN_WORDS.fullmatch(secret):
        return b"_" not in secret and len(re.findall(rb"[A-Za-z]{3,}", secret)) > 3
    return len(secret) > 7 and (len(DIGIT.findall(secret)) > 1 or bool(UPPERCASE.search(secret)))


def _may_be_words(name: bytes, secret: bytes) -> bool:
    """Whether numbered words may be the value of the name, as a password that someone invented."""
    is_common = COMMON_WORDS.search(secret) or re.search(rb"[/:.,;=]", secret)
    return bool(PASSWORD_NAME.fullmatch(name)) and not is_common


def _is_dense(secret: bytes) -> bool:
    """Whether it is a secret even without an assignment, since no word has so many digits."""
    digit_count = len(DIGIT.findall(secret))
    has_both_cases = UPPERCASE.search(secret) and LOWERCASE.search(secret)
    return digit_count > 3 or (digit_count > 1 and bool(has_both_cases)) or (digit_count > 0 and is_jumbled(secret))


TESTS = {
    test.__name__.removeprefix("is_"): test
    for test in (
        is_anything, is_base64_key, is_random, is_mixed, is_numbered, is_password, is_url_password, is_django_key,
        is_wordpress_salt, is_sql_password, is_option_password, is_login_password, is_second_argument, is_one_of_two,
        is_npm_login, is_assigned_secret,
    )
}  # fmt: skip
"""The tests that patterns may name."""
