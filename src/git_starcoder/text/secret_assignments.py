r"""Patterns of secrets that are known by what is around them: a name with its value, a command line, a URL, SQL.

A name such as `password` is connected with its value in many ways. All of them are one expression, `_ASSIGNMENT`, which
is tried where the name begins, so that a name without a value costs one attempt. Its groups are:

    text                               name               close  sign  value in group
    db_password = "…"                  password                  =     quoted
    "password": '…'                    password           "      :     quoted
    setPassword("…")                   Password                  (     quoted
    define('DB_PASSWORD', '…')         PASSWORD           '      ,     quoted
    password "…"                       password                  empty quoted
    secret = [[…]]                     secret                    =     bracketed
    ?token=…&user=…                    token                           parameter
    password: …  (end of the line)     password                        bare
    Server=db;Password=…;              Password                        inline
    --password …                       password                        loose
    <password>…</password>             password                        element

The name begins with the literal where the expression is tried. What is before it (`db_`) is its prefix.
"""

from __future__ import annotations

import re

from git_starcoder.text.secret_patterns import (
    COMMON_WORDS,
    DIGIT,
    KEY_NAMES,
    LOWERCASE,
    NOT_SECRET,
    NUMBERED_WORDS,
    PLACEHOLDER,
    TEMPLATE,
    UPPERCASE,
    UUID,
    WORDS,
    is_alphabet,
    is_jumbled,
    is_mixed,
    is_numbered,
    is_password,
    is_scattered,
    is_translation,
    secret_pattern,
    unescape,
)

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


def _is_url_password(match: re.Match[bytes], secret: bytes) -> bool:
    return secret != match["user"] and is_password(match, secret)


def _is_django_key(_match: re.Match[bytes], secret: bytes) -> bool:
    return not secret.isalnum() and not WORDS.fullmatch(secret) and not PLACEHOLDER.search(secret)


