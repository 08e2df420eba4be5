"""Secrets that are known by what is around them: a name with its value, a command line, a URL, a statement of SQL.

A name like `password` and its value are joined in many ways: `password = "…"`, `setPassword("…")`,
`define('DB_PASSWORD', '…')`, `<password>…</password>`, `ENV DB_PASSWORD …`, `"…;Password=…;…"`. All of them are one
expression, tried where the name begins, so that a name that joins nothing costs one attempt.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from git_starcoder.text.secret_values import (
    CAPITAL,
    DIGIT,
    EASY,
    NAMES,
    NUMBERED_WORDS,
    OTHER,
    PLACEHOLDER,
    SMALL,
    TEMPLATE,
    UUID,
    WORDS,
    Pattern,
    is_alphabet,
    is_jumbled,
    is_label,
    is_mixed,
    is_numbered,
    is_password,
    is_scattered,
    with_letters,
)

if TYPE_CHECKING:
    from git_starcoder.text.secret_values import Accepts

ABOUT = re.compile(
    rb"(?i)hash|digest|checksum|sha\d|md5|fingerprint|regex|pattern|ur[il]|path|file|endpoint|(?<!user)name|type|kind"
    rb"|label|title|field|column|header|prefix|suffix|len(?:gth)?(?![a-z])|size|(?<!ac)count|limit|expir|ttl|timeout"
    rb"|(?<!up)date|time|version|algo|arn(?![a-z])|policy|rule|status|scope|issuer|audience|input|form|prompt|hint|help"
    rb"|desc|strength|require|enabled|disabled|encod|selector|iz(?:e|ing)|less(?![a-z])|accessor|chars|alphabet"
    rb"|separator|delimit|model|resource|provider|duration|lease|period|public[_-]?key|address|contract"
    rb"|(?<!access[_-]key[_-])(?<!accesskey)ids?\Z"
)
"""In a name: the value says something about the secret and is not it."""
OF_OTHERS = re.compile(rb"(?i)(?:public[_-]?key|hashed|encrypted|csrf|xsrf|\bno)[_.-]?\Z|\AREDACTED_|[^a-z]REDACTED_")
"""Before a name: it is no secret, or another word."""
POSITION = re.compile(rb"(?i)(?:next|page|pagination|continuation|cancell?(?:ation)?|sync|resume)[_.-]?token")
"""The name of a token that says how far something is."""
CREDENTIAL = re.compile(
    rb"(?i)(?:secret(?:[_-]?id)?|token|passw(?:or)?d|pwd|(?<=[\w.-])pass|key|credentials?)(?:[_-]?value)?\d{0,2}\Z"
)
"""At the end of a name: it says that its value is a credential, even if that is a UUID."""
LOOKUP = re.compile(
    rb"(?i)get|env|load|read|fetch|find|open|path|query|select|hash|compile|regex|guid|uuid|mask|redact|scrub|parse|shuffle"
)
"""In the name of a function: what it is given is not the secret."""
MAKES = re.compile(rb"(?i)(?:build|create|generate|make|issue|mint|sign)_?\w*(?:token|jwt)\w*[(]|\.set[(]\Z")
"""A function that makes a token of what it is given, or gives one back for it, as Python's `ContextVar.set` does."""
HASHES = re.compile(rb"(?i)(?:hash|hmac|digest|md5|sha\d{1,3}|crypt|pbe|pbkdf)\w{0,16}\([\"'`]\Z")
"""Before a name in quotes: what follows is its hash."""
KEY_OF_PAIR = re.compile(rb"[ \t]{0,40}(?:=>|:(?!:))")
LEXEME = re.compile(rb"token[A-Z]\w+|Token[A-Z]\w+")
"""A kind of token of a lexer, if it is no name of a credential."""
PASSWORD = re.compile(rb"(?i)pass(?:wor[dt]|wd|phrase|code)|pwd|masterauth|pass|pw|psk")
"""A name of what people think up themselves."""
OWNERS = (
    b"db",
    b"my",
    b"user",
    b"auth",
    b"root",
    b"smtp",
    b"mail",
    b"require",
    b"ftp",
    b"ssh",
    b"sql",
    b"admin",
    b"host",
    b"bind",
    b"ldap",
)
"""Words before `pass` with which it is a password: `dbpass`, unlike `bypass`."""
CONSTANT = re.compile(rb"[A-Z][A-Z0-9]*_[A-Z0-9_]*")
TAKES_AT_ONCE = re.compile(rb"mysql|mariadb|\b7z")
"""Programs that are given a password as `-p…`."""
TAKES_APART = re.compile(rb"mongo| login ")
"""Programs that are given one as `-p …`."""
TOKEN = re.compile(rb"(?!0[xX])[\w+/.~-]{16,}={0,2}")
HEXADECIMAL = re.compile(rb"0x[0-9A-Fa-f]+")
ATTRIBUTE = re.compile(rb"[a-z]{1,16}\.[A-Z]\w*")
"""`package.Name`, if it is of words."""
LEAD = re.compile(rb"[\w.$-]{0,32}\Z")


