"""Patterns of secrets that are known by their own form, and the tests that tell a secret from other values.

The forms of tokens are those that issuers document and that the scanners gitleaks and TruffleHog search for. A token
without a typical beginning is found by the name that it is assigned to (`secret_assignments`). Publishable keys
(`pk_live_…`, `phc_…`) are not secrets.

To add a token, add a line to `TOKENS` and an example to `tests/text/test_secrets.py`. A pattern is tried only where one
of its literals occurs, so a text without any costs one fast search. No pattern may take long on any text: a run without
a limit is possessive and cannot begin within itself, and everything else is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

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
_BETWEEN = rb"[\s\"'`+\\,;#*|>bnr/%!.()\[\]-]"  # lines of a key: line ends, also escaped ones, quotes, comment marks
_KEY_BLOCK = (
    # A header, perhaps some fields, and base64 at once: the constant in the source of a parser is no key.
    rb"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"(?:" + _BETWEEN + rb"{0,64}+[A-Z][A-Za-z-]{2,20}+: [^\n\\\"]{0,100}+){0,6}" + _BETWEEN + rb"{0,64}+"
    rb"[A-Za-z0-9/+=]{32,}+(?:[^-]*+(?:-(?!----)[^-]*+){0,4000}-----END[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
    rb"|(?:" + _BETWEEN + rb"{1,64}+[A-Za-z0-9/+=]{16,}+){0,4000})"  # one that breaks off
)
_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"


def secret_pattern(
    kind: str, literals: str | tuple[bytes, ...], expression: bytes, accepts: Accepts = is_random
) -> SecretPattern:
    """A pattern. Literals in one string are separated by spaces."""
    parts = tuple(literals.encode().split()) if isinstance(literals, str) else literals
    return SecretPattern(kind, parts, expression, accepts)


def _token(kind: str, literals: str, expression: bytes, accepts: Accepts = is_random) -> SecretPattern:
    """A token that is a whole run of characters and begins with one of the literals."""
    return secret_pattern(kind, literals, BEFORE + rb"(?:" + expression + rb")" + AFTER, accepts)


def _ending(kind: str, literals: str, before: bytes, rest: bytes, accepts: Accepts = is_random) -> SecretPattern:
    """A token with its literal further back: a fixed number of characters `before` it, and the rest from it on."""
    return secret_pattern(
        kind, literals, rb"(?<=(?P<before>(?<![A-Za-z0-9_-])" + before + rb"))" + rest + AFTER, accepts
    )


KEYS = (
    secret_pattern("PRIVATE_KEY", "-----BEGIN", _KEY_BLOCK, is_base64_key),
    secret_pattern(  # in base64 once more, as Kubernetes keeps it
        "PRIVATE_KEY",
        "LS0tLS1CRUdJTi",
        rb"LS0tLS1CRUdJTi(?:BSU0EgUFJJVkFURSB|BQUklWQVRFIEtFW|BFQyBQUklWQVRFI|BPUEVOU1NIIF|BFTkNSWVBURUQg|BEU0EgUFJJVkFUR|BQR1AgUFJJVkFUR)"
        rb"[A-Za-z0-9+/]{64,}+={0,2}",
        is_anything,
    ),
    secret_pattern(
        "PRIVATE_KEY",
        "Private-Lines:",  # of PuTTY
        rb"Private-Lines: \d{1,4}(?P<secret>(?:" + _BETWEEN + rb"{1,24}[A-Za-z0-9+/=]{16,80}+){1,200})",
        is_anything,
    ),
    _token("AGE_KEY", "AGE-SECRET-KEY-1", rb"AGE-SECRET-KEY-1[AC-HJ-NP-Z02-9]{58}", is_anything),
)
"""Private keys."""

TOKENS = (
    _token("AWS_KEY", "AKIA ASIA ABIA ACCA", rb"A(?:KI|SI|BI|CC)A[A-Z0-9]{16}"),
    _token("AWS_KEY", "A3T", rb"A3T[A-Z0-9][A-Z2-7]{16}", is_mixed),
    _token("AWS_KEY", "ABSK", rb"ABSK[A-Za-z0-9+/]{109,269}={0,2}", is_mixed),
    _token("AWS_KEY", "bedrock-api-key-", rb"bedrock-api-key-[A-Za-z0-9+/=]{32,}+"),
    _token("AWS_KEY", "da2-", rb"da2-[a-z0-9]{26}"),
    secret_pattern(
        "AWS_SECRET",
        "AKIA ASIA",  # with its id before it
        rb"A(?:KI|SI)A[A-Z0-9]{16}[^A-Za-z0-9/+]{1,12}(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])",
    ),
    secret_pattern("AZURE_KEY", "AccountKey= AccessKey=", rb"A\w{5,6}Key=(?P<secret>[A-Za-z0-9+/]{43,86}={1,2})"),
    secret_pattern("AZURE_KEY", "sig=", rb"(?<=[?&;\"'])sig=(?P<secret>[A-Za-z0-9%+/]{43,64}(?:%3[dD]|=))"),
    _token("AZURE_KEY", "1.A 0.A", rb"[01]\.A[\w-]{50,}+(?:\.\d)?\.Ag[\w-]{250,}+(?:\.A[\w-]{200,}+)?"),
    _token("TWILIO_KEY", "AC SK", rb"(?:AC|SK)[0-9a-f]{32}"),
    secret_pattern(
        "JWT", "eyJ", BEFORE + rb"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{16,}+", is_anything
    ),
    secret_pattern("JWT", "ZXlK", BEFORE + rb"ZXlK[A-Za-z0-9+/]{60,}+={0,2}", is_mixed),  # in base64 once more
    _token("GITHUB_TOKEN", "ghp_ gho_ ghu_ ghs_ ghr_", rb"gh[pousr]_[A-Za-z0-9]{36,255}+"),
    _token("GITHUB_TOKEN", "github_pat_", rb"github_pat_[A-Za-z0-9_]{36,255}+"),
    secret_pattern(
        "GITLAB_TOKEN",
        "glpat- glptt- gldt- glrt- glrtr- glcbt- glsoat- glft- glffct- glimt- glagent- gloas- glwt- GR1348941",
        BEFORE + rb"(?:gl[a-z]{2,5}-|GR1348941)[\w.-]{20,300}+",
    ),
    secret_pattern("GITLAB_TOKEN", "_gitlab_session=", rb"_gitlab_session=(?P<secret>[0-9a-z]{32})" + AFTER),
    _token("SLACK_TOKEN", "xox xapp-", rb"(?:xox[a-z]|xapp)-[A-Za-z0-9-]{15,255}+", is_numbered),
    secret_pattern("SLACK_TOKEN", "hooks.slack.com/", rb"hooks\.slack\.com/\w{8,9}/(?P<secret>[A-Za-z0-9/+]{36,128}+)"),
    _token("NPM_TOKEN", "npm_", rb"npm_[A-Za-z0-9]{36}"),
    secret_pattern("PYPI_TOKEN", "pypi-Ag", BEFORE + rb"pypi-Ag[A-Za-z0-9_-]{50,}+"),
    _token("HF_TOKEN", "hf_ api_org_", rb"(?:hf|api_org)_[A-Za-z0-9]{34,40}"),
    secret_pattern("ANTHROPIC_KEY", "sk-ant-", BEFORE + rb"sk-ant-[A-Za-z0-9_-]{32,}+", is_mixed),
    secret_pattern("OPENAI_KEY", "sk-", BEFORE + rb"sk-(?!ant-)[A-Za-z0-9_-]{32,}+", is_mixed),
    _token("OPENAI_KEY", "sk-", rb"sk-(?:(?:or-v1-)?[0-9a-f]{32,64}|lf-" + _UUID + rb")"),
    _token("GOOGLE_KEY", "AIza", rb"AIza[A-Za-z0-9_-]{35}"),
    _token("GOOGLE_KEY", "GOCSPX-", rb"GOCSPX-[A-Za-z0-9_-]{28}"),
    _token("GOOGLE_TOKEN", "ya29.", rb"ya29\.[A-Za-z0-9_-]{30,512}+", is_mixed),
    _token(
        "STRIPE_KEY",
        "sk_live_ rk_live_ sk_test_ rk_test_ sk_prod_ rk_prod_",
        rb"[sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,255}+",
    ),
    secret_pattern("STRIPE_KEY", "whsec_", BEFORE + rb"whsec_[A-Za-z0-9+/=]{24,128}+"),
    _ending("STRIPE_KEY", "_secret_", rb"pi_[A-Za-z0-9]{24}", rb"_secret_[A-Za-z0-9]{25}"),
    _token("SENDGRID_KEY", "SG.", rb"SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}"),
    # The others, by their issuers.
    _token("ADAFRUIT_KEY", "aio_", rb"aio_[A-Za-z0-9]{28}", is_mixed),
    _token("ADOBE_SECRET", "p8e-", rb"p8e-[A-Za-z0-9]{32}"),
    _token("ALIBABA_KEY", "LTAI", rb"LTAI[A-Za-z0-9]{12,21}", is_mixed),
    _token("APIFY_TOKEN", "apify_api_", rb"apify_api_[A-Za-z0-9-]{36}"),
    _token("ARTIFACTORY_TOKEN", "AKCp", rb"AKCp[A-Za-z0-9]{69}"),
    _token("ARTIFACTORY_TOKEN", "cmVmd", rb"cmVmd[A-Za-z0-9]{59}"),
    secret_pattern("ATLASSIAN_TOKEN", "ATATT3 ATCTT3", BEFORE + rb"AT[AC]TT3[A-Za-z0-9+/=_-]{60,512}+", is_mixed),
    _token("ATLASSIAN_TOKEN", "ATBB", rb"ATBB[A-Za-z0-9_=.-]{20,60}", is_mixed),
    secret_pattern("ATLASSIAN_TOKEN", "BBDC-", BEFORE + rb"BBDC-[A-Za-z0-9+/@_-]{40,50}", is_mixed),
    secret_pattern("AUTHRESS_KEY", ".acc_ .acc-", rb"\.acc[_-][a-z0-9-]{10,32}\.(?P<secret>[A-Za-z0-9+/_=-]{30,120})"),
    _token("BANNERBEAR_KEY", "bb_pr_ bb_ma_", rb"bb_(?:pr|ma)_[a-f0-9]{30}"),
    _token("BESTTIME_KEY", "pri_", rb"pri_[a-f0-9]{32}"),
    _token("BUILDKITE_TOKEN", "bkua_", rb"bkua_[a-z0-9]{40}"),
    _token("CHECIO_KEY", "pk_", rb"pk_[a-z0-9]{45}", is_numbered),
    _token("CIRCLECI_TOKEN", "CCIPAT_ CCIPRJ_", rb"CCIP(?:AT|RJ)_[A-Za-z0-9]{22}_[a-fA-F0-9]{40}"),
    _token("CLICKHOUSE_KEY", "4b1d", rb"4b1d[A-Za-z0-9]{38}", is_mixed),
    _token("CLICKUP_TOKEN", "pk_", rb"pk_[0-9]{7,9}_[0-9A-Z]{32}"),
    _token("CLOJARS_TOKEN", "CLOJARS_", rb"CLOJARS_[A-Za-z0-9]{60}"),
    _token("CLOSE_KEY", "api_", rb"api_[A-Za-z0-9]{22}\.[A-Za-z0-9]{22}"),
    _token("CLOUDFLARE_TOKEN", "v1.0-", rb"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
    _token("CLOUDFLARE_TOKEN", "cfut_ cfat_ cfk_", rb"cf(?:[ua]t|k)_[A-Za-z0-9]{40}[a-f0-9]{8}"),
    _token("CONTENTFUL_TOKEN", "CFPAT-", rb"CFPAT-[A-Za-z0-9_-]{43}"),
    _token("DATABRICKS_TOKEN", "dapi", rb"dapi[a-f0-9]{32}(?:-\d)?"),
    _token("DEFINED_TOKEN", "dnkey-", rb"dnkey-[A-Za-z0-9=_-]{26}-[A-Za-z0-9=_-]{52}"),
    _token("DENO_TOKEN", "ddp_ ddw_", rb"dd[pw]_[A-Za-z0-9]{36}"),
    _token("DFUSE_KEY", "web_", rb"web_[0-9a-f]{32}"),
    _token("DIGITALOCEAN_TOKEN", "dop_v1_ doo_v1_ dor_v1_", rb"do[opr]_v1_[a-f0-9]{64}"),
    secret_pattern(
        "DISCORD_TOKEN", "/api/webhooks/", rb"/api/webhooks/(?P<secret>\d{17,20}/[A-Za-z0-9_-]{60,72})" + AFTER
    ),
    _token("DOCKER_TOKEN", "dckr_pat_ dckr_oat_", rb"dckr_[po]at_[A-Za-z0-9_-]{27,32}"),
    _token(
        "DOPPLER_TOKEN",
        "dp.pt. dp.st. dp.ct. dp.sa. dp.scim. dp.audit.",
        rb"dp\.(?:[cp]t|st(?:\.[a-z0-9_-]{2,35})?|sa|scim|audit)\.[A-Za-z0-9]{40,44}",
    ),
    _token("DROPBOX_TOKEN", "sl.", rb"sl\.(?:u\.)?[A-Za-z0-9_=-]{130,512}+", is_mixed),
    _token("DUFFEL_TOKEN", "duffel_test_ duffel_live_", rb"duffel_(?:test|live)_[A-Za-z0-9_=-]{43}"),
    _token("DYNATRACE_TOKEN", "dt0c01. dt0s01. dt0s16.", rb"dt0[cs]\d\d\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{64}"),
    _token("EASYPOST_TOKEN", "EZAK EZTK", rb"EZ[AT]K[A-Za-z0-9]{54}"),
    _token("ELEVENLABS_KEY", "sk_", rb"sk_[a-f0-9]{32,48}"),
    _token("ENDOR_KEY", "endr+", rb"endr\+[A-Za-z0-9-]{16}"),
    _token("FACEBOOK_TOKEN", "EAAM EAAC EAAA EAAB", rb"EAA[ABCM][A-Za-z0-9]{100,512}+", is_mixed),
    _token("FINAGE_KEY", "API_KEY", rb"API_KEY[A-Z0-9]{32}", is_mixed),
    _token("FIGMA_TOKEN", "figp_ figd_ figu_", rb"fig[pdu]_[A-Za-z0-9_=-]{40,56}"),
    _token("FLEETBASE_KEY", "flb_live_ flb_test_", rb"flb_(?:live|test)_[A-Za-z0-9]{20}"),
    _token("FLEXPORT_TOKEN", "shltm_", rb"shltm_[A-Za-z0-9_-]{40}"),
    _token("FLUTTERWAVE_KEY", "FLWSECK- FLWSECK_TEST-", rb"FLWSECK(?:_TEST)?-(?:[A-Za-z0-9]{32}-X|[a-h0-9]{12})"),
    secret_pattern(
        "FLY_TOKEN",
        "fo1_ fm1a_ fm1r_ fm2_",
        BEFORE + rb"(?:fo1_[\w-]{43}|fm(?:1[ar]|2)_[A-Za-z0-9+/]{100,}+={0,3})",
        is_mixed,
    ),
    _token("FRAMEIO_TOKEN", "fio-u-", rb"fio-u-[A-Za-z0-9_=-]{64}"),
    _token("FULLSTORY_KEY", "na1.", rb"na1\.[A-Za-z0-9+/]{100}", is_mixed),
    _token("GOCARDLESS_TOKEN", "live_", rb"live_(?:[A-Za-z0-9_-]{40}|[a-f0-9]{35})", is_mixed),
    secret_pattern("GRAFANA_TOKEN", "eyJrIjoi", BEFORE + rb"eyJrIjoi[A-Za-z0-9]{70,400}+={0,3}", is_mixed),
    secret_pattern("GRAFANA_TOKEN", "glc_", BEFORE + rb"glc_[A-Za-z0-9+/]{32,400}+={0,3}", is_mixed),
    _token("GRAFANA_TOKEN", "glsa_", rb"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}"),
    _token("GROQ_KEY", "gsk_", rb"gsk_[A-Za-z0-9]{52}"),
    _token("HARNESS_KEY", "pat. sat.", rb"[ps]at\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}"),
    _token("HEROKU_KEY", "HRKU-AA", rb"HRKU-AA[A-Za-z0-9_-]{58}"),
    _token(
        "HUBSPOT_TOKEN", "pat-na1- pat-eu1- pat-na2- pat-ap1-", rb"pat-[a-z]{2}\d-" + _UUID.replace(b"a-f", b"a-zA-Z")
    ),
    _token("INFRACOST_TOKEN", "ico-", rb"ico-[A-Za-z0-9]{32}", is_mixed),
    _token("INTRA_SECRET", "s-s4t2ud- s-s4t2af-", rb"s-s4t2(?:ud|af)-[a-f0-9]{64}"),
    _token("IEX_KEY", "sk_", rb"sk_[a-z0-9]{32}", is_numbered),
    _token("KLAVIYO_KEY", "pk_", rb"pk_(?:[A-Za-z0-9]{6}_)?[a-f0-9]{34}"),
    _token("LANGSMITH_KEY", "lsv2_pt_ lsv2_sk_", rb"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10}"),
    _token("LAUNCHDARKLY_KEY", "api- sdk-", rb"(?:api|sdk)-" + _UUID),
    _token("LINEAR_KEY", "lin_api_ lin_oauth_", rb"lin_(?:api|oauth)_[A-Za-z0-9]{40,64}"),
    _ending("MAILCHIMP_KEY", "-us1 -us2 -us3 -us4 -us5 -us6 -us7 -us8 -us9", rb"[0-9a-f]{32}", rb"-us\d{1,2}"),
    _token("MAILGUN_KEY", "key-", rb"key-[a-f0-9]{32}"),
    _token("SALESBLINK_KEY", "key-", rb"key-[A-Za-z0-9]{64}", is_mixed),
    _token("MAPBOX_TOKEN", "sk.eyJ", rb"sk\.eyJ[A-Za-z0-9_-]{40,200}\.[A-Za-z0-9_-]{20,40}"),
    _ending("MAXMIND_KEY", "_mmk", rb"[A-Za-z0-9]{6}_[A-Za-z0-9]{29}", rb"_mmk"),
    secret_pattern(
        "TEAMS_HOOK",
        ".webhook.office.com/webhookb2/",
        rb"\.webhook\.office\.com/webhookb2/(?P<secret>[\w@-]{20,120}/IncomingWebhook/[a-z0-9]{32}/[a-z0-9-]{36})",
    ),
    _token("NETLIFY_TOKEN", "nfp_ nfc_", rb"nf[pc]_[A-Za-z0-9_]{36,40}"),
    _token(
        "NEWRELIC_KEY",
        "NRAK- NRII- NRIQ- NRJS- NRBR- NRRA-",
        rb"NR(?:AK|II|IQ|JS|BR|RA)-[A-Za-z0-9_-]{19,40}",
        is_numbered,
    ),
    _ending("NEWRELIC_KEY", "FFFFNRAL", rb"[0-9a-fx]{32}", rb"FFFFNRAL"),
    _ending("NEWRELIC_KEY", "-NRMA", rb"[A-Za-z0-9]{42}", rb"-NRMA"),
    _token("NIGHTFALL_KEY", "NF-", rb"NF-[A-Za-z0-9]{32}", is_mixed),
    _token("NOTION_TOKEN", "ntn_", rb"ntn_[0-9]{11}[A-Za-z0-9]{35}"),
    _token("NOTION_TOKEN", "secret_", rb"secret_[A-Za-z0-9]{43}", is_mixed),
    _token("NVIDIA_KEY", "nvapi-", rb"nvapi-[A-Za-z0-9_-]{60,70}"),
    _token("OCTOPUS_KEY", "API-", rb"API-[A-Z0-9]{25,34}", is_mixed),
    secret_pattern("OKTA_TOKEN", "SSWS", rb"SSWS (?P<secret>00[\w=-]{40})" + AFTER),
    _token("ONEPASSWORD_KEY", "A3-", rb"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}"),
    secret_pattern("ONEPASSWORD_KEY", "ops_eyJ", BEFORE + rb"ops_eyJ[A-Za-z0-9+/]{100,}+={0,3}", is_anything),
    _token("OPENSHIFT_TOKEN", "sha256~", rb"sha256~[\w-]{43}", is_mixed),
    _token("PAGARME_KEY", "ak_live_ ak_test_", rb"ak_(?:live|test)_[A-Za-z0-9]{30}", is_mixed),
    _token("PERPLEXITY_KEY", "pplx-", rb"pplx-[A-Za-z0-9]{48,56}"),
    _token("PGANALYZE_KEY", "pgar_", rb"pgar_[A-Za-z0-9]{27}"),
    _token("PHOTOROOM_KEY", "sk_pr_", rb"sk_pr_[A-Za-z0-9]{1,64}_[a-fA-F0-9]{40}"),
    _token("PINECONE_KEY", "pcsk_", rb"pcsk_[A-Za-z0-9]{5,6}_[A-Za-z0-9]{63}"),
    _token(
        "PLAID_TOKEN",
        "access-sandbox- access-development- access-production-",
        rb"access-(?:sandbox|development|production)-" + _UUID,
    ),
    _token("PLANETSCALE_TOKEN", "pscale_tkn_ pscale_oauth_ pscale_pw_", rb"pscale_(?:tkn|oauth|pw)_[\w=.-]{32,64}"),
    secret_pattern("PORTAINER_TOKEN", "ptr_", BEFORE + rb"ptr_[A-Za-z0-9/_+=-]{40,60}", is_mixed),
    _token("POSTHOG_KEY", "phx_", rb"phx_[A-Za-z0-9_]{43,48}", is_mixed),
    _token("POSTMAN_KEY", "PMAK-", rb"PMAK-[a-fA-F0-9]{24}-[a-fA-F0-9]{34}"),
    _token("PREFECT_KEY", "pnu_ pnb_", rb"pn[ub]_[A-Za-z0-9]{36}"),
    _token("PUBNUB_KEY", "sec-c-", rb"sec-c-[A-Za-z0-9=+/-]{36,64}", is_numbered),
    _token("PULUMI_TOKEN", "pul-", rb"pul-[a-f0-9]{40}"),
    _token("RAMP_SECRET", "ramp_sec_", rb"ramp_sec_[A-Za-z0-9]{48}"),
    _token("RAZORPAY_KEY", "rzp_live_ rzp_test_", rb"rzp_(?:live|test)_[A-Za-z0-9]{14}", is_mixed),
    _token("README_KEY", "rdme_", rb"rdme_[a-z0-9]{70}"),
    _token("REPLICATE_TOKEN", "r8_", rb"r8_[A-Za-z0-9_-]{37}", is_mixed),
    _token("ROBINHOOD_KEY", "rh-api-", rb"rh-api-[0-9a-fA-F-]{36}"),
    _token("ROOTLY_KEY", "rootly_", rb"rootly_[a-f0-9]{64}"),
    _token("RUBYGEMS_KEY", "rubygems_", rb"rubygems_[a-f0-9]{48}"),
    _token("SALAD_KEY", "salad_cloud_", rb"salad_cloud_[A-Za-z0-9]{1,12}_[A-Za-z0-9]{7,235}", is_mixed),
    _token("SALESFORCE_TOKEN", "5Aep861 5AEP861", rb"5A(?:ep|EP)861[A-Za-z0-9._=]{60,160}", is_mixed),
    _token("SALESFORCE_TOKEN", "00D", rb"00D[A-Za-z0-9]{12}![A-Za-z0-9_.]{96}", is_mixed),
    _token("SCALINGO_TOKEN", "tk-us-", rb"tk-us-[\w-]{48}"),
    _token("BREVO_KEY", "xkeysib- xsmtpsib-", rb"x(?:key|smtp)sib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    secret_pattern("SENTRY_TOKEN", "sntrys_eyJ", BEFORE + rb"sntrys_eyJ[A-Za-z0-9+/=_]{60,512}+", is_mixed),
    _token("SENTRY_TOKEN", "sntryu_", rb"sntryu_[a-f0-9]{64}"),
    _token("SETTLEMINT_TOKEN", "sm_aat_ sm_pat_ sm_sat_", rb"sm_[aps]at_[A-Za-z0-9]{16}"),
    _token("SHIPPO_TOKEN", "shippo_live_ shippo_test_", rb"shippo_(?:live|test)_[a-fA-F0-9]{40}"),
    _token("SHOPIFY_TOKEN", "shpat_ shpca_ shppa_ shpss_ shptka_", rb"shp(?:at|ca|pa|ss|tka)_[a-fA-F0-9]{32}"),
    _token("SMOOCH_KEY", "act_", rb"act_[0-9a-f]{24}"),
    _token("SONAR_TOKEN", "squ_ sqp_ sqa_ sqco_", rb"sq(?:[upa]_[a-f0-9]{40}|co_[A-Za-z0-9]{59})"),
    _token("SOURCEGRAPH_TOKEN", "sgp_", rb"sgp_(?:(?:[a-fA-F0-9]{16}|local)_)?[a-fA-F0-9]{40}"),
    _token("SOURCEGRAPH_TOKEN", "slk_", rb"slk_[a-f0-9]{64}"),
    _token("SPECTRAL_KEY", "spu-", rb"spu-[a-z0-9]{32}", is_numbered),
    _token(
        "SQUARE_TOKEN",
        "sq0atp- sq0csp- EAAA",
        rb"(?:sq0(?:atp|csp)-[A-Za-z0-9_-]{22,60}|EAAA[A-Za-z0-9_-]{60})",
        is_mixed,
    ),
    _token("SUPABASE_TOKEN", "sbp_", rb"sbp_(?:v0_)?[a-f0-9]{40}"),
    _token("SUPABASE_TOKEN", "sb_secret_", rb"sb_secret_[A-Za-z0-9_-]{22}_[A-Za-z0-9_-]{8}", is_mixed),
    _ending("TABLEAU_TOKEN", "==:", rb"[A-Za-z0-9+/]{22}", rb"==:[A-Za-z0-9]{32}"),
    _token("TAILSCALE_KEY", "tskey-", rb"tskey-[a-z]{2,12}-[A-Za-z0-9_]{8,40}-[A-Za-z0-9_]{16,64}", is_mixed),
    secret_pattern("TELEGRAM_TOKEN", ":AA", rb"(?<=\d{8}):(?P<secret>AA[A-Za-z0-9_-]{33})" + AFTER),
    _ending("TERRAFORM_TOKEN", ".atlasv1.", rb"[A-Za-z0-9]{14}", rb"\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    _token("TICKETTAILOR_KEY", "sk_", rb"sk_[0-9]{4}_[0-9]{6}_[a-f0-9]{32}"),
    secret_pattern("TINES_HOOK", ".tines.com/webhook/", rb"\.tines\.com/webhook/(?P<secret>[a-z0-9]{32}/[a-z0-9]{32})"),
    _token("TRUFFLEHOG_KEY", "thog-key- thog-secret-", rb"thog-(?:key|secret)-[0-9a-f]{16,32}"),
    _token("TWITTER_TOKEN", "AAAAAAAAAAAAAAAAAAAAA", rb"A{21,22}[A-Za-z0-9]{1,60}%[A-Za-z0-9%]{20,100}"),
    _token("TYPEFORM_TOKEN", "tfp_", rb"tfp_[A-Za-z0-9_.=-]{40,59}", is_mixed),
    _token("UBIDOTS_KEY", "BBFF- BBUS-", rb"BB(?:FF|US)-[A-Za-z0-9]{30}"),
    _token("VAULT_TOKEN", "hvs. hvb. hvr.", rb"hv[sbr]\.[A-Za-z0-9_.-]{24,512}+", is_mixed),
    _token("VOICEFLOW_KEY", "VF.", rb"VF\.(?:(?:DM|WS)\.)?[a-fA-F0-9]{24}\.[A-Za-z0-9]{16}"),
    _ending("WEBEX_TOKEN", "_PF84_ _P0A1_", rb"[A-Za-z0-9]{64}", rb"_P[A-Z0-9]{3}_" + _UUID),
    _token("XAI_KEY", "xai-", rb"xai-[A-Za-z0-9_]{80}"),
    _token("YANDEX_KEY", "AQVN", rb"AQVN[A-Za-z0-9_-]{35,38}", is_mixed),
    _token("YANDEX_KEY", "t1.", rb"t1\.[A-Za-z0-9_-]{20,400}={0,2}\.[A-Za-z0-9_-]{86}={0,2}", is_mixed),
    secret_pattern(
        "ZAPIER_HOOK",
        "hooks.zapier.com/hooks/catch/",
        rb"hooks\.zapier\.com/hooks/catch/(?P<secret>[A-Za-z0-9/]{12,32})",
        is_mixed,
    ),
    _token("ZOHO_TOKEN", "1000.", rb"1000\.[a-f0-9]{32}\.[a-f0-9]{32}"),
    secret_pattern(
        "AZURE_SECRET",
        "0Q~ 1Q~ 2Q~ 3Q~ 4Q~ 5Q~ 6Q~ 7Q~ 8Q~ 9Q~",
        rb"(?<=(?P<before>(?<![\w.~-])[\w~.]{3}))\dQ~[\w~.-]{31,34}(?![\w.~-])",
        is_mixed,
    ),
    secret_pattern(
        "AZURE_KEY", "+ACR", rb"(?<=(?P<before>(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{42}))\+ACR[A-Za-z0-9]{6}" + AFTER
    ),
)
"""Tokens, by what they begin with or contain."""
