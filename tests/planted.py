"""Made-up secrets of every kind and look-alikes, each as a line or block of text. Nothing here was ever a real key."""

from __future__ import annotations

import base64
import string
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

WORD = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE64 = WORD + "+/"
URL = WORD + "-_"
QUIET = ("example", "xxxx", "fake", "dummy", "lorem", "insert", "replace", "your")


class Planted(NamedTuple):
    """A text with a secret in it."""

    text: str
    secret: str


def run(chance: Random, alphabet: str, length: int) -> str:
    """Characters at random; by chance a placeholder's word could be among them, so not that."""
    while True:
        made = "".join(chance.choice(alphabet) for _ in range(length))
        mixed = alphabet == HEX or (any(map(str.isdigit, made)) and any(map(str.isupper, made)))
        if not any(word in made.lower() for word in QUIET) and (mixed or not set(alphabet) >= set(WORD)):
            return made


def block(chance: Random, kind: str, fields: str = "") -> str:
    lines = "\n".join(run(chance, BASE64, 64) for _ in range(12))
    return f"-----BEGIN {kind}-----\n{fields}{lines}\n{run(chance, BASE64, 22)}==\n-----END {kind}-----"


def jwt(chance: Random) -> str:
    def part(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    claims = '{"sub":"' + str(chance.randrange(10**9)) + '"}'
    return ".".join([part('{"alg":"HS256","typ":"JWT"}'), part(claims), run(chance, URL, 43)])


def human(chance: Random) -> str:
    """A password as people make them."""
    first, second = (chance.choice(["Tiger", "river", "Mango", "cobalt", "Kestrel", "pebble"]) for _ in range(2))
    return f"{first}{chance.choice('!#_%&@')}{second}{chance.randrange(100, 9999)}"


TOKENS: dict[str, Callable[[Random], str]] = {
    "AWS_KEY": lambda c: "AKIA" + run(c, string.ascii_uppercase + "234567", 16),
    "TWILIO_KEY": lambda c: c.choice(["AC", "SK"]) + run(c, HEX, 32),
    "JWT": jwt,
    "GITHUB_TOKEN": lambda c: f"gh{c.choice('pousr')}_{run(c, WORD, 36)}",
    "GITHUB_TOKEN fine-grained": lambda c: f"github_pat_{run(c, WORD, 22)}_{run(c, WORD, 59)}",
    "GITLAB_TOKEN": lambda c: "glpat-" + run(c, URL, 20),
    "SLACK_TOKEN": lambda c: f"xoxb-{c.randrange(10**11, 10**12)}-{c.randrange(10**11, 10**12)}-{run(c, WORD, 24)}",
    "NPM_TOKEN": lambda c: "npm_" + run(c, WORD, 36),
    "PYPI_TOKEN": lambda c: "pypi-AgEIcHlwaS5vcmc" + run(c, URL, 150),
    "HF_TOKEN": lambda c: "hf_" + run(c, string.ascii_letters, 34),
    "OPENAI_KEY": lambda c: "sk-" + c.choice(["", "proj-", "svcacct-"]) + run(c, WORD, 48),
    "ANTHROPIC_KEY": lambda c: "sk-ant-api03-" + run(c, URL, 93) + "AA",
    "GOOGLE_KEY": lambda c: "AIza" + run(c, URL, 35),
    "STRIPE_KEY": lambda c: f"sk_{c.choice(['live', 'test'])}_{run(c, WORD, 24)}",
    "SENDGRID_KEY": lambda c: f"SG.{run(c, URL, 22)}.{run(c, URL, 43)}",
}
"""Tokens that are known by themselves: kind → a new one."""

CALLS = (
    'connect("§")', "client = Client('§')", '{"value": "§"}', "  value: §", "curl -H 'x-auth: §'", "# was §",
)  # fmt: skip
NAMES = ("password", "DB_PASSWORD", "admin_passwd", "userPassword", "client_secret", "auth_token", "API_KEY", "apiKey")
SETTERS = (
    'NAME = "§"', "const NAME = '§';", 'let NAME: &str = "§";', '"NAME": "§",', 'NAME := "§"',
    'String NAME = "§";', "NAME: '§'", 'config["NAME"] = "§"', 'NAME="§"', 'if NAME == "§" {',
)  # fmt: skip

AROUND: dict[str, Callable[[Random], Planted]] = {
    "AWS_SECRET": lambda c: _in('aws_secret_access_key = §', run(c, BASE64, 40)),
    "AWS_SECRET after its id": lambda c: _in(f'new AwsClient("{TOKENS["AWS_KEY"](c)}", "§")', run(c, BASE64, 40)),
    "AZURE_KEY": lambda c: _in("DefaultEndpointsProtocol=https;AccountName=a;AccountKey=§", run(c, BASE64, 86) + "=="),
    "DJANGO_KEY": lambda c: _in(
        "SECRET_KEY = '§'", run(c, string.ascii_lowercase + string.digits + "!@#$%^&*(-_=+)", 50)
    ),
    "PRIVATE_KEY of PKCS": lambda c: _in("§", block(c, c.choice(["RSA PRIVATE KEY", "PRIVATE KEY", "EC PRIVATE KEY"]))),
    "PRIVATE_KEY of OpenSSH": lambda c: _in("key = '''§'''", block(c, "OPENSSH PRIVATE KEY")),
    "PRIVATE_KEY of PGP": lambda c: _in("§", block(c, "PGP PRIVATE KEY BLOCK", "Version: GnuPG v2\n\n")),
    "PRIVATE_KEY in a comment": lambda c: _in("# §", block(c, "PRIVATE KEY").replace("\n", c.choice(["\n# ", "\n// ", "\n-- ", "\n * "]))),
    "PRIVATE_KEY in pieces": lambda c: _in('["§"]', block(c, "PRIVATE KEY").replace("\n", c.choice(['\\n" +\n  "', '", "', '\\n"\n    b"']))),
    "PRIVATE_KEY escaped": lambda c: _in('"key": "§\\n",', block(c, "PRIVATE KEY").replace("\n", "\\n")),
    "URL_PASSWORD": lambda c: _in(f"{c.choice(['postgres', 'https', 'amqp'])}://svc:§@db.internal/x", run(c, WORD, 14)),
    "SLACK_TOKEN of a hook": lambda c: _in(
        "https://hooks.slack.com/services/§", f"T{run(c, WORD, 8)}/B{run(c, WORD, 8)}/{run(c, WORD, 24)}"
    ),
    "AUTH_HEADER": lambda c: _in('{"Authorization": "Bearer §"}', run(c, URL, 40)),
    "PASSWORD": lambda c: _in(c.choice(SETTERS).replace("NAME", c.choice(NAMES[:4])), human(c)),
    "SECRET": lambda c: _in(
        c.choice(SETTERS).replace("NAME", c.choice(NAMES[4:])), run(c, c.choice([HEX, WORD, URL]), c.choice([20, 32, 40]))
    ),
    "SECRET without quotes": lambda c: _in(
        c.choice(["export API_TOKEN=§\n", "client_secret: §\n", "//registry.npmjs.org/:_authToken=§\n"]), run(c, WORD, 32)
    ),
}  # fmt: skip
"""Secrets that are known by what is around them."""

KINDS: dict[str, Callable[[Random], Planted]] = {
    **{kind: lambda c, make=make: _in(c.choice(CALLS), make(c)) for kind, make in TOKENS.items()},
    **AROUND,
}
"""The first word is what `redact` calls it."""

SECRET_NAMES = ("password", "client_secret", "auth_token", "api_key", "refreshToken", "DB_PASSWORD")


def _named(values: Callable[[Random], str]) -> Callable[[Random], str]:
    return lambda c: _in(c.choice(SETTERS).replace("NAME", c.choice(SECRET_NAMES)), values(c)).text


LOOKALIKES: dict[str, Callable[[Random], str]] = {
    "commit": lambda c: f'{c.choice(["commit", "rev", "sha"])} = "{run(c, HEX, 40)}"',
    "checksum": lambda c: f'{c.choice(["checksum", "token_hash", "sha256", "password_digest"])} = "{run(c, HEX, 64)}"',
    "integrity": lambda c: f'"integrity": "sha512-{run(c, BASE64, 86)}=="',
    "uuid": _named(lambda c: "-".join(run(c, HEX, n) for n in (8, 4, 4, 4, 12))),
    "placeholder": _named(
        lambda c: c.choice(
            [
                "xxxxxxxxxxxx", "changeme123", "change-me-1", "example-key-1", "<your-token>", "YOUR_API_KEY_2", "your-secret1",
                "placeholder0", "********", "test-token-123", "password123", "dummy_value_1", "my-secret-42", "aaaaaaaa1",
            ]
        )
    ),
    "template": _named(
        lambda c: c.choice(
            [
                "${DB_PASSWORD_2}", "{{ secret_1 }}", "$ENV_TOKEN_1", "%DB_PASS1%", "{settings.key1}", "%(pass1)s", "$(cat key1)",
                "process.env.KEY1", "env.SECRET_1",
            ]
        ).replace(" ", "")
    ),
    "lookup": lambda c: c.choice(
        [
            'password = os.environ["DB_PASSWORD_1"]', "const token = process.env.API_TOKEN_2;", "api_key = get_secret(name1)",
            "token = lexer.next_token2()", "secret: ${{ secrets.DEPLOY_1 }}", "password: Optional[str] = None", "let token: u64 = 12345678;",
        ]
    ),
    "identifier": _named(
        lambda c: c.choice(
            [
                "access_token", "user.password.label", "left-paren", "Contraseña", "TOKEN_TYPE", "forgotPassword", "/run/secrets/db1",
                "secrets/prod/v1", "https://auth.local/oauth2/token1", "grant_type:v2",
            ]
        )
    ),
    "version": lambda c: f'"js-tokens": "^{c.randrange(9)}.{c.randrange(99)}.0-beta.{c.randrange(9)}"',
    "public": lambda c: block(c, c.choice(["PUBLIC KEY", "CERTIFICATE", "PGP PUBLIC KEY BLOCK"])),
    "parser": lambda _: 'if line.startswith("-----BEGIN RSA PRIVATE KEY-----"):\n    return line.endswith("-----END RSA PRIVATE KEY-----")',
    "address": lambda c: c.choice(
        [
            "https://user:password@example.com/x", "postgres://postgres:postgres@localhost:5432/db", "http://{user}:{password}@host",
            "redis://:${REDIS_PASS}@cache:6379", "https://localhost:8080/@scope/name", "ssh://git@github.com:22/a/b",
        ]
    ),
    "style": lambda c: f"<div class='sk-cube-grid sk-cube{c.randrange(9)} sk-folding-cube-animation-{c.randrange(9)}'>",
    "image": lambda c: f'src="data:image/png;base64,{run(c, BASE64, 200)}"',
}  # fmt: skip
"""What is no secret."""


def _in(text: str, secret: str) -> Planted:
    return Planted(text.replace("§", secret), secret)
