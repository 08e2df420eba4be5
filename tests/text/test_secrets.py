import hmac
import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import planted
from git_starcoder.parse.tree import parse
from git_starcoder.text.secrets import MAX_SECRETS, PATTERNS, REDACTED_MARK, redact, redact_message, secret_file_reason

TOKEN = planted.TOKENS["GITHUB_TOKEN"](Random(1))


def made(kind: str, number: int) -> planted.Planted:
    return planted.KINDS[kind](Random(f"{kind}{number}"))


@pytest.mark.parametrize("kind", planted.KINDS)
def test_each_kind_is_found_and_named(kind):
    for number in range(8):
        text, secret = made(kind, number)
        clean = redact(text.encode())
        assert secret not in clean.text.decode(), text
        assert clean.counts[kind.split()[0]] >= 1, (text, clean)
        start, stop = text.split(secret)
        assert clean.text.startswith(start.encode()[:4])
        assert clean.text.endswith(stop.encode()[-4:])
        assert 0 < clean.secret_share <= 1


@pytest.mark.parametrize("kind", planted.LOOKALIKES)
def test_what_only_looks_like_one_is_left_alone(kind):
    for number in range(30):
        text = planted.LOOKALIKES[kind](Random(f"{kind}{number}")).encode()
        assert redact(text) == (text, Counter(), 0.0)


@pytest.mark.parametrize("where", planted.BY_JOIN)
def test_a_name_and_its_value_are_found_however_they_are_joined(where):
    for kind, names in planted.JOIN_NAMES.items():
        for form in planted.BY_JOIN[where]:
            for name in names:
                secret = planted.drawn(Random(f"{form}{name}"))
                text = form.replace("NAME", name)
                clean = redact(text.replace("§", secret).encode())
                assert clean.counts == {kind: 1}, (text, secret)
                assert re.fullmatch(
                    re.escape(text).replace("§", rf"REDACTED_{kind}_[0-9a-f]{{4}}"), clean.text.decode()
                ), (text, clean)


@pytest.mark.parametrize("mark", ["# ", "// ", " * ", "+", "> ", '"'])
@pytest.mark.parametrize("kind", [kind for kind in planted.KINDS if kind.startswith("PRIVATE_KEY")])
def test_keys_on_several_lines_may_have_something_before_each(kind, mark):
    planting = planted.KINDS[kind](Random(f"{kind} {mark}"))
    text = "".join(f"{mark}{line}\n" for line in planting.text.splitlines()).encode()
    left = redact(text).text
    assert not any(line.encode() in left for line in planting.secret.split() if len(line) > 16)


@pytest.mark.parametrize("mark", ["# ", "// ", " * ", "+"])
def test_on_several_lines_they_may_be_in_a_comment_or_a_difference(mark):
    for form in [form for forms in (*planted.BY_JOIN.values(), *planted.ARGUMENTS.values()) for form in forms]:
        secret = planted.drawn(Random(form))
        lines = form.replace("NAME", "db_password").replace("§", secret).splitlines()
        clean = redact("".join(f"{mark}{line}\n" for line in lines).encode())
        assert secret.encode() not in clean.text, clean


@pytest.mark.parametrize("where", planted.ARGUMENTS)
def test_a_password_is_found_by_its_place(where):
    for form in planted.ARGUMENTS[where]:
        for number in range(4):
            secret = planted.drawn(Random(f"{form}{number}"))
            clean = redact(form.replace("§", secret).encode())
            assert re.fullmatch(re.escape(form).replace("§", r"REDACTED_PASSWORD_[0-9a-f]{4}"), clean.text.decode()), (
                form,
                secret,
                clean,
            )


def test_random_values_are_found_but_for_few():
    """Without quotes, too, where a value of few digits looks like code."""
    for form, share in {"api_key: §\n": 0.12, "password=§\n": 0.12, '{"client_secret": "§"}': 0.06}.items():
        values = ["".join(Random(f"{form}{number}").choices(planted.WORD, k=14)) for number in range(400)]
        missed = [value for value in values if value in redact(form.replace("§", value).encode()).text.decode()]
        assert len(missed) < share * len(values), (form, missed[:9])


def test_only_the_secret_goes():
    clean = redact(f'token = "{TOKEN}"  # mine\n'.encode())
    assert re.fullmatch(rb'token = "REDACTED_GITHUB_TOKEN_[0-9a-f]{4}"  # mine\n', clean.text)
    assert clean.counts == {"GITHUB_TOKEN": 1}
    assert clean.secret_share == pytest.approx(40 / 59)


