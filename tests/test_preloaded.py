"""The commands that start at once are as honest as those that do not: streams, folder, environment and exit code."""

from __future__ import annotations

import os
import subprocess

import pytest

from shell import HUNG, environment

SCRIPT = """
import os, sys
from pathlib import Path
assert __name__ == "__main__"
print(sys.argv[1:], os.environ["OWN"], Path.cwd().name, "git_starcoder" in sys.modules, sys.stdin.read())
print("said", file=sys.stderr)
exec(os.environ["ENDS"])
"""


@pytest.fixture
def run(commands, tmp_path):
    def run(*command, given="", **changes):
        variables = environment(**changes)
        variables["PATH"] = os.pathsep.join((str(commands), variables["PATH"]))
        return subprocess.run(
            command, cwd=tmp_path, env=variables, input=given, capture_output=True, text=True, timeout=HUNG, check=False
        )

    return run


@pytest.mark.parametrize(
    ("ends", "code", "told"),
    [("pass", 0, "said\n"), ("sys.exit(3)", 3, "said\n"), ("sys.exit('no')", 1, "said\nno\n"), ("sys.exit()", 0, "said\n"),
     ("raise ValueError('bad')", 1, "ValueError: bad\n"), ("os.kill(os.getpid(), 9)", 70, "said\n")],
)  # fmt: skip
def test_a_script_ends_as_it_would(run, tmp_path, ends, code, told):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run("python3", "script.py", "a", "b c\u00e9", given="text", OWN="mine", ENDS=ends)
    assert done.returncode == code
    assert done.stderr.endswith(told)
    if code != 70:
        assert done.stdout == f"['a', 'b c\u00e9'] mine {tmp_path.name} False text\n"


def test_a_command_ends_as_it_would(run):
    done = run("git", "starcoder", "check", "nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'nothing' is not a finished dataset")
    assert run("git", "starcoder", "recipe", "list").stdout.startswith("baseline ")


def test_what_is_no_script_has_a_python_of_its_own(run):
    assert run("python3", "-", given="import sys; sys.exit('torch' in sys.modules)").returncode == 0
    assert run("python3", "-c", "import sys; sys.exit(4)").returncode == 4
