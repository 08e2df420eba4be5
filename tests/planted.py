"""Made-up secrets of every kind and look-alikes, each as a line or block of text. Nothing here was ever a real key."""

from __future__ import annotations

import base64
import re
import string
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

WORD = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
BASE64 = WORD + "+/"
URL = WORD + "-_"
ALPHABETS = {
    "h": HEX,
    "w": WORD,
    "u": URL,
    "b": BASE64,
    "a": string.ascii_lowercase + string.digits,
    "A": string.ascii_uppercase + string.digits,
    "B": string.ascii_uppercase + "234567",
    "n": string.digits,
}
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


def filled(form: str) -> Callable[[Random], str]:
    """A token by its form, in which `<h40>` stands for 40 hexadecimal digits, and so on for other alphabets."""
    return lambda chance: re.sub(
        r"<(\w)(\d+)>", lambda hole: run(chance, ALPHABETS[hole[1]], int(hole[2])), form.replace("<uuid>", UUID)
    )


UUID = "<h8>-<h4>-<h4>-<h4>-<h12>"


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

FORMS = {
    "AWS_KEY of a root": "A3T<B17>", "AWS_KEY of Bedrock": "ABSK<b120>=", "AWS_KEY of Bedrock for hours": "bedrock-api-key-<b60>",
    "AWS_KEY of AppSync": "da2-<a26>", "AZURE_SECRET": "<w3>8Q~<u34>", "AZURE_KEY of a registry": "<w42>+ACR<w6>",
    "AGE_KEY": "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" + "QPZRY9X8GF2TVDW0S3JN54KHCE",
    "GITLAB_TOKEN of a runner": "glrt-<u20>", "GITLAB_TOKEN that says its route": "glpat-<u27>.01.<a9>", "GITLAB_TOKEN of an agent": "glagent-<u50>",
    "GITLAB_TOKEN of an application": "gloas-<h64>", "GITLAB_TOKEN of old runners": "GR1348941<u20>", "SLACK_TOKEN that expires": "xoxe.xoxp-1-<A163>",
    "OPENAI_KEY of OpenRouter": "sk-or-v1-<h64>", "OPENAI_KEY of DeepSeek": "sk-<h32>", "GOOGLE_KEY of a client": "GOCSPX-<u28>",
    "GOOGLE_TOKEN": "ya29.<u80>", "STRIPE_KEY of a hook": "whsec_<w32>", "STRIPE_KEY of a payment": "pi_<w24>_secret_<w25>",
    "ADAFRUIT_KEY": "aio_<w28>", "ADOBE_SECRET": "p8e-<a32>", "ALIBABA_KEY": "LTAI<w20>", "APIFY_TOKEN": "apify_api_<w36>",
    "ARTIFACTORY_TOKEN": "AKCp<w69>", "ARTIFACTORY_TOKEN of references": "cmVmdGtu<w56>", "ATLASSIAN_TOKEN": "ATATT3xFfG<w170>=<A8>",
    "ATLASSIAN_TOKEN of Bitbucket": "ATBB<w32>", "ATLASSIAN_TOKEN of a data center": "BBDC-<w44>", "BANNERBEAR_KEY": "bb_pr_<h30>",
    "BUILDKITE_TOKEN": "bkua_<a40>", "CIRCLECI_TOKEN": "CCIPAT_<w22>_<h40>", "CLICKHOUSE_KEY": "4b1d<w38>", "CLICKUP_TOKEN": "pk_<n8>_<A32>",
    "CLOJARS_TOKEN": "CLOJARS_<a60>", "CLOSE_KEY": "api_<w22>.<w22>", "CLOUDFLARE_TOKEN": "cfut_<w40><h8>", "CLOUDFLARE_TOKEN of origins": "v1.0-<h24>-<h146>",
    "CONTENTFUL_TOKEN": "CFPAT-<u43>", "DATABRICKS_TOKEN": "dapi<h32>", "DEFINED_TOKEN": "dnkey-<w26>-<w52>", "DENO_TOKEN": "ddp_<w36>", "DFUSE_KEY": "web_<h32>",
    "DIGITALOCEAN_TOKEN": "dop_v1_<h64>", "DOCKER_TOKEN": "dckr_pat_<u27>", "DOPPLER_TOKEN": "dp.pt.<w43>", "DROPBOX_TOKEN": "sl.<u135>",
    "DUFFEL_TOKEN": "duffel_live_<u43>", "DYNATRACE_TOKEN": "dt0c01.<A24>.<A64>", "EASYPOST_TOKEN": "EZAK<w54>", "ELEVENLABS_KEY": "sk_<h48>", "ENDOR_KEY": "endr+<w16>",
    "FACEBOOK_TOKEN": "EAAC<w150>", "FIGMA_TOKEN": "figd_<u40>", "FLEETBASE_KEY": "flb_live_<w20>", "FLEXPORT_TOKEN": "shltm_<u40>", "FLUTTERWAVE_KEY": "FLWSECK_TEST-<h32>-X",
    "FLY_TOKEN": "fm2_<b120>", "FRAMEIO_TOKEN": "fio-u-<u64>", "FULLSTORY_KEY": "na1.<b100>", "GOCARDLESS_TOKEN": "live_<u40>", "GRAFANA_TOKEN": "glsa_<w32>_<h8>",
    "GRAFANA_TOKEN of the cloud": "glc_<w60>", "GROQ_KEY": "gsk_<w52>", "HARNESS_KEY": "pat.<w22>.<w24>.<w20>", "HEROKU_KEY": "HRKU-AA<u58>",
    "HUBSPOT_TOKEN": "pat-na1-<uuid>", "INFRACOST_TOKEN": "ico-<w32>", "INTRA_SECRET": "s-s4t2ud-<h64>", "LANGSMITH_KEY": "lsv2_pt_<h32>_<h10>",
    "LAUNCHDARKLY_KEY": "sdk-<uuid>", "LINEAR_KEY": "lin_api_<w40>", "MAILCHIMP_KEY": "<h32>-us12", "MAILGUN_KEY": "key-<h32>", "MAPBOX_TOKEN": "sk.eyJ<w60>.<w22>",
    "MAXMIND_KEY": "<w6>_<w29>_mmk", "NETLIFY_TOKEN": "nfp_<w36>", "NEWRELIC_KEY": "NRAK-<A27>", "NEWRELIC_KEY of licences": "<h32>FFFFNRAL", "NIGHTFALL_KEY": "NF-<w32>",
    "NOTION_TOKEN": "ntn_<n11><w35>", "NOTION_TOKEN of old": "secret_<w43>", "NVIDIA_KEY": "nvapi-<u64>", "OCTOPUS_KEY": "API-<A26>", "ONEPASSWORD_KEY": "A3-<A6>-<A11>-<A5>-<A5>-<A5>",
    "ONEPASSWORD_KEY of a service": "ops_eyJ<w250>", "OPENSHIFT_TOKEN": "sha256~<u43>", "PERPLEXITY_KEY": "pplx-<w48>", "PGANALYZE_KEY": "pgar_<w27>", "PHOTOROOM_KEY": "sk_pr_<w20>_<h40>",
    "PINECONE_KEY": "pcsk_<w6>_<w63>", "PLAID_TOKEN": "access-sandbox-<uuid>", "PLANETSCALE_TOKEN": "pscale_tkn_<w43>", "PORTAINER_TOKEN": "ptr_<w44>", "POSTHOG_KEY": "phx_<w43>",
    "POSTMAN_KEY": "PMAK-<h24>-<h34>", "PREFECT_KEY": "pnu_<w36>", "PUBNUB_KEY": "sec-c-<w48>", "PULUMI_TOKEN": "pul-<h40>", "RAMP_SECRET": "ramp_sec_<w48>", "README_KEY": "rdme_<a70>",
    "REPLICATE_TOKEN": "r8_<w37>", "ROBINHOOD_KEY": "rh-api-<uuid>", "ROOTLY_KEY": "rootly_<h64>", "RUBYGEMS_KEY": "rubygems_<h48>", "SALAD_KEY": "salad_cloud_<w6>_<w40>",
    "SALESFORCE_TOKEN": "5Aep861<w80>", "SALESFORCE_TOKEN of a session": "00D<w12>!<w96>", "SCALINGO_TOKEN": "tk-us-<u48>", "BREVO_KEY": "xkeysib-<h64>-<w16>", "SENTRY_TOKEN": "sntryu_<h64>",
    "SENTRY_TOKEN of an organization": "sntrys_eyJ<w197>", "SETTLEMINT_TOKEN": "sm_aat_<w16>", "SHIPPO_TOKEN": "shippo_live_<h40>", "SHOPIFY_TOKEN": "shpat_<h32>", "SMOOCH_KEY": "act_<h24>",
    "SONAR_TOKEN": "squ_<h40>", "SOURCEGRAPH_TOKEN": "sgp_<h16>_<h40>", "SOURCEGRAPH_TOKEN of Cody": "slk_<h64>", "SPECTRAL_KEY": "spu-<a32>", "SQUARE_TOKEN": "sq0atp-<u22>", "SUPABASE_TOKEN": "sbp_<h40>",
    "SUPABASE_TOKEN of a project": "sb_secret_<w22>_<w8>", "TABLEAU_TOKEN": "<w22>==:<w32>", "TAILSCALE_KEY": "tskey-auth-<w12>-<w32>", "TERRAFORM_TOKEN": "<w14>.atlasv1.<w67>",
    "TICKETTAILOR_KEY": "sk_<n4>_<n6>_<h32>", "TRUFFLEHOG_KEY": "thog-secret-<h32>", "TWITTER_TOKEN": "AAAAAAAAAAAAAAAAAAAAAA<w20>%3D<w40>", "TYPEFORM_TOKEN": "tfp_<w59>", "UBIDOTS_KEY": "BBFF-<w30>",
    "VAULT_TOKEN": "hvs.<w90>", "VOICEFLOW_KEY": "VF.DM.<h24>.<w16>", "WEBEX_TOKEN": "<w64>_PF84_<uuid>", "XAI_KEY": "xai-<w80>", "YANDEX_KEY": "AQVN<u35>", "ZOHO_TOKEN": "1000.<h32>.<h32>",
    "BESTTIME_KEY": "pri_<h32>", "CHECIO_KEY": "pk_<a45>", "FINAGE_KEY": "API_KEY<A32>", "IEX_KEY": "sk_<a32>", "KLAVIYO_KEY": "pk_<h34>", "SALESBLINK_KEY": "key-<w64>",
    "PAGARME_KEY": "ak_live_<w30>", "RAZORPAY_KEY": "rzp_live_<w14>", "JWT in base64": "ZXlKaGJHY2lPaU<w80>",
}  # fmt: skip
"""The same for other issuers, by form."""
TOKENS |= {kind: filled(form) for kind, form in FORMS.items()}

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