def test_a_secret_has_one_name_wherever_it_stands():
    before = f'fn a() {{}}\nlet key = "{TOKEN}";\n'.encode()
    after = f'fn b() {{}}\n\nlet renamed = "{TOKEN}";\nfn c() {{}}\n'.encode()
    message = f"Stop using {TOKEN}\n".encode()
    names = {
        REDACTED_MARK.search(clean)[0]
        for clean in (redact(before).text, redact(after).text, redact_message(message).text)
    }
    assert len(names) == 1


def test_other_secrets_have_other_names():
    names = {redact(planted.TOKENS["GITHUB_TOKEN"](Random(number)).encode()).text for number in range(50)}
    assert len(names) > 45  # 2 bytes: a few of many thousands would be equal


def test_the_name_is_the_same_in_every_build():
    digits = hmac.new(b"git-starcoder secrets", TOKEN.encode(), "sha256").hexdigest()[:4]
    assert redact(TOKEN.encode()).text == f"REDACTED_GITHUB_TOKEN_{digits}".encode()


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_secrets_does_not_matter(seed):
    chance = Random(seed)
    lines = [made(kind, 0).text + "\n" for kind in planted.KINDS]
    alone = {line: redact(line.encode()).text for line in lines}
    chance.shuffle(lines)
    assert redact("\n\n".join(lines).encode()).text == b"\n\n".join(alone[line] for line in lines)


def test_a_key_that_breaks_off_goes_as_far_as_it_does():
    key = made("PRIVATE_KEY of PKCS", 0).secret.partition("\n-----END")[0]
    clean = redact(f'x = """{key}"""\nprint(x)\n'.encode())
    assert re.fullmatch(rb'x = """REDACTED_PRIVATE_KEY_[0-9a-f]{4}"""\nprint\(x\)\n', clean.text)
    first, second = (made("PRIVATE_KEY of PKCS", number).secret for number in (1, 2))
    clean = redact(f"{first.partition('-----END')[0]}\ncode()\n{second}\n".encode())
    assert re.fullmatch(rb"REDACTED_PRIVATE_KEY_\w{4}\n+code\(\)\nREDACTED_PRIVATE_KEY_\w{4}\n", clean.text)


def test_a_secret_in_a_secret_is_one():
    clean = redact(f'password = "{TOKEN}!{TOKEN}"'.encode())
    assert clean.counts.total() == 1
    assert clean.text.count(b"REDACTED") == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('password = "correct-horse-battery-staple"', 1),
        ('password = "hunter2hunter2"', 1),
        ('password = "Summer2024"', 1),
        ('token = "Summer2024"', 0),
        ('password_label = "correct-horse-battery-staple"', 0),
        ('password = "short1!"', 0),
        ('password = f"{user}-1!x9"', 0),
        ('password = "it\\"s-4-secret!"', 1),
        ("password = 'contains\"quote9'", 1),
        ('password = "näive-Pässwörd9!"', 1),
        ("password: hunter2hunter2x9\n", 1),
        ("password = hunter2hunter2x9;\n", 0),
        ("api_token=0x1234567890abcdef\n", 0),
        ('private_key: "0x' + "1a" * 32 + '"', 0),
        ('private_key: "0x' + "1a2b3c4d" * 8 + '"', 1),
        ('let token = SecretString::new("a8f5f167f44f4964e6c998dee827110c");', 1),
        ('password = os.environ.get("PROD1_PASSWORD2x")', 0),
        ('request_id = "7c9e6679-7425-40de-944b-e07fc1f90ae7"', 0),
        ('client_secret = "7c9e6679-7425-40de-944b-e07fc1f90ae7"', 1),
        ('public_key_token = "7c9e6679-7425-40de-944b-e07fc1f90ae7"', 0),
        ('next_page_token = "CAUQAAb1x9y8z7w6"', 0),
        ('db.example.com.password = "Tr7xQ9kLm2Z"', 1),
        ('homepage_password = "Tr7xQ9kLm2Z"', 1),
        ('password_updated = "Tr7xQ9kLm2Z"', 1),
        ('hashed_password = "ALyuoraYcIWD1hjo81pf83qo6Q6TUBYcXN9P3A9WHLvEY10f"', 0),
        ("CREATE USER a IDENTIFIED BY 'swordfish'", 1),
        ("CREATE USER a IDENTIFIED BY 'password'", 0),
        ("docker run -p 8080:80a1b2 nginx", 0),
        ("mkdir -p a1b2c3d4", 0),
        ("password=Tr7xQ9kLm2Z psql -h db", 1),
        ("fn(password=base64url2bytes, x)", 0),
        ('pass "Tr7xQ9kLm2Z" to it', 0),
        ('smtp_pass "Tr7xQ9kLm2Z"', 1),
        ('pw==\n\n"@types/parse-json@^4.0.0":', 0),
        ('"Authorization: basic dXNlcjpodW50ZXIy"', 1),
        ('.auth("user", "pass1word2go")', 1),
        ('.auth("user", "hunter2")', 0),
        ('.auth("user", "hunter2024")', 1),
        ('credentials("svc", "a1b2c3d4", "x")', 0),
        ('password = "пароль2024secret"', 1),
        ('password = "w57\\u00e4\\u00f6w4b6huwb6nhu"', 1),
        ("VAULT_TOKEN=s.KkNJYWF5g0pomcCLEmDdOVCW\n", 1),
        ("password=secure%20password1&x=1", 1),
        ('password = "yourStrong(!)Password"', 1),
        ('create("password", "Tr7xQ9kLm2Z")', 1),
        ('token = client.set("password", "Tr7xQ9kLm2Z")', 1),
        ('createUser("admin", password = "Tr7xQ9kLm2Z")', 1),
    ],
)
def test_what_a_name_like_password_is_given(text, found):
    assert redact(text.encode()).counts.total() == found