def _is_url_password(match: re.Match[bytes], secret: bytes) -> bool:
    return secret != match["user"] and is_password(match, secret)


def _is_django_key(_: re.Match[bytes], secret: bytes) -> bool:
    return not secret.isalnum() and not WORDS.fullmatch(secret) and not PLACEHOLDER.search(secret)


def _is_salt(_: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is as random as what WordPress makes: of letters, digits and several other characters."""
    others = {byte for byte in secret if not chr(byte).isalnum()}
    return len(others) > 3 and len(set(secret)) > 12 and bool(DIGIT.search(secret)) and not PLACEHOLDER.search(secret)


def _is_given(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the password itself: MySQL takes its hash, too. `identified by "a::b"` may be English."""
    return is_password(match, secret) and not re.fullmatch(
        rb"\*[0-9A-F]{40}|md5[0-9a-f]{32}|SCRAM-.*|[a-z]+(?:::[a-z]+)+", secret
    )


def _is_option(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is what stands behind `-p`, which of most programs is a port or a path."""
    if re.search(rb"[:/]|\A[\d\W]+\Z", secret) or not DIGIT.search(secret) or not is_password(match, secret):
        return False
    return bool((TAKES_APART if match["apart"].strip(b"\"'") else TAKES_AT_ONCE).search(_line_before(match)))


def _line_before(match: re.Match[bytes]) -> bytes:
    start = match.start()
    return match.string[max(0, start - 200) : start].rpartition(b"\n")[2]


def _is_login(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the second half of `user:password` and not a user's group."""
    if secret == match["user"] or not is_password(match, secret) or not re.search(rb"[A-Za-z]", secret):
        return False
    return not WORDS.fullmatch(secret) or b"curl" in _line_before(match)


def _is_second(match: re.Match[bytes], secret: bytes) -> bool:
    return (
        secret != match["user"]
        and is_password(match, secret)
        and not NUMBERED_WORDS.fullmatch(secret)
        and not OTHER.fullmatch(secret)
    )


def _is_one_of_two(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password where a call is given two strings: `auth("user", "…")`."""
    if not (DIGIT.search(secret) and re.search(rb"[A-Za-z]", secret)) or OTHER.fullmatch(secret):
        return False
    if NUMBERED_WORDS.fullmatch(secret) and not (secret.isalnum() and len(secret) > 7):
        return False
    return is_password(_match, secret)


def _is_npm_login(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is base64 and no identifier."""
    return bool(SMALL.search(secret)) and is_mixed(match, secret) and (secret.endswith(b"=") or is_scattered(secret))


def _is_assigned(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a secret that a name like `password` is given: no template, hash, path or identifier."""
    name: bytes = match["name"]
    secret = with_letters(secret)
    if (
        len(secret) < 15 and WORDS.fullmatch(secret) and not is_jumbled(secret)
    ):  # most are, and this is the fastest test
        return False
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 5 or is_label(secret):
        return False
    lead = _lead(match)
    if OF_OTHERS.search(lead) or POSITION.search(lead + name) or _is_said(match, lead) or _is_looked_up(match, lead):
        return False
    if UUID.fullmatch(secret):
        return bool(CREDENTIAL.search(lead + name)) and not (match["join"] == b"," and not match["close"])
    if ABOUT.search(name) or NAMES.search(secret) or OTHER.fullmatch(secret) or is_alphabet(secret):
        return False
    if match["join"] is None and not match["close"] and not lead and _is_lexeme(name):
        return False
    if match["quoted"] or match["bracketed"] or match["element"]:
        join = match["join"]
        if join == b"(" and name.lower().startswith(b"token") and not _is_token(secret):
            return False
        return _is_quoted(name, secret, loose=join in {None, b""} or (join == b"," and not match["close"]))
    if HEXADECIMAL.fullmatch(secret) or (ATTRIBUTE.fullmatch(secret) and not is_scattered(secret)):
        return False
    if match["loose"] and not (lead.endswith(b"-") or (lead.endswith(b"_") and name.isupper())):
        # neither --password … nor ENV DB_PASSWORD …
        return _is_dense(secret) and not NUMBERED_WORDS.fullmatch(secret)
    if match["inline"] and secret.islower() and secret.isalnum() and _after(match) in {b",", b")"}:
        return is_scattered(secret) or len(DIGIT.findall(secret)) > 3  # it may be an argument of a call
    return is_jumbled(secret) or _is_bare(name, secret)


def _lead(match: re.Match[bytes]) -> bytes:
    """What the name as a whole has before the part that says what it is: `DB_` of `DB_PASSWORD`."""
    start = match.start()
    found = LEAD.search(match.string[max(0, start - 32) : start])
    return found[0] if found else b""


def _after(match: re.Match[bytes]) -> bytes:
    return match.string[match.end() : match.end() + 1]


def _is_said(match: re.Match[bytes], lead: bytes) -> bool:
    """Whether the name is no name but the end of a text, `"Confirm password", "…"`, or a verb, `pass "…"`."""
    name, join = match["name"], match["join"]
    start = match.start() - len(lead)
    if name in {b"pass", b"pw", b"PW", b"psk"} and not lead.endswith(OWNERS):
        before = lead[-1:] or match.string[max(0, start - 1) : start]
        if before.isalnum() or before in {b"/", b"+"}:  # within base64
            return True
    if join == b"," and _is_listed(match):
        return True
    if join == b"," and match["close"]:
        return match.string[max(0, start - 1) : start] not in {b'"', b"'", b"`", b";"}
    if match["element"] and match.string[max(0, start - 1) : start] == b"/":
        return True  # the end of another element
    return name == b"pass" and join == b"" and lead[-1:] not in {b"_", b"-", b"."} and not lead.endswith(OWNERS)


def _is_listed(match: re.Match[bytes]) -> bool:
    """Whether it is the key of the next pair, `'a': 'password', 'b': 'c'`, or in a list, `"password123", "…"`."""
    return bool(
        KEY_OF_PAIR.match(match.string, match.end()) or (match["close"] and re.search(rb"\d{3}\Z", match["name"]))
    )


def _is_lexeme(name: bytes) -> bool:
    return bool(LEXEME.fullmatch(name)) and not CREDENTIAL.search(name)


def _is_looked_up(match: re.Match[bytes], lead: bytes) -> bool:
    """Whether the value is something that a function looks up, makes a token of, or has hashed."""
    if match["call"] and b"token" in (lead + match["name"]).lower() and MAKES.search(match["call"]):
        return True
    if match["join"] == b"," or match["join"] == b"(" or match["join"] is None:
        start = match.start() - len(lead)
        if HASHES.search(match.string[max(0, start - 40) : start]):
            return True
    return bool(LOOKUP.search(match["call"] or (lead if match["join"] == b"(" else b"")))


def _is_quoted(name: bytes, secret: bytes, *, loose: bool) -> bool:
    """Whether it is a secret and not words; `loose` if only its place says that the name is given it."""
    if is_jumbled(secret) and (not loose or DIGIT.search(secret)):
        return True
    chosen = bool(PASSWORD.fullmatch(name))
    if not DIGIT.search(secret) and (loose or not PASSWORD.match(name)):
        return False
    if not NUMBERED_WORDS.fullmatch(secret):
        said = WORDS.fullmatch(secret.strip(b"!?*")) and (EASY.search(secret) or len(secret) < 8)
        named = loose and CONSTANT.fullmatch(secret)
        return not (said or named or WORDS.fullmatch(secret))
    if loose or not chosen or EASY.search(secret) or re.search(rb"[/:.,;=]", secret):
        return False
    # Summer2024 and correct-horse-battery-staple are passwords and no tokens.
    if WORDS.fullmatch(secret):
        return b"_" not in secret and len(re.findall(rb"[A-Za-z]{3,}", secret)) > 3
    return len(secret) > 7 and (len(DIGIT.findall(secret)) > 1 or bool(CAPITAL.search(secret)))


def _is_token(secret: bytes) -> bool:
    """Whether a call whose name ends in `token` is given one; else it is a test of a lexer."""
    return bool(TOKEN.fullmatch(secret)) or (secret.isalnum() and secret[:1] != b"0" and _is_dense(secret))


def _is_bare(name: bytes, secret: bytes) -> bool:
    """Whether it is a secret though without quotes code looks alike, but for several digits."""
    digits = len(DIGIT.findall(secret))
    if NUMBERED_WORDS.fullmatch(secret):
        chosen = PASSWORD.fullmatch(name) and not EASY.search(secret) and not re.search(rb"[/:.,;=]", secret)
        return bool(chosen) and digits > 2
    return digits > 1 or (digits > 0 and bool(re.search(rb"[@!#$^]", secret)))


def _is_dense(secret: bytes) -> bool:
    """Whether even without a sign of assignment it is a secret and no word of a text."""
    digits = len(DIGIT.findall(secret))
    mixed = CAPITAL.search(secret) and SMALL.search(secret)
    return digits > 3 or (digits > 1 and bool(mixed)) or (digits > 0 and is_jumbled(secret))


def _spelled(*names: str) -> tuple[bytes, ...]:
    """Names as code spells them: `api_key`, `api-key`, `apikey`, `apiKey`, `ApiKey`, `API_KEY`, `API key` and so on."""
    found: set[str] = set()
    for name in names:
        parts = name.split("_")
        for glue in "_", "-", ".", " ", "":
            capital = glue.join(part.capitalize() for part in parts)
            found |= {glue.join(parts), glue.join(parts).upper(), capital, capital[0].lower() + capital[1:]}
            found |= {glue.join(parts).capitalize(), glue.join((parts[0].upper(), *parts[1:]))}
            found.add(glue.join((parts[0].upper(), *(part.capitalize() for part in parts[1:]))))
    return tuple(name.encode() for name in sorted(found))


def _pattern(kind: str, literals: str, form: bytes, accepts: Accepts) -> Pattern:
    return Pattern(kind, tuple(literals.encode().split()), form, accepts)


# A group is never possessive: before 3.11.5 Python loses matches of those.
_QUOTE = rb"(?:\\{0,15}+[\"'`]|&quot;|&#3[49];|%22|\\{1,15}+u0022)"  # in a string in a string it is escaped again
_OPERATOR = rb"(?:[-!=:+?|&/.~]{0,2}=[=>~]{0,2}|:-?|=>|(?<=[ \t])(?:->|to)(?=[ \t])|<{1,2}-|\|\||\?\?|\?:|or|%3[ADad])"
_TYPE = (
    rb"(?:\[\w{0,16}\]|\?)?"
    rb"(?:(?::[ \t]?|[ \t]{1,3}(?:[Aa]s )?(?!(?:name|id|type|class|for|ref\w{0,5}|src|href|label|title)=))"
    rb"[&*\w<>.'\[\]?,]{1,32}(?: \w{1,16})?(?=[ \t]{0,2}:?=))?"
)
_GAP = rb"[\s#/*+-]"  # between lines, also of a comment or of a difference
_PAIR = (  # name: DB_PASSWORD, value: …; of XML, Kubernetes, CloudFormation, Capybara; a variable of Terraform
    rb"(?:[,;:]?"
    + _GAP
    + rb"{1,60}+"
    + _QUOTE
    + rb"?(?i:(?:string|default|initial)?_?value|val|default|content|text|with)"
    + _QUOTE
    + rb"?[ \t]{0,12}[:=]>?\s{0,8}"
    rb"|\{(?:[^{}\n]{0,160}\n){1,5}" + _GAP + rb"{0,20}default[ \t]{0,12}=[ \t]{0,8})"
)
_AROUND = (
    rb"(?:(?:=|: ?)" + _QUOTE + rb"[ \t]{0,4}(?:[+.&]|\|\|)[ \t]{0,4}"  # "Password=" + "…"
    rb"|[ \t]{0,4}:?=[ \t]{0,4}[\w.:$]{1,60}(?:[(\[{]?[\"']?[\w.-]{0,60}[\"']?[)\]}]{0,2}[ \t]{1,4}(?:or|\|\||\?\?|\?:)"
    rb"|[(\[{][\"'][\w.-]{1,60}[\"'],)[ \t]{0,4})"  # = getenv("X") or "…", = getenv("X", "…")
)
_OPENED = rb"(?P<call>(?:[\[({&*]|new |[A-Za-z_][\w:.<>]{0,40}+!?[(\[](?:\w{1,20}[=:] ?)?){0,3})[rbfuLN@$]{0,2}+#{0,3}+"
_QUOTED = (
    rb"(?P<quote>\"{3}|'{3}|" + _QUOTE + rb")"
    rb"(?P<quoted>(?:(?!(?P=quote))(?:[^\s\\]|\\{1,31}+[^\s\\])){8,1024})(?P=quote)"
)
_BRACKETED = rb"(?:\[\[|%?q[qQwW]?[({\[|])(?P<bracketed>[^\s\[\](){}|]{8,256}+)(?:\]\]|[)}\]|])"  # Lua; Perl, Ruby
_BARE = rb"[A-Za-z0-9+/=_.~@#!%^&*$-]{8,512}+"
_INLINE = rb"[A-Za-z0-9+/_.~@#!%^*$-]{8,512}+={0,2}"  # what goes on behind it is no part of it
_ENDED = rb"(?=[&;,\"'`\s\\)<>}\]|]|\Z)"
_SIGN = rb"(?P<join>" + _OPERATOR + rb"|[({,]|(?<=[ \t])(?=[\"'`]))[ \t]{0,8}+(?:\n[ \t]{0,40}+)?"
_ON_NEXT_LINE = rb":[ \t]{0,4}[|>][-+\d]{0,2}[ \t]{0,4}\n(?:[ \t]{0,8}[#/*+]{1,2})?"  # of YAML
_TAGS = (
    rb"(?:</[\w:.-]{1,30}>" + _GAP + rb"{0,60}<[\w:.-]{1,30})?(?:[^<>\n]{0,80}[^<>\n/-])?>"
    rb"(?:" + _GAP + rb"{0,60}<(?!id>)[\w:.!\[-]{1,30}[>\[])?\s{0,8}(?:[#/*+]{1,2}\s{1,8})?"
)
_ASSIGNED = (
    rb"(?P<name>[A-Za-z0-9_-]{2,40}+(?:[ .][Kk](?:ey|EY)[A-Za-z0-9_-]{0,20})?)"
    rb"(?P<close>" + _QUOTE + rb"?[\])]{0,2}+)(?:"
    + _TYPE + rb"[ \t]{0,8}+(?:" + _SIGN + rb"|" + _PAIR + rb"|" + _AROUND + rb")"
    rb"(?:" + _OPENED + _QUOTED + rb"|" + _BRACKETED + rb")"
    rb"|=(?P<parameter>" + _INLINE + rb")(?=&(?:amp;)?[\w.-]{1,40}=)"
    rb"|[ \t]{0,8}+(?:[:?+]?=|:|" + _ON_NEXT_LINE + rb"|" + _PAIR + rb")[ \t]{0,40}"
    rb"(?P<bare>" + _BARE + rb")(?=[ \t]*+(?:#|\n|\Z))"
    rb"|(?:=|:[-=]|:[ \t]?|%3[ADad])(?P<inline>" + _INLINE + rb")" + _ENDED +
    rb"|(?<=[\w-])[ \t]{1,20}(?:[=|][ \t]{1,8})?(?=[A-Za-z0-9+/_.~@#!%^*$-]{0,64}\d)"
    rb"(?P<loose>(?![-*&])" + _INLINE + rb")" + _ENDED +
    rb"|" + _TAGS + rb"(?P<element>[^<>\s\"']{8,1024})(?:\]\]>)?" + _GAP + rb"{0,16}<\\?/"
    rb")"
)  # fmt: skip
_PASSWORDS = (
    *_spelled("passw", "passphrase", "pass_phrase", "passcode", "pwd"),
    *(b"pass_word", b"pass-word", b"PASS_WORD", b"Pass_Word", b"passWord", b"PassWord", b"masterauth"),
    *(
        word + end
        for word in (b"pass", b"Pass", b"PASS", b"pw", b"PW", b"psk")
        for end in (b"=", b":", b'"', b"'", b"`", b"]", b"\\", b"<", b">", b",", b"(", b" ")
    ),
)
_SECRETS = _spelled(
    "secret", "token", "credential", "api_key", "access_key", "account_key", "admin_key", "app_key", "auth_key",
    "client_key", "consumer_key", "crypt_key", "cryption_key", "deploy_key", "hmac_key", "integration_key",
    "jwt_key", "license_key", "master_key", "private_key", "security_key", "server_key", "service_key",
    "shared_key", "sign_key", "signing_key", "subscription_key", "unseal_key", "webhook_key",
    "write_key",
)  # fmt: skip
_SALTS = ("AUTH_KEY", "LOGGED_IN_KEY", "NONCE_KEY", "AUTH_SALT", "LOGGED_IN_SALT", "NONCE_SALT")
_IN_QUOTES = rb"N?\\{0,15}(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{4,256})\\{0,15}(?P=quote)"
_BEFORE_OPTION = rb"[^\n|]{0,200}?[ \t\"'\[,]"
_ARGUMENT = rb"(?P<quote>[\"']?)(?P<secret>[^\s\"'`<>|;]{6,128})(?P=quote)(?=[\s\"'`\\|;)<]|\Z)"

JOINS = (
    Pattern(
        "AWS_SECRET",
        _spelled("secret_key", "secret_access"),
        rb"(?i)(?P<name>secret[_-]?(?:access[_-]?)?key)[\"'`]?\]?\s{0,4}(?:=>?|:=?)\s{0,4}[\"'`]?"
        rb"(?P<secret>[A-Z0-9/+]{40})(?![A-Z0-9/+=])",
        is_mixed,
    ),
    _pattern(
        "URL_PASSWORD",
        "://",
        rb"://(?P<user>[^\s/:@\"'`<>\\]{0,64}):(?P<secret>[^\s/@\"'`<>\\]{6,128})@[A-Za-z0-9\[$_{%]",
        _is_url_password,
    ),
    _pattern(
        "AUTH_HEADER",
        "Bearer bearer Basic basic",
        rb"(?i:bearer|basic) (?P<secret>[A-Za-z0-9._~+/-]{16,2048}+={0,2})",
        is_numbered,
    ),
    _pattern(
        "AUTH_HEADER", 'auth"', rb"auth\"[ \t]{0,4}:[ \t]{0,4}\"(?P<secret>[A-Za-z0-9+/]{12,1024}={0,2})\"", is_mixed
    ),
    _pattern(
        "AUTH_HEADER",
        "_auth",
        rb"(?<![A-Za-z0-9])_auth[ \t]{0,4}=[ \t]{0,4}[\"']?(?P<secret>[A-Za-z0-9+/]{16,1024}={0,2})(?=[\"'\s\\]|\Z)",
        _is_npm_login,
    ),
    _pattern(
        "DJANGO_KEY",
        "SECRET_KEY",
        rb"SECRET_KEY[ \t]{0,8}=[ \t]{0,8}(?P<quote>[\"'])(?P<secret>[^\"'\s\\]{40,128})(?P=quote)",
        _is_django_key,
    ),
    Pattern(
        "WORDPRESS_KEY",
        tuple(salt.encode() for salt in _SALTS),
        rb"[A-Z_]{8,16}+[\"']?(?:[ \t]{0,12}[,=:]|=>)[ \t]{0,12}(?P<quote>[\"'])(?P<secret>[^\"'\n]{24,128})(?P=quote)",
        _is_salt,
    ),
    _pattern(
        "AUTH_HEADER",
        "uthorization",
        rb"uthorization[\"'`]?\]?[ \t]{0,4}(?:[:=,]|=>)[ \t]{0,4}[\"'`]?(?:[A-Za-z]{2,12}[ =][\"']?)?"
        rb"(?P<secret>[A-Za-z0-9._~+/-]{16,2048}+={0,2})" + _ENDED,
        is_numbered,
    ),
    # Statements of SQL.
    _pattern(
        "PASSWORD",
        "IDENTIFIED identified Identified",
        rb"(?i:identified\s{1,4}(?:with\s{1,4}[\"'`]?\w{1,40}[\"'`]?\s{1,4})?by\s{1,4})" + _IN_QUOTES,
        _is_given,
    ),
    _pattern(
        "PASSWORD",
        "PASSWORD password",
        rb"(?i:(?:(?<=with )|(?<=crypted )|(?<=login )|(?<=user )|(?<=set ))password\s{1,4}"
        rb"(?:for [^=\n]{1,80}=\s{0,4}(?:password\()?)?)" + _IN_QUOTES,
        _is_given,
    ),
    # Files of credentials, wherever their lines are.
    Pattern(
        "PASSWORD",
        (b"machine ", b"default login", b"default\n", b"default\t"),
        rb"(?:machine\s{1,8}\S{1,255}|default)" + _GAP + rb"{1,20}login\s{1,8}\S{1,128}" + _GAP + rb"{1,20}"
        rb"(?:account\s{1,8}\S{1,128}" + _GAP + rb"{1,20})?"
        rb"password\s{1,8}(?P<secret>[^\s\"'\\<>]{4,256})",
        is_password,
    ),
    # Command lines, also as lists of words.
    _pattern(
        "PASSWORD",
        "-u --user --proxy-user",
        rb"(?<=[ \t\"'])(?:-u|--user|--proxy-user)(?:[= \t]{1,4}|[\"'],\s{0,20}[\"']|(?=[\"']))(?P<quote>[\"']?)"
        rb"(?P<user>[\w.@%+\\-]{0,64}):(?!//)(?P<secret>[^\s\"'`\\|;<>)]{6,128})(?P=quote)",
        _is_login,
    ),
    Pattern("PASSWORD", (b" -p", b'"-p', b"'-p"), rb"[ \"']-p(?P<apart>[= \t\"',]{0,6})" + _ARGUMENT, _is_option),
    _pattern("PASSWORD", "sshpass", rb"sshpass[\"', \t]{1,6}-p[\"', \t]{0,6}" + _ARGUMENT, is_password),
    _pattern(
        "PASSWORD",
        "htpasswd",
        rb"htpasswd"
        + _BEFORE_OPTION
        + rb"-[A-Za-z]{0,4}b[A-Za-z]{0,4}[ \"',]{1,6}(?:[^\s|;\"']{1,100}[ \"',]{1,6}){1,2}"
        + _ARGUMENT,
        is_password,
    ),
    _pattern(
        "PASSWORD",
        "redis-cli",
        rb"redis-cli" + _BEFORE_OPTION + rb"(?:-a|--pass)[= \t\"',]{1,6}" + _ARGUMENT,
        is_password,
    ),
    _pattern(
        "PASSWORD",
        "sqlcmd ipmitool unzip",
        rb"(?:sqlcmd|ipmitool|unzip)" + _BEFORE_OPTION + rb"-P[= \t\"',]{0,6}" + _ARGUMENT,
        is_password,
    ),
    _pattern(
        "PASSWORD",
        "ldapsearch ldapadd ldapmodify ldapwhoami ldappasswd ldapdelete",
        rb"ldap[a-z]{3,6}" + _BEFORE_OPTION + rb"-w[= \t\"',]{0,6}" + _ARGUMENT,
        is_password,
    ),
    _pattern("PASSWORD", "-pass", rb"-pass(?:in|out)?[= \t\"',]{1,6}pass:" + _ARGUMENT, is_password),
    _pattern("PASSWORD", "storepass keypass", rb"(?:store|key)pass[= \t\"',]{1,6}" + _ARGUMENT, is_password),
    _pattern(
        "PASSWORD",
        "rabbitmqctl",
        rb"rabbitmqctl"
        + _BEFORE_OPTION
        + rb"(?:add_user|change_password)[ \"',]{1,6}[^\s\"',]{1,64}[ \"',]{1,6}"
        + _ARGUMENT,
        is_password,
    ),
    _pattern("PASSWORD", "sqlplus", rb"sqlplus (?:-\S{1,8} ){0,3}\w{1,40}/(?P<secret>[^\s@\"'/]{4,64})@", is_password),
    _pattern("PASSWORD", "-U", rb"(?<=[ \t\"'])-U[= \t\"',]{0,6}[\w\\./-]{1,64}%" + _ARGUMENT, is_password),
    _pattern(
        "PASSWORD",
        "ConvertTo-SecureString",
        rb"ConvertTo-SecureString[ \t]{1,4}(?:-String[ \t]{1,4})?" + _ARGUMENT,
        is_password,
    ),
    _pattern("PASSWORD", "jdbc:oracle:", rb"jdbc:oracle:\w{2,6}:\w{1,40}/(?P<secret>[^\s@\"'/]{4,64})@", is_password),
    Pattern("PASSWORD", (b"net user ",), rb"net user \S{1,40} " + _ARGUMENT, is_password),
    _pattern("SECRET", "vault login", rb"vault login (?P<secret>[\w.-]{16,512})", is_numbered),
    _pattern(
        "PASSWORD",
        "echo",
        rb"echo (?:-[en] )?[\"']?(?:[\w.$-]{1,40}:)?(?P<secret>[^\s\"'|:]{6,128})[\"']?\s{0,3}\|[^\n|]{0,120}?"
        rb"(?:chpasswd|passwd --stdin|sudo -S|--password-stdin|--with-token|kinit)",
        is_password,
    ),
    # Calls whose second argument is the password.
    _pattern(
        "PASSWORD",
        "asicAuth( asic_auth asic_auth( etworkCredential( PasswordAuthentication( PasswordCredentials( httpBasic( "
        "auth=( .login( getConnection( mysql_connect( mysqli_connect( mysqli( PDO( authenticate(",
        rb"[\w.]{1,32}=?[(\[ ]{1,3}(?:[^()\n]{0,160},\s{0,12})?(?P<opened>[\"'])(?P<user>[^\"'\n]{0,80})(?P=opened),"
        rb"\s{0,12}(?:Some\()?(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{6,128})(?P=quote)",
        _is_second,
    ),
    _pattern(
        "PASSWORD",
        ".auth( redentials(",
        rb"[.\w]{1,32}\(\s{0,12}(?P<opened>[\"'])(?P<user>[^\"'\n]{1,80})(?P=opened)\s{0,4},"
        + _GAP
        + rb"{0,20}(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{6,128})(?P=quote)\s{0,12}\)",
        _is_one_of_two,
    ),
    Pattern("PASSWORD", _PASSWORDS, _ASSIGNED, _is_assigned),
    Pattern("SECRET", _SECRETS, _ASSIGNED, _is_assigned),
)
"""Where two find the same place, the one higher up names it."""