BY_JOIN: dict[str, tuple[str, ...]] = {
    "calls": (
        "define('NAME', '§');", 'define( "NAME" , "§" );', 'user.setNAME("§");', 'config.set("NAME", "§")', 'builder.NAME("§").build()',
        'map.put("NAME", "§");', 'os.environ.setdefault("NAME", "§")', 'setenv("NAME", "§", 1);', 'monkeypatch.setenv("NAME", "§")',
        'System.setProperty("db.NAME", "§");', '.withNAME("§")', 'new KeyValuePair<string, string>("NAME", "§"),', "Config::set('NAME', '§');",
        'NAME: SecretString::new("§".into()),', 'NAME = Secret(value="§")', 'NAME: Some(String::from("§")),', 'std::string NAME("§");',
    ),
    "environment": (
        'putenv("NAME=§");', "putenv('NAME=§');", "NAME=§ psql -h db", 'NAME="§" psql -h db', "export NAME=§; run", "- NAME=§\n", "docker run -e NAME=§ x",
        "ENV NAME §\n", "ENV NAME=§ PORT=80\n", "ARG NAME=§\n", "setenv NAME §\n", "set -x NAME §\n", '$env:NAME = "§"', "NAME=§\n", 'os.environ["NAME"] = "§"',
        "process.env.NAME = '§'", "heroku config:set NAME=§ PORT=80", "# ENV NAME §\n",
    ),
    "defaults": (
        'os.environ.get("NAME", "§")', "env('NAME', '§')", 'ENV.fetch("NAME", "§")', 'os.getenv("NAME") or "§"', "process.env.NAME || '§'", "process.env.NAME ?? '§'",
        'ENV["NAME"] ||= "§"', "${NAME:-§}", "${NAME:§}", 'NAME = os.getenv("X") or "§"', 'NAME = os.getenv("X", "§")', '@Value("${db.NAME:§}")',
        'variable "NAME" {\n  type    = string\n  default = "§"\n}',
    ),
    "XML": (
        "<NAME>§</NAME>", "<db:NAME>§</db:NAME>", '<NAME type="plain">§</NAME>', "<NAME><![CDATA[§]]></NAME>", '<connection NAME="§"/>', '<add key="NAME" value="§"/>',
        "<add key='NAME' value='§' />", '<property name="NAME" value="§"/>', '<property name="connection.NAME">§</property>', '<entry key="NAME">§</entry>',
        '<string name="NAME">§</string>', "<key>NAME</key>\n\t<string>§</string>", '<setting name="NAME" serializeAs="String">\n  <value>§</value>', '<param name="NAME"\n       value="§"/>',
        "<td>NAME</td><td>§</td>", "<NAME>\n  §\n</NAME>",
    ),
    "connection strings": (
        '"Server=tcp:db.x,1433;User ID=svc;NAME=§;Encrypt=True"', '"Server=db;NAME=§"', '"jdbc:sqlserver://db;user=svc;NAME=§;encrypt=true"', "'host=db user=svc NAME=§ dbname=x'",
        '"cache.x:6380,NAME=§,ssl=True,abortConnect=False"', '"jdbc:mysql://db/x?user=svc&NAME=§&useSSL=false"', "Driver={SQL Server};Uid=svc;NAME=§;", '"NAME=" + "§"', "'NAME=' . '§'",
        "Server=db; NAME = §; Encrypt=True",
    ),
    "URLs": ('"https://api.x/v1?NAME=§&q=1"', '"https://api.x/v1?q=1&NAME=§"', "curl https://api.x/v1?NAME=§\n", "grant_type=x&NAME=§&scope=y", "https://api.x/#NAME=§&a=b", "?a=b&amp;NAME=§&amp;c=d"),
    "command lines": (
        "tool --NAME=§ x", "tool --NAME § x", 'tool --NAME "§" x', '["tool", "--NAME", "§"]', "java -Ddb.NAME=§ -jar x", "helm upgrade --set x.NAME=§ --set b=c", "helm upgrade --set x.NAME=§,y=2",
        "kubectl create secret generic x --from-literal=NAME=§", "aws configure set NAME §\n", "curl -H 'X-NAME: §' https://x", 'curl -d "NAME=§" https://x', "curl -d '{\"NAME\":\"§\"}' https://x",
    ),
    "strings in strings": (
        r'"{\"user\": \"svc\", \"NAME\": \"§\"}"', r'"{\\\"NAME\\\":\\\"§\\\"}"', r'\\\\\\\"NAME\\\\\\\": \\\\\\\"§\\\\\\\"', "&quot;NAME&quot;:&quot;§&quot;", "%22NAME%22%3A%22§%22",
        r'"NAME=§\nuser=x"', r'"<NAME>§<\/NAME>"', r"'{\'NAME\': \'§\'}'", "\"{'NAME': '§'}\"", r'"\u0022NAME\u0022: \u0022§\u0022"', "'NAME=\"§\"'",
    ),
    "pairs on two lines": (
        "- name: NAME\n  value: §\n", '- name: NAME\n  value: "§"\n', "- name: 'NAME'\n  value: '§'\n", '{"name": "NAME", "value": "§"}', '{\n  "Key": "NAME",\n  "Value": "§"\n}', '{ name = "NAME", value = "§" },',
        'set {\n  name  = "NAME"\n  value = "§"\n}', 'fill_in "NAME", with: "§"', "NAME:\n  default: §\n", "NAME: >-\n  §\n", "NAME: |\n    §\n",
    ),
    "languages": (
        'NAME = "§"', "NAME = '§'", "NAME = b'§'", 'NAME := "§"', 'var NAME string = "§"', "const NAME = `§`", 'Dim NAME As String = "§"', 'val NAME: String = "§"', 'let NAME: String? = "§"',
        "let NAME: &'static str = \"§\";", 'static final String NAME = "§";', "private $NAME = '§';", "'NAME' => '§',", "$config['NAME'] = '§';", "$this->NAME = '§';", "my $NAME = q{§};", "local NAME = [[§]]",
        'NAME <- "§"', '(setq NAME "§")', ':NAME "§"', 'char NAME[] = "§";', '#define NAME "§"', 'std::string NAME{"§"};', 'NSString *NAME = @"§";', ":NAME => '§'", "{NAME, \"§\"}", '"NAME" -> "§"', '"NAME" to "§"',
        'NAME: "§"', '{"NAME": "§"}', "{'NAME': '§', 'a': 1}", 'm["NAME"] = "§"', "NAME: Optional[str] = '§'", "if NAME == '§':", 'NAME?: string = "§"', "NAME = %q(§)", 'NAME = ["§"]', "@NAME = '§'", 'NAME=>"§"',
    ),
    "configuration": (
        "NAME = §\n", "NAME=§\n", "NAME: §\n", "NAME: § # mine\n", "spring.datasource.NAME=§\n", 'NAME = "§"\n', "{user: svc, NAME: §}", "NAME: '§'\n", "NAME §\n", "NAME\t§\n", "| NAME | § |\n", "NAME            §\n", 'NAME "§"\n', "NAME '§';\n", "user = svc, NAME = §, x = y",
    ),
}  # fmt: skip
"""How a name is joined to its value: NAME is the name, § the value."""
JOIN_NAMES = {
    "PASSWORD": ("password", "db_password", "DB_PASSWORD", "Password", "dbPassword", "admin_passwd", "userPwd"),
    "SECRET": ("apiKey", "API_KEY", "api_key", "client_secret", "AUTH_TOKEN", "accessToken", "signing-key"),
}
ARGUMENTS: dict[str, tuple[str, ...]] = {
    "SQL": (
        "ALTER ROLE svc WITH PASSWORD '§'", "CREATE USER 'a'@'%' IDENTIFIED BY '§';", 'psql -c "CREATE USER x PASSWORD \'§\'"', "SET PASSWORD FOR 'root'@'localhost' = PASSWORD('§');",
        "create user a identified by '§';", "CREATE USER 'a' IDENTIFIED WITH mysql_native_password BY '§';", "CREATE LOGIN x WITH PASSWORD = N'§';", 'GRANT ALL ON *.* TO x IDENTIFIED BY \\"§\\"', "CREATE ROLE a LOGIN PASSWORD '§'",
        "CREATE USER a WITH ENCRYPTED PASSWORD '§';",
    ),
    ".netrc": ("machine api.x login svc password §", "machine api.x\n  login svc\n  password §\n", "default login svc password §", 'echo "machine api.x login svc password §" > ~/.netrc'),
    "options": (
        "mysql -u root -p§ shop", '["mysqladmin", "ping", "-p§"]', "mysqldump -uroot -p'§' shop > x", "sshpass -p § ssh x", "sshpass -p '§' ssh x", "htpasswd -b .htpasswd svc §", "htpasswd -nb svc § > f",
        "docker login -u svc -p § reg.x", "redis-cli -h x -a § ping", "openssl rsa -passin pass:§ -in x", "keytool -storepass § -alias x", "sqlcmd -U sa -P '§' -Q x", "curl -u svc:§ https://x", 'curl --user "svc:§" https://x',
        "mongosh -u svc -p § db", "rabbitmqctl add_user svc §", "smbclient //h/s -U svc%§", "ldapsearch -D cn=x -w § -b y", "echo 'root:§' | chpasswd", "echo § | sudo -S ls", "echo \"§\" | docker login -u x --password-stdin",
        'ConvertTo-SecureString "§" -AsPlainText -Force', "sqlplus svc/§@db", '"jdbc:oracle:thin:svc/§@//db:1521/x"', "net user svc § /add", "7z a -p§ x.7z y",
    ),
    "second arguments": (
        'server.login("svc", "§")', 'requests.get(url, auth=("svc", "§"))', 'HTTPBasicAuth("svc", "§")', 'new NetworkCredential("svc", "§")', 'DriverManager.getConnection(url, "svc", "§");', 'mysqli_connect("db", "svc", "§");',
        "new PDO($dsn, 'svc', '§');", 'req.SetBasicAuth("svc", "§")', 'new UsernamePasswordCredentials("svc", "§")', 'client.get(url).basic_auth("svc", Some("§"))', "mysql_connect('db', 'svc', '§');",
        'request(app).get("/").auth("svc", "§")', "api.auth('svc', '§').expect(200)", 'spec.auth( "svc" , "§" )', 'credentials("svc", "§")', "Credentials('svc', '§');", 'new Credentials("svc",\n    "§")',
    ),
}  # fmt: skip
"""Where a password stands without a name, or after one that SQL gives it."""