SYNTAX = {
    "c": 'const char *secret = "§";\nint f(void) { return 1; }\n',
    "cpp": 'auto secret = std::string("§");\nauto secret2 = R"(x)";\n',
    "go": 'package a\n\nvar secret = "§"\nvar secret2 = `§`\n',
    "java": 'class A { String secret = "§"; }\n',
    "javascript": "const secret = '§'\nconst secret2 = `§`\n",
    "python": 'secret = \'§\'\nsecret2 = r"""§"""\nsecret3 = b\'§\'\n',
    "rust": 'const SECRET: &str = "§";\nconst SECRET2: &str = r#"§"#;\n',
    "tsx": "const secret: string = '§'\nconst a = <p secret='§'>x</p>\n",
    "typescript": "const secret: string = '§'\n",
}


@pytest.mark.parametrize("language", SYNTAX)
def test_code_still_parses(language):
    for kind in planted.KINDS:
        secret = made(kind, 3).secret
        if set(secret) & set('\n\\%&"'):  # cannot stand in every literal
            continue
        code = SYNTAX[language].replace("§", secret)
        assert parse(code.encode(), language).is_clean
        clean = redact(code.encode()).text
        assert len(REDACTED_MARK.findall(clean)) == code.count(secret), (kind, code)
        assert parse(clean, language).is_clean, clean


def test_trailers_lose_their_addresses():
    message = (
        "Mail ada@example.com about it\n\nSigned-off-by: Ada Lovelace <ada@example.com>\n"
        "Co-authored-by: bob@example.com\ncc: <x@y.z>, w@v.u\nReviewed-By: nobody\n"
    )
    clean = redact_message(message.encode())
    assert clean.text.decode() == (
        "Mail ada@example.com about it\n\nSigned-off-by: Ada Lovelace <EMAIL>\n"
        "Co-authored-by: <EMAIL>\ncc: <EMAIL>, <EMAIL>\nReviewed-By: nobody\n"
    )
    assert clean.counts == {"EMAIL": 4}
    assert redact_message(clean.text).text == clean.text


@pytest.mark.parametrize(
    "path",
    [
        "id_rsa", "home/.ssh/id_ed25519", "a/store.p12", "a/B.JKS", ".env", "app/.env.production", "credentials.json",
        ".git-credentials", ".netrc", "infra/main.tfstate", "key.ppk",
    ],
)  # fmt: skip
def test_files_that_are_only_secrets_by_their_name(path):
    assert secret_file_reason(path)


@pytest.mark.parametrize(
    "path", ["id_rsa.pub", ".env.example", ".env.sample", "src/env.rs", "credentials.py", "rsa.py"]
)
def test_files_that_are_not(path):
    assert not secret_file_reason(path, f'token = "{TOKEN}"'.encode())


@pytest.mark.parametrize("path", ["tls/server.pem", "a.key", ".npmrc", "service-account-1.json"])
def test_files_that_are_only_secrets_if_there_is_one_in_them(path):
    text = f"//registry.npmjs.org/:_authToken={TOKEN}\n".encode()
    assert secret_file_reason(path, text)
    assert secret_file_reason(path, redact(text).text) == secret_file_reason(path, text)
    assert not secret_file_reason(path, b"save-exact=true\n" + planted.LOOKALIKES["public"](Random(0)).encode())