def _is_wordpress_salt(_match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is as random as what WordPress generates, with letters, digits and several other characters."""
    others = {byte for byte in secret if not chr(byte).isalnum()}
    return len(others) > 3 and len(set(secret)) > 12 and bool(DIGIT.search(secret)) and not PLACEHOLDER.search(secret)


def _is_sql_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the password itself: SQL accepts its hash too. `identified by "a::b"` may be English."""
    return is_password(match, secret) and not re.fullmatch(
        rb"\*[0-9A-F]{40}|md5[0-9a-f]{32}|SCRAM-.*|[a-z]+(?:::[a-z]+)+", secret
    )


def _is_option_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether the value of `-p` is a password. For most programs it is a port or a path."""
    if re.search(rb"[:/]|\A[\d\W]+\Z", secret) or not DIGIT.search(secret) or not is_password(match, secret):
        return False
    is_separate = match["separator"].strip(b"\"'")
    programs = PROGRAMS_WITH_SEPARATE_PASSWORD if is_separate else PROGRAMS_WITH_JOINED_PASSWORD
    return bool(programs.search(_line_before(match)))


def _line_before(match: re.Match[bytes]) -> bytes:
    start = match.start()
    return match.string[max(0, start - 200) : start].rpartition(b"\n")[2]


def _is_login_password(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is the second half of `user:password`, not the group of a user."""
    if secret == match["user"] or not is_password(match, secret) or not re.search(rb"[A-Za-z]", secret):
        return False
    return not WORDS.fullmatch(secret) or b"curl" in _line_before(match)


def _is_second_argument(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password, for a call whose second argument is one."""
    is_named = NUMBERED_WORDS.fullmatch(secret) or NOT_SECRET.fullmatch(secret)
    return secret != match["user"] and is_password(match, secret) and not is_named


def _is_one_of_two(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is a password, for a call with two strings that may be a login: `auth("user", "…")`."""
    if not (DIGIT.search(secret) and re.search(rb"[A-Za-z]", secret)) or NOT_SECRET.fullmatch(secret):
        return False
    if NUMBERED_WORDS.fullmatch(secret) and not (secret.isalnum() and len(secret) > 7):
        return False
    return is_password(match, secret)


def _is_npm_login(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether it is base64 and not an identifier."""
    return (
        bool(LOWERCASE.search(secret)) and is_mixed(match, secret) and (secret.endswith(b"=") or is_scattered(secret))
    )


def _is_assigned_secret(match: re.Match[bytes], secret: bytes) -> bool:
    """Whether the value that is assigned to a name such as `password` is a secret.

    It is not if it is a template, a hash, a path or an identifier, or if the name is about something else.
    """
    name, sign, close = match["name"], match["sign"], match["close"]
    secret = unescape(secret)
    if (
        len(secret) < 15 and WORDS.fullmatch(secret) and not is_jumbled(secret)
    ):  # most are, and this test is the fastest
        return False
    if TEMPLATE.search(secret) or PLACEHOLDER.search(secret) or len(set(secret)) < 5 or is_translation(secret):
        return False
    prefix = _name_prefix(match)
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
        if sign == b"(" and name.lower().startswith(b"token") and not _is_token_argument(secret):
            return False
        return _is_quoted_secret(name, secret, is_loose=sign in {None, b""} or (sign == b"," and not close))
    return _is_unquoted_secret(match, prefix, secret)


def _name_prefix(match: re.Match[bytes]) -> bytes:
    """What the whole name has before the group `name`: `DB_` of `DB_PASSWORD`."""
    start = match.start()
    found = NAME_PREFIX.search(match.string[max(0, start - 32) : start])
    return found[0] if found else b""


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
    if sign in {b",", b"(", None}:
        start = match.start() - len(prefix)
        if HASH_CALL.search(match.string[max(0, start - 40) : start]):
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
    return is_jumbled(secret) or _is_bare_secret(name, secret)


def _is_quoted_secret(name: bytes, secret: bytes, *, is_loose: bool) -> bool:
    """Whether it is a secret and not words; `is_loose` if only its position connects it with the name."""
    if is_jumbled(secret) and (not is_loose or DIGIT.search(secret)):
        return True
    if not DIGIT.search(secret) and (is_loose or not PASSWORD_NAME.match(name)):
        return False
    if not NUMBERED_WORDS.fullmatch(secret):
        is_phrase = WORDS.fullmatch(secret.strip(b"!?*")) and (COMMON_WORDS.search(secret) or len(secret) < 8)
        is_constant = is_loose and CONSTANT_NAME.fullmatch(secret)
        return not (is_phrase or is_constant or WORDS.fullmatch(secret))
    # Summer2024 and correct-horse-battery-staple are passwords, but not tokens.
    if is_loose or not _may_be_words(name, secret):
        return False
    if WORDS.fullmatch(secret):
        return b"_" not in secret and len(re.findall(rb"[A-Za-z]{3,}", secret)) > 3
    return len(secret) > 7 and (len(DIGIT.findall(secret)) > 1 or bool(UPPERCASE.search(secret)))


def _may_be_words(name: bytes, secret: bytes) -> bool:
    """Whether numbered words may be the value of the name, as a password that someone invented."""
    is_common = COMMON_WORDS.search(secret) or re.search(rb"[/:.,;=]", secret)
    return bool(PASSWORD_NAME.fullmatch(name)) and not is_common


def _is_token_argument(secret: bytes) -> bool:
    """Whether the argument of a call whose name ends in `token` is one; else the call may belong to a lexer."""
    return bool(TOKEN_VALUE.fullmatch(secret)) or (secret.isalnum() and secret[:1] != b"0" and _is_dense(secret))


def _is_bare_secret(name: bytes, secret: bytes) -> bool:
    """Whether it is a secret although without quotes code looks alike: it needs several digits."""
    digit_count = len(DIGIT.findall(secret))
    if NUMBERED_WORDS.fullmatch(secret):
        return _may_be_words(name, secret) and digit_count > 2
    return digit_count > 1 or (digit_count > 0 and bool(re.search(rb"[@!#$^]", secret)))


def _is_dense(secret: bytes) -> bool:
    """Whether it is a secret even without an assignment, since no word has so many digits."""
    digit_count = len(DIGIT.findall(secret))
    has_both_cases = UPPERCASE.search(secret) and LOWERCASE.search(secret)
    return digit_count > 3 or (digit_count > 1 and bool(has_both_cases)) or (digit_count > 0 and is_jumbled(secret))


def _spellings(names: str) -> tuple[bytes, ...]:
    """Names as code spells them: `api_key` also as `api-key`, `apikey`, `apiKey`, `ApiKey`, `API_KEY`, `API key`, …."""
    found: set[str] = set()
    for name in names.split():
        parts = name.split("_")
        for glue in "_", "-", ".", " ", "":
            capital = glue.join(part.capitalize() for part in parts)
            found |= {glue.join(parts), glue.join(parts).upper(), capital, capital[0].lower() + capital[1:]}
            found |= {glue.join(parts).capitalize(), glue.join((parts[0].upper(), *parts[1:]))}
            found.add(glue.join((parts[0].upper(), *(part.capitalize() for part in parts[1:]))))
    return tuple(name.encode() for name in sorted(found))


# The parts of `_ASSIGNMENT`. A group is never possessive: before 3.11.5, Python loses matches of those.
_QUOTE = rb"(?:\\{0,15}+[\"'`]|&quot;|&#3[49];|%22|\\{1,15}+u0022)"  # escaped again in a string within a string
_OPERATOR = rb"(?:[-!=:+?|&/.~]{0,2}=[=>~]{0,2}|:-?|=>|(?<=[ \t])(?:->|to)(?=[ \t])|<{1,2}-|\|\||\?\?|\?:|or|%3[ADad])"
_TYPE = (
    rb"(?:\[\w{0,16}\]|\?)?"
    rb"(?:(?::[ \t]?|[ \t]{1,3}(?:[Aa]s )?(?!(?:name|id|type|class|for|ref\w{0,5}|src|href|label|title)=))"
    rb"[&*\w<>.'\[\]?,]{1,32}(?: \w{1,16})?(?=[ \t]{0,2}:?=))?"
)
_GAP = rb"[\s#/*+-]"  # between lines, also of a comment or of a diff
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
_INLINE = rb"[A-Za-z0-9+/_.~@#!%^*$-]{8,512}+={0,2}"
_ENDED = rb"(?=[&;,\"'`\s\\)<>}\]|]|\Z)"
_SIGN = rb"(?P<sign>" + _OPERATOR + rb"|[({,]|(?<=[ \t])(?=[\"'`]))[ \t]{0,8}+(?:\n[ \t]{0,40}+)?"
_ON_NEXT_LINE = rb":[ \t]{0,4}[|>][-+\d]{0,2}[ \t]{0,4}\n(?:[ \t]{0,8}[#/*+]{1,2})?"  # of YAML
_TAGS = (
    rb"(?:</[\w:.-]{1,30}>" + _GAP + rb"{0,60}<[\w:.-]{1,30})?(?:[^<>\n]{0,80}[^<>\n/-])?>"
    rb"(?:" + _GAP + rb"{0,60}<(?!id>)[\w:.!\[-]{1,30}[>\[])?\s{0,8}(?:[#/*+]{1,2}\s{1,8})?"
)
_ASSIGNMENT = (
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
_PASSWORD_LITERALS = (
    *_spellings("passw passphrase pass_phrase passcode pwd"),
    *(b"pass_word", b"pass-word", b"PASS_WORD", b"Pass_Word", b"passWord", b"PassWord", b"masterauth"),
    *(
        word + end
        for word in (b"pass", b"Pass", b"PASS", b"pw", b"PW", b"psk")
        for end in (b"=", b":", b'"', b"'", b"`", b"]", b"\\", b"<", b">", b",", b"(", b" ")
    ),
)
_SECRET_LITERALS = _spellings(
    "secret token credential api_key access_key account_key admin_key app_key auth_key client_key consumer_key "
    "crypt_key cryption_key deploy_key hmac_key integration_key jwt_key license_key master_key private_key "
    "security_key server_key service_key shared_key sign_key signing_key subscription_key unseal_key webhook_key "
    "write_key"
)
_IN_QUOTES = rb"N?\\{0,15}(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{4,256})\\{0,15}(?P=quote)"
_ARGUMENT = rb"(?P<quote>[\"']?)(?P<secret>[^\s\"'`<>|;]{6,128})(?P=quote)(?=[\s\"'`\\|;)<]|\Z)"
_BEFORE_OPTION = rb"[^\n|]{0,200}?[ \t\"'\[,]"

# Command lines, also as lists of words: literals, and what is before the password.
_COMMANDS: tuple[tuple[str | tuple[bytes, ...], bytes], ...] = (
    ("sshpass", rb"sshpass[\"', \t]{1,6}-p[\"', \t]{0,6}"),
    (
        "htpasswd",
        rb"htpasswd"
        + _BEFORE_OPTION
        + rb"-[A-Za-z]{0,4}b[A-Za-z]{0,4}[ \"',]{1,6}(?:[^\s|;\"']{1,100}[ \"',]{1,6}){1,2}",
    ),
    ("redis-cli", rb"redis-cli" + _BEFORE_OPTION + rb"(?:-a|--pass)[= \t\"',]{1,6}"),
    ("sqlcmd ipmitool unzip", rb"(?:sqlcmd|ipmitool|unzip)" + _BEFORE_OPTION + rb"-P[= \t\"',]{0,6}"),
    (
        "ldapsearch ldapadd ldapmodify ldapwhoami ldappasswd ldapdelete",
        rb"ldap[a-z]{3,6}" + _BEFORE_OPTION + rb"-w[= \t\"',]{0,6}",
    ),
    ("-pass", rb"-pass(?:in|out)?[= \t\"',]{1,6}pass:"),
    ("storepass keypass", rb"(?:store|key)pass[= \t\"',]{1,6}"),
    (
        "rabbitmqctl",
        rb"rabbitmqctl" + _BEFORE_OPTION + rb"(?:add_user|change_password)[ \"',]{1,6}[^\s\"',]{1,64}[ \"',]{1,6}",
    ),
    ("-U", rb"(?<=[ \t\"'])-U[= \t\"',]{0,6}[\w\\./-]{1,64}%"),
    ("ConvertTo-SecureString", rb"ConvertTo-SecureString[ \t]{1,4}(?:-String[ \t]{1,4})?"),
    ((b"net user ",), rb"net user \S{1,40} "),
)

ASSIGNMENT_PATTERNS = (
    secret_pattern(
        "AWS_SECRET",
        _spellings("secret_key secret_access"),
        rb"(?i)(?P<name>secret[_-]?(?:access[_-]?)?key)[\"'`]?\]?\s{0,4}(?:=>?|:=?)\s{0,4}[\"'`]?"
        rb"(?P<secret>[A-Z0-9/+]{40})(?![A-Z0-9/+=])",
        is_mixed,
    ),
    secret_pattern(
        "URL_PASSWORD",
        "://",
        rb"://(?P<user>[^\s/:@\"'`<>\\]{0,64}):(?P<secret>[^\s/@\"'`<>\\]{6,128})@[A-Za-z0-9\[$_{%]",
        _is_url_password,
    ),
    secret_pattern(
        "AUTH_HEADER",
        "Bearer bearer Basic basic",
        rb"(?i:bearer|basic) (?P<secret>[A-Za-z0-9._~+/-]{16,2048}+={0,2})",
        is_numbered,
    ),
    secret_pattern(
        "AUTH_HEADER", 'auth"', rb"auth\"[ \t]{0,4}:[ \t]{0,4}\"(?P<secret>[A-Za-z0-9+/]{12,1024}={0,2})\"", is_mixed
    ),
    secret_pattern(
        "AUTH_HEADER",
        "_auth",
        rb"(?<![A-Za-z0-9])_auth[ \t]{0,4}=[ \t]{0,4}[\"']?(?P<secret>[A-Za-z0-9+/]{16,1024}={0,2})(?=[\"'\s\\]|\Z)",
        _is_npm_login,
    ),
    secret_pattern(
        "DJANGO_KEY",
        "SECRET_KEY",
        rb"SECRET_KEY[ \t]{0,8}=[ \t]{0,8}(?P<quote>[\"'])(?P<secret>[^\"'\s\\]{40,128})(?P=quote)",
        _is_django_key,
    ),
    secret_pattern(
        "WORDPRESS_KEY",
        "AUTH_KEY LOGGED_IN_KEY NONCE_KEY AUTH_SALT LOGGED_IN_SALT NONCE_SALT",
        rb"[A-Z_]{8,16}+[\"']?(?:[ \t]{0,12}[,=:]|=>)[ \t]{0,12}(?P<quote>[\"'])(?P<secret>[^\"'\n]{24,128})(?P=quote)",
        _is_wordpress_salt,
    ),
    secret_pattern(
        "AUTH_HEADER",
        "uthorization",
        rb"uthorization[\"'`]?\]?[ \t]{0,4}(?:[:=,]|=>)[ \t]{0,4}[\"'`]?(?:[A-Za-z]{2,12}[ =][\"']?)?"
        rb"(?P<secret>[A-Za-z0-9._~+/-]{16,2048}+={0,2})" + _ENDED,
        is_numbered,
    ),
    # Statements of SQL.
    secret_pattern(
        "PASSWORD",
        "IDENTIFIED identified Identified",
        rb"(?i:identified\s{1,4}(?:with\s{1,4}[\"'`]?\w{1,40}[\"'`]?\s{1,4})?by\s{1,4})" + _IN_QUOTES,
        _is_sql_password,
    ),
    secret_pattern(
        "PASSWORD",
        "PASSWORD password",
        rb"(?i:(?:(?<=with )|(?<=crypted )|(?<=login )|(?<=user )|(?<=set ))password\s{1,4}"
        rb"(?:for [^=\n]{1,80}=\s{0,4}(?:password\()?)?)" + _IN_QUOTES,
        _is_sql_password,
    ),
    # Lines of credential files such as .netrc.
    secret_pattern(
        "PASSWORD",
        (b"machine ", b"default login", b"default\n", b"default\t"),
        rb"(?:machine\s{1,8}\S{1,255}|default)" + _GAP + rb"{1,20}login\s{1,8}\S{1,128}" + _GAP + rb"{1,20}"
        rb"(?:account\s{1,8}\S{1,128}" + _GAP + rb"{1,20})?"
        rb"password\s{1,8}(?P<secret>[^\s\"'\\<>]{4,256})",
        is_password,
    ),
    # Command lines.
    secret_pattern(
        "PASSWORD",
        "-u --user --proxy-user",
        rb"(?<=[ \t\"'])(?:-u|--user|--proxy-user)(?:[= \t]{1,4}|[\"'],\s{0,20}[\"']|(?=[\"']))(?P<quote>[\"']?)"
        rb"(?P<user>[\w.@%+\\-]{0,64}):(?!//)(?P<secret>[^\s\"'`\\|;<>)]{6,128})(?P=quote)",
        _is_login_password,
    ),
    secret_pattern(
        "PASSWORD",
        (b" -p", b'"-p', b"'-p"),
        rb"[ \"']-p(?P<separator>[= \t\"',]{0,6})" + _ARGUMENT,
        _is_option_password,
    ),
    *(secret_pattern("PASSWORD", literals, before + _ARGUMENT, is_password) for literals, before in _COMMANDS),
    secret_pattern(
        "PASSWORD", "sqlplus", rb"sqlplus (?:-\S{1,8} ){0,3}\w{1,40}/(?P<secret>[^\s@\"'/]{4,64})@", is_password
    ),
    secret_pattern(
        "PASSWORD", "jdbc:oracle:", rb"jdbc:oracle:\w{2,6}:\w{1,40}/(?P<secret>[^\s@\"'/]{4,64})@", is_password
    ),
    secret_pattern("SECRET", "vault login", rb"vault login (?P<secret>[\w.-]{16,512})", is_numbered),
    secret_pattern(
        "PASSWORD",
        "echo",
        rb"echo (?:-[en] )?[\"']?(?:[\w.$-]{1,40}:)?(?P<secret>[^\s\"'|:]{6,128})[\"']?\s{0,3}\|[^\n|]{0,120}?"
        rb"(?:chpasswd|passwd --stdin|sudo -S|--password-stdin|--with-token|kinit)",
        is_password,
    ),
    # Calls whose second argument is the password.
    secret_pattern(
        "PASSWORD",
        "asicAuth( asic_auth asic_auth( etworkCredential( PasswordAuthentication( PasswordCredentials( httpBasic( "
        "auth=( .login( getConnection( mysql_connect( mysqli_connect( mysqli( PDO( authenticate(",
        rb"[\w.]{1,32}=?[(\[ ]{1,3}(?:[^()\n]{0,160},\s{0,12})?(?P<opened>[\"'])(?P<user>[^\"'\n]{0,80})(?P=opened),"
        rb"\s{0,12}(?:Some\()?(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{6,128})(?P=quote)",
        _is_second_argument,
    ),
    secret_pattern(
        "PASSWORD",
        ".auth( redentials(",
        rb"[.\w]{1,32}\(\s{0,12}(?P<opened>[\"'])(?P<user>[^\"'\n]{1,80})(?P=opened)\s{0,4},"
        + _GAP
        + rb"{0,20}(?P<quote>[\"'])(?P<secret>[^\s\"'\\]{6,128})(?P=quote)\s{0,12}\)",
        _is_one_of_two,
    ),
    secret_pattern("PASSWORD", _PASSWORD_LITERALS, _ASSIGNMENT, _is_assigned_secret),
    secret_pattern("SECRET", _SECRET_LITERALS, _ASSIGNMENT, _is_assigned_secret),
)
"""Where two find the same secret, the first one names it."""