def drawn(chance: Random) -> str:
    """A value that can stand anywhere, without quotes, too: two digits and more."""
    while True:
        made = run(chance, WORD, chance.choice([11, 14, 20]))
        if sum(map(str.isdigit, made)) > 1 and not re.fullmatch(r"[A-Za-z]+\d{1,4}", made):
            return made


def _joined(forms: tuple[str, ...], names: tuple[str, ...]) -> Callable[[Random], Planted]:
    return lambda c: _in(c.choice(forms).replace("NAME", c.choice(names)), drawn(c))


AROUND |= {
    f"{kind} in {where}": _joined(forms, names)
    for where, forms in BY_JOIN.items()
    for kind, names in JOIN_NAMES.items()
}
AROUND |= {f"PASSWORD in {where}": _joined(forms, ("",)) for where, forms in ARGUMENTS.items()}
AROUND |= {
    "SECRET that is a UUID": lambda c: _in(
        c.choice(["VAULT_TOKEN=§\n", 'client_secret: "§"', '"apiKey": "§"', "secret_id=§ x", "token: §\n"]), filled(UUID)(c)
    ),
    "AUTH_HEADER without a scheme": lambda c: _in(c.choice(['{"Authorization": "§"}', "Authorization: token §\n"]), run(c, WORD, 40)),
    "AUTH_HEADER of a registry": lambda c: _in('{"auths": {"r.x": {"auth": "§"}}}', run(c, BASE64, 39) + "="),
    "AUTH_HEADER of npm": lambda c: _in(
        c.choice(["_auth = §\n", "_auth=§\n", '_auth="§"\n', "//npm.x/:_auth=§\n", "always-auth=true\n_auth=§", "RUN echo '_auth=§' >> .npmrc"]),
        base64.b64encode(f"svc:{run(c, WORD, c.choice([11, 12, 20]))}".encode()).decode(),
    ),
    "WORDPRESS_KEY": lambda c: _in("define('AUTH_KEY', '§');", run(c, WORD + "!@#$%^&*()-_[]{}<>~+=,.;:/?| ", 58) + "q8:]%&"),
    "PRIVATE_KEY in base64": lambda c: _in("  tls.key: §\n", base64.b64encode(block(c, "RSA PRIVATE KEY").encode()).decode()),
    "PRIVATE_KEY of PuTTY": lambda c: _in("PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 2§\nPrivate-MAC: 0", f"\n{run(c, BASE64, 64)}\n{run(c, BASE64, 40)}"),
    "DISCORD_TOKEN of a hook": lambda c: _in("https://discord.com/api/webhooks/§", f"{c.randrange(10**17, 10**18)}/{run(c, URL, 68)}"),
    "TELEGRAM_TOKEN": lambda c: _in(f"https://api.telegram.org/bot{c.randrange(10**8, 10**9)}:§/getMe", "AA" + run(c, URL, 33)),
    "OKTA_TOKEN": lambda c: _in("Authorization: SSWS §", "00" + run(c, URL, 40)),
    "AZURE_KEY of a link": lambda c: _in("https://a.blob.core.windows.net/c?sv=2022-11-02&sig=§&se=2030", run(c, WORD, 43) + "%3D"),
    "ZAPIER_HOOK": lambda c: _in("https://hooks.zapier.com/hooks/catch/§", f"{c.randrange(10**6, 10**7)}/{run(c, WORD, 8)}"),
    "TINES_HOOK": lambda c: _in("https://x.tines.com/webhook/§", f"{run(c, HEX, 32)}/{run(c, HEX, 32)}"),
    "AUTHRESS_KEY": lambda c: _in(f"sc_{run(c, WORD, 12)}.abcd.acc_{run(c, HEX, 12)}.§", run(c, WORD, 60)),
    "TEAMS_HOOK": lambda c: _in(
        "https://x.webhook.office.com/webhookb2/§", f"{filled(UUID)(c)}@{filled(UUID)(c)}/IncomingWebhook/{run(c, HEX, 32)}/{filled(UUID)(c)}"
    ),
    "GITLAB_TOKEN of a session": lambda c: _in("Cookie: _gitlab_session=§", run(c, HEX, 32)),
}  # fmt: skip

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
    "uuid": lambda c: _in(c.choice(SETTERS).replace("NAME", c.choice(["tenant_id", "client_id", "token_id", "requestId", "KEY_ID"])), filled(UUID)(c)).text,
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
                "${DB_PASSWORD_2}", "{{ secret_1 }}", "$ENV_TOKEN_1", "%DB_PASS1%", "{settings.key1}", "%(pass1)s", "$(cat key1)", "worker-%02d-pw", "barryIsThe2nd{$i}", "pw[$ne]=zzz1", "YourPwdShouldBe16Long!", "yourSecretWith1Digit!",
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
    "call": lambda c: c.choice(
        [
            'getPassword("user_password_1")', "define('DB_PASSWORD', getenv('DB_PASSWORD_1'));", 'define("AUTH_KEY", "put your unique phrase here");', 'setPassword(passwordField1.text)',
            'resolveSecret("prod-db-v2")', '__("password", "Enter your password")', 'it("resets the password", "works")', "assertEquals('token', 'expected-token')", 'readToken("IDENT_2")', "->expects('getPassword')->times(2)->andReturn('x1');",
            'config.get("password", "changeme-1")', 'setToken(tokens[3]);', '("page=1&appkey=test-appkey", "bar2=foo")', 'tokenize("foo<!--Comment-->")', 'fill_in "Password", with: user.password1',
        ]
    ),
    "markup": lambda c: c.choice(
        [
            "<password>${db.password1}</password>", "<password>{{ password_1 }}</password>", '<add key="ApiKey" value="#{ApiKey1}#"/>', '<input type="password" name="password1" id="password-field-1">', "<label for='password1'>Password</label>",
            '<property name="passwordEncoder" value="BCryptEncoder2"/>', '<UserSecretsId>aspnet-Web2-1FA3F72E-E7E3-4360-9E49-1CCCD7FE85F7</UserSecretsId>', "<token>identifier_1</token>", '<pass name="Optimize1" refer="Default">',
            '<a href="a.html#token-bridges"><code>a.md#token-bridges</code></a>', '<a accesskey="1">O&gTn&gte</a>',
        ]
    ),
    "variable": lambda c: c.choice(
        [
            "ENV DB_PASSWORD ${DB_PASSWORD_1}", "ENV DB_PASSWORD $DB_PASSWORD_1", "ARG API_TOKEN", "PGPASSWORD=$POSTGRES_PASSWORD1 psql", "mysqldump --password=$(cat /run/secrets/db1) x", "tool --password-file /run/secrets/db_1 x", "tool --token-url https://a.x/v1",
            "curl -u $USER:$PASSWORD1 https://x", "curl -u {user}:{pass1} https://x", "docker run -p 3306:3306 mysql", "docker run --user 1000:1000 x", "curl -u user:password https://x", "mysql -u root -p shop1", "psql -p 5432 -h mysql-prod1",
            "%wheel ALL=(ALL) NOPASSWD: ALL", "//registry.npmjs.org/:_authToken=${NPM_TOKEN}", "helm --set x.existingSecret=prod-secret-v1", 'secretName: "prod-tls-5f6d8a9b"', "token_ttl 768h59m50s", "HostKey /etc/ssh/ssh_host_ed25519_key",
            "- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef:\n      name: prod-db-1a2b", "- name: DB_PASSWORD\n  value: $(DB_PASSWORD_1)\n", "PASSWORD_HASHER=argon2id19", "Authorization: Bearer $TOKEN_1", "api_key=YOUR_API_KEY_1&q=1", "token = 0x1234567890abcdef",
        ]
    ),
    "connection string": lambda c: c.choice(
        [
            "Server={0};User Id={1};Password={2};", '"Server=db;Password=%s;Encrypt=True"', "Server=db;Password=<password>;", '"jdbc:mysql://db/x?user=a&password=${pass1}&ssl=true"', "Server=db;Integrated Security=SSPI;",
            "Version=4.0.0.0, Culture=neutral, PublicKeyToken=b77a5c561934e089", "Server=db;Password=********;", "Authentication=SqlPassword;TokenLifetime=3600s1",
        ]
    ),
    "statement": lambda c: c.choice(
        [
            "CREATE USER a IDENTIFIED BY '$DB_PASSWORD';", "ALTER USER a IDENTIFIED BY '{password}'", "ALTER ROLE a WITH PASSWORD '%s'", "ALTER USER a IDENTIFIED WITH mysql_native_password AS '*6BB4837EB74329105EE4568DDA7DC67ED2CA2AD9'",
            "CREATE USER a WITH PASSWORD 'your-password-1'", "password VARCHAR(255) NOT NULL", "SELECT password2fa FROM users2 WHERE a=1", "machine api.x login svc password ${PASSWORD_1}",
        ]
    ),
    "prose": lambda c: c.choice(
        [
            "Enter your password to continue with step2", "the token must have 32characters or more", "pass `{\"id\":\"0x01-a\"}` to filter", "a password containing utf8mb4-characters", 'with the secret "prod/db/v1"', "token sha256-compatible", "Passwords are hashed with bcrypt12 rounds",
            "api key: see https://a.x/docs1", "password: a string of 8to64 characters", "uses token-based2 authentication", "secret sharing of Shamir1979",
        ]
    ),
    "code": lambda c: c.choice(
        [
            "password = utf8_decode(x1y2)", "token=base64url2bytes,", "let token = self.tokens[i1+2];", "tokens = tokenizer.encode2(text)", "int tokens32k = 1 << 15;", "secret = Secret25519::generate(&mut rng)", "api_key=config.apiKey2,", "const pwdRegex = /^(?=.*[A-Z])(?=.*\\d).{8,}$/;",
            "password: z.string().min(8).max(64),", 'static const char key_exchange_secret[] = "\\x6d\\x61\\x73\\x74\\x65\\x72";', '"@aws-sdk/credential-provider-node": "npm:^3.972.21"', "integrity sha512-Gj7cI7z98M282Tqmp2K5EIsoouUEzhulypw==\n\n\"@types/parse-json@^4.0.0\":",
            "password = Column(String(64), nullable=False)", "password?: string | undefined2;", 'token: "fe80:0000:0000:0000:0204:61ff:fe9d:f156"', 'password: "\\(user.name1):\\(user.password1)"', 'token = "$scheme:$token1"', "pass 'x';", "NextToken=AAAAQ1w2e3r4t5",
        ]
    ),
    "translation": lambda c: c.choice(
        [
            f"'password_reset' => 'crwdns{c.randrange(10**5)}:0crwdne{c.randrange(10**5)}:0',", '"LABEL_AUTH_TOKEN": "2FAトークン"', '"AUTH_TOKEN": "2FA-token"', '"AUTH_TOKEN": "2FA驗證碼"', '"AUTH_TOKEN": "2fa-Код"',
            '"INITIAL_TOKEN_TOOLTIP": "從authenticator輸入的驗證碼必須有6個字元"', '"password": "Пароль(минимум8символов)"',
            r'"client_secret": "\u0627\u0644\u0633\u0631"', r'"client_secret": "Tajn\u00e9"', r'"access_token": "Webhook\u306e\u30b7\u30fc\u30af\u30ec\u30c3\u30c8"', r'"password": "\u65b0\u3057\u3044\u30c8"', r'{"password":"Contrase\u00f1aNueva"}',
            '"consumerKey": "Consumer%20Key"', '"access_token": "Access%20Token"',
        ]
    ),
    "rule": lambda c: c.choice(
        [
            "'password' => 'confirmed|'.rules('store'),", "'password' => 'required|notIn:[\"'.$a.'\",\"'.$b.'\"'", "'password' => 'required|min:8|regex:/[a-z]/'", "'password' => 'nullable|string|min:12|max:255'", "'password' => 'sometimes|between:6,64|confirmed',",
        ]
    ),
    "alphabet": lambda c: c.choice(
        [
            f"$password = substr(str_shuffle('{string.digits + string.ascii_letters}'), 0, 40);", f'passwordChars = "{string.ascii_letters + string.digits}"', f'token = draw("{string.ascii_lowercase + string.digits}", 8)',
            f'password = pick("{WORD}!@#$%")',
        ]
    ),
    "id of a credential": lambda c: filled(c.choice(["<credential>\n  <id><uuid></id>\n</credential>", "<credentials>\n <x.UserCredentials>\n  <id><uuid></id>"]))(c),
    "lexer": lambda c: c.choice(
        [
            '"token": "0comment"', 'expected: []token{{\n kind: tokenUnquoted,\n value: "hello0123456789",\n}}', '{ type: TokenNumber, value: "12ab34cd56" }', '{"foreground": "1", "token": "1st-heading"}',
        ]
    ),
    "key of the next pair": lambda c: c.choice(
        [
            "'accessToken' => $accessToken,\n'enabled2FA' => $enabled2FA,", '"oauth2Secret": "clientSecret",\n"oauth2Url": "http://x/",', '"x": "password",\n  "a1b2c3d4x9": 1', "{'field': 'password', 'b7x9q2Lm': 'c'}",
        ]
    ),
    "hash of a password": _named(lambda c: f"$pbkdf2-sha512$310000${run(c, WORD, 22)}${run(c, WORD, 80)}"),
    "name of an algorithm": lambda c: c.choice(
        [
            "token_alg: oidc.SigningAlgECDSAUsingP521AndSHA512,\n", "PasswordEnc = oidc.EncryptionEncA128GCM\n", "secret=c.RFC8628UserVerificationURL\n", "secret_enc: 'A128CBC-HS256'", 'token_alg = "RSA-OAEP-256"', 'token_enc: "A256GCMKW"', f'f(ctx, TypeAccessToken, "{filled(UUID)(c)}")',
        ]
    ),
    "part of a list": lambda c: c.choice(
        [
            '["123321", "password123", "1q2w3e4r5t", "iloveyou"]', "('authtoken', '0002_auto_20160226_1747'),", "('authtoken', '0003_tokenproxy'),",
        ]
    ),
    "what is public": lambda c: c.choice(
        [
            f"'credentialPublicKey' => '{run(c, BASE64, 20)}',", f'const tokenAddress = "0x{run(c, WORD[:6].upper() + HEX, 40)}"', f'privateKey: "0x{run(c, HEX, 40)}"', f'private_key = "0x02{run(c, HEX, 64)}"', f'let secret_public_key = "{run(c, WORD, 32)}";',
        ]
    ),
    "what a function makes": lambda c: c.choice(
        [
            'let token = build_jwt("Iv1.abc123", &key)', 'token = create_token("u1-a2b3")', "const token = signToken('user7x9', key)", 'token = task_id.set("a8098c1a")', "reset_token = self._context.set('a1b2c3d4')",
            f"assert.equal(hash('password'), '{run(c, HEX, 32)}')", f'assertEquals(hmac("password"), "{run(c, HEX, 64)}")', f'expect(md5("secret")).toBe("{run(c, HEX, 32)}")', f'check(Sha256("password"), "{run(c, HEX, 64)}")', 'encrypted("a", AES_256_PBE_CBC("passwd", "5c0744940b5c369b"))', 'pbkdf2("password", "4f9a7c2be1", 1000)',
        ]
    ),
    "second argument": lambda c: c.choice(
        [
            'request.auth("user", "password1")', "api.auth('user', 'pass')", 'x.auth("bearer", token1)', "api.auth('svc', '${PASS_1}')", 'credentials("docker-registry", "k8s-prod")', 'credentials("svc", "v2/keys")', "credentials('deploy-1')", 'credentials("a", "b7x9q2", "c")',
            "_auth = get_auth2()", "_auth = Base64Authentication\n", "_auth=${NPM_AUTH_1}\n", "_auth = dummyPlaceholder12\n", "basic_auth = HTTPBasicAuth2Handler\n", "cmd = ['sshpass', '-p', shell.password] + cmd", 'identified by \"system::system::ci\", and',
        ]
    ),
}  # fmt: skip
"""What is no secret."""


def _in(text: str, secret: str) -> Planted:
    return Planted(text.replace("§", secret), secret)