def test_a_text_may_be_mostly_secrets():
    code = b"def f(x):\n    return x + 1\n" * 400
    tokens = [planted.TOKENS["GITHUB_TOKEN"](Random(number)).encode() for number in range(MAX_SECRETS + 1)]
    assert not redact(code + b"\n".join(tokens[:MAX_SECRETS])).is_mostly_secrets
    assert redact(code + b"\n".join(tokens)).is_mostly_secrets
    assert redact(b"x = 1\n" + tokens[0]).is_mostly_secrets


def test_a_run_without_a_limit_is_possessive():
    from re import _constants, _parser  # the tree of an expression: no text can make one slow that has no such run

    def walk(tree, inside=1):
        for operator, argument in tree:
            if operator in {_constants.MAX_REPEAT, _constants.MIN_REPEAT}:
                low, high, body = argument
                assert high != _constants.MAXREPEAT, pattern.expression
                width = 1 + high - low
                assert inside * width < 5000, pattern.expression
                walk(body, inside * width)
            elif isinstance(argument, (tuple, list)):
                for part in argument if isinstance(argument, tuple) else [argument]:
                    for tree_ in part if isinstance(part, list) else [part]:
                        if isinstance(tree_, _parser.SubPattern):
                            walk(tree_, inside)

    for pattern in PATTERNS:
        walk(_parser.parse(pattern.expression))


@pytest.mark.parametrize("kind", sorted({pattern.kind for pattern in PATTERNS}))
def test_a_hostile_text_ends(kind):
    """A quadratic expression would take minutes here."""
    for pattern in PATTERNS:
        if pattern.kind != kind:
            continue
        literal = pattern.literals[0]
        for piece in (literal, literal + b"a", literal + b'="a', literal + b"-" * 9, literal + b"A1" * 20 + b"\n"):
            redact((piece * (1 << 14))[: 1 << 14])
        for run in (b"A", b"-", b" ", b":", b"\\n", b"nAbcd: ", b"\n", b"\\", b'"a'):
            redact(literal + (run * (1 << 20))[: 1 << 19 if has_endless_run(pattern) else 1 << 13])


def has_endless_run(pattern):
    """Whether a run of it has no limit, so that only a long text would show that it is quadratic."""
    return any(operator == "POSSESSIVE_REPEAT" and high is None for operator, high in repeats(pattern))


def repeats(pattern):
    from re import _constants, _parser

    def walk(tree):
        for operator, argument in tree:
            if str(operator).endswith("REPEAT"):
                yield str(operator), None if argument[1] == _constants.MAXREPEAT else argument[1]
            for part in argument if isinstance(argument, tuple) else [argument]:
                for inner in part if isinstance(part, list) else [part]:
                    if isinstance(inner, _parser.SubPattern):
                        yield from walk(inner)

    return walk(_parser.parse(pattern.expression))


@pytest.mark.parametrize("value", ["a." + "A" * 500 + "!1", "a." + "Aa" * 240 + "!1a2", "abcdefghijklmnopqrstuvwxyz" + "z" * 470 + "!1", "\\u0041" * 80, "1ab-" * 120 + "!"])  # fmt: skip
def test_a_hostile_value_ends(value):
    """A cubic expression would take minutes here."""
    redact((f"password={value}\n" * 400).encode())
    redact((f'password = "{value}"\n' * 400).encode())


def test_a_hostile_key_block_ends():
    header = b"-----BEGIN PRIVATE KEY-----"
    for piece in (
        header + b"A" * 32,
        header + b"nnAbcd: " * 6,
        header + b"n" * 64 + b"Abc: ",
        header + b"A" * 32 + b"-",
    ):
        redact(piece * 2000)


PIECES = [kind.literals[0] for kind in PATTERNS] + [
    made(kind, 1).text[:-1].encode() for kind in planted.KINDS
] + [b'="', b'"', b": ", b"REDACTED_SECRET_1a2b", b"-----END PRIVATE KEY-----", b"A1b2C3d4" * 5, "é".encode(), b"\n", b"@h"]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join)


@given(TEXTS | st.binary(max_size=300))
def test_redacting_again_changes_nothing(text):
    clean = redact(text)
    assert redact(clean.text) == (clean.text, Counter(), 0.0)
    assert redact_message(clean.text).text == redact_message(redact_message(text).text).text


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=6).map(str.encode), max_size=12).map(b"".join))
def test_utf8_stays_utf8(text):
    redact(text).text.decode()
    redact_message(text).text.decode()
