"""Every command on machines that lack something: it works, or it says in one line what is in the way, and exits with 2."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import orjson
import pytest

from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from shell import SMALL
from toy import code_base

OUT = Path("out")
"""In an argument: a place for an output."""
LATIN = os.fsdecode(b"caf\xe9")
"""A folder name that is not UTF-8."""


class World(NamedTuple):
    """What the commands work on."""

    folder: Path
    digest: str
    """Of the dataset that `build` makes."""

    def commands(self) -> dict[str, list]:
        """Each command on absolute paths."""
        here = self.folder
        return {
            "build": ["build", here / "repo", "-o", OUT, *SMALL, "-j", "2"],
            "check": ["check", here / "data", "--repo", here / "repo", "--json"],
            "show": ["show", here / "data", "--json"],
            "row": ["show", here / "data", "train:1"],
            "report": ["report", here / "data", "-o", OUT, "--no-check"],
            "recipe": ["recipe", "show"],
            "dry run": ["build", here / "repo", "-n", *SMALL, "-j", "1", "--json"],
            "complete": ["complete", here / "model", here / "prompt", "--max-tokens", "3"],
            "train": ["train", here / "data", "-o", OUT, "--size", "0.2M", "--steps", "1"],
            "eval": ["eval", here / "model", here / "data", "--minutes", "0.01", "--json"],
            "doctor": ["doctor", "--json"],
        }


@pytest.fixture(scope="module")
def world(tmp_path_factory, repo_maker):
    folder = tmp_path_factory.mktemp("world")
    repo_maker(code_base(14)).rename(folder / "repo")
    (folder / "prompt").write_text("def load(")
    assert main(["build", str(folder / "repo"), "-o", str(folder / "data"), *SMALL, "-j", "2", "-q"]) == 0
    assert (
        main(["train", str(folder / "data"), "-o", str(folder / "model"), "--size", "0.2M", "--steps", "1", "-q"]) == 0
    )
    return World(folder, Dataset.open(folder / "data").digest)


@pytest.fixture
def run(world, tmp_path):
    """Run commands, two at a time; gives (command, exit code, standard output, standard error) and checks what always holds."""

    def one(name, arguments, wrap, redirected, before, environment, place):
        out = place or tmp_path / f"out {name}"
        words = [str(out) if word is OUT else str(word) for word in arguments]
        program = [sys.executable, *environment.pop("python", []), "-m", "git_starcoder"]
        changes = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
        line = shlex.join([*program, *words]) + redirected
        done = subprocess.run(
            [*wrap, "bash", "-c", f"exec {line}"],
            env={key: value for key, value in changes.items() if value is not None},
            preexec_fn=before, capture_output=True, check=False,
        )  # fmt: skip
        said = done.stderr.decode("utf-8", "backslashreplace")
        assert "Traceback" not in said, said
        assert "a bug in git-starcoder" not in said, said
        assert done.returncode in {0, 2, 141}, (name, done.returncode, said)
        if done.returncode == 2 and "2>" not in redirected:
            assert [line for line in said.splitlines() if line.startswith("error: ")], said
        if name == "build" and done.returncode == 0:
            assert Dataset.open(out).digest == world.digest
        return name, done.returncode, done.stdout, said

    def several(*names, wrap=(), redirected="", before=None, commands=None, out=None, **environment):
        asked = {name: (commands or world.commands())[name] for name in names or commands}
        with ThreadPoolExecutor(2) as threads:
            found = [
                threads.submit(one, name, words, wrap, redirected, before, dict(environment), out)
                for name, words in asked.items()
            ]
            return {name: (code, answer, said) for name, code, answer, said in (each.result() for each in found)}

    return several


def codes(found):
    return {name: code for name, (code, _, _) in found.items()}


def fine(found):
    assert set(codes(found).values()) == {0}, found
    return found


def limited(what, number):
    return lambda: resource.setrlimit(what, (number, number))


def can(*command):
    """Whether this machine lets a test make the environment."""
    return bool(shutil.which(command[0])) and not subprocess.run(command, capture_output=True, check=False).returncode


mounts = pytest.mark.skipif(not can("unshare", "-m", "true"), reason="nobody here may mount: `unshare -m` is refused")
users = pytest.mark.skipif(
    not can("unshare", "-U", "--map-user=54321", "true"), reason="no other user id: `unshare -U` is refused"
)
READ_ONLY = """\
mount --bind "$1" "$1"; shift
for folder in /tmp /var/tmp /usr/tmp /dev/shm /run; do
  [ -d $folder ] && mount --rbind $folder $folder && mount -o remount,ro,bind $folder
done
cd /; exec "$@"
"""


@mounts
def test_no_temporary_folder(run, tmp_path):
    """Only the output's own folder, which is mounted, can be written."""
    place = tmp_path / "writable"
    place.mkdir()
    own = {"wrap": ["unshare", "-m", "sh", "-c", READ_ONLY, "sh", str(place)]}
    variables = {
        "TMPDIR": None,
        "TEMP": None,
        "TMP": None,
        "XDG_RUNTIME_DIR": None,
        "HOME": "/run",
        "STARCODER_CACHE": None,
        "XDG_CACHE_HOME": None,
    }
    for name in ("build", "report"):
        fine(run(name, out=place / name, **own, **variables))
    assert sorted(path.name for path in place.iterdir()) == ["build", "report"]
    found = run("show", "recipe", "check", "complete", **own, **variables)
    assert codes(found) == {"show": 0, "recipe": 0, "check": 2, "complete": 0}
    assert "there is no folder for temporary files" in found["check"][2]


@users
def test_no_home_and_no_user(run):
    found = run(
        "build", "check", "show", "report", "train",
        wrap=["unshare", "-U", "--map-user=54321"], HOME=None, XDG_CACHE_HOME=None, XDG_CONFIG_HOME=None, STARCODER_CACHE=None,
    )  # fmt: skip
    assert "without a cache: no home folder is known" in fine(found)["build"][2]
    assert "atplotlib" not in found["report"][2]


@pytest.mark.parametrize("home", ["", "relative", "/dev/null", "/proc/none"])
def test_a_home_that_is_none(run, home):
    found = run("build", "report", "recipe", HOME=home, XDG_CACHE_HOME=home, XDG_CONFIG_HOME=home, STARCODER_CACHE=None)
    assert "without a cache: " in fine(found)["build"][2]
    assert not Path("relative").exists()


@pytest.mark.parametrize("numbers", ["0", "1", "2", "01", "02", "12", "012"])
def test_closed_streams(run, world, numbers):
    closed = "".join(f" {number}{'<' if number == '0' else '>'}&-" for number in numbers)
    commands = {name: world.commands()[name] for name in ("build", "show")}
    if numbers == "1":
        commands |= {name: world.commands()[name] for name in ("check", "report", "dry run")}
    if numbers == "012":
        commands["complete"] = ["complete", world.folder / "model", "--max-tokens", "1"]  # a text of nothing
    found = fine(run(commands=commands, redirected=closed))
    assert all(bool(answer) == ("1" not in numbers) for _, answer, _ in found.values())


def test_streams_that_take_nothing(run):
    fine(run("build", "show", redirected=" 2>/dev/full"))
    fine(run("build", "show", redirected=" 1</dev/null 2</dev/null"))
    assert codes(run("build", "show", redirected=" >/dev/full")) == {"build": 2, "show": 2}


def test_a_deleted_current_folder(run, world, tmp_path):
    place = ["sh", "-c", 'd=$(mktemp -d "$0/XXXXXX"); cd $d; rmdir $d; exec "$@"', str(tmp_path)]
    fine(run("build", "dry run", "check", "show", "report", "recipe", "doctor", wrap=place))
    relative = {
        "repo": ["build", "-o", OUT],
        "default output": ["build", world.folder / "repo"],
        "dataset": ["show", "data"],
        "prompt": ["complete", world.folder / "model", "prompt"],
        "recipe": ["recipe", "show", "own.yaml"],
        "tokenizer": ["build", world.folder / "repo", "-o", OUT, "--set", "window.tokenizer=a/b/c"],
    }
    for name, (code, _, said) in run(commands=relative, wrap=place).items():
        assert (code, "the current folder is gone" in said) == (2, True), name


def test_few_open_files(run, world):
    for workers in ("3", "20"):  # the files suffice for three, but not for the rest beside them
        many = {"build": [*world.commands()["build"][:-1], workers]}
        found = fine(run(commands=many, before=limited(resource.RLIMIT_NOFILE, 40)))
        assert "using only 2 workers: too many files are open" in found["build"][2]
    fine(run("build", "check", "show", "report", before=limited(resource.RLIMIT_NOFILE, 24)))
    found = run("build", "check", before=limited(resource.RLIMIT_NOFILE, 7))
    assert all((code, "too many files are open" in said) == (2, True) for code, _, said in found.values())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits addresses")
@pytest.mark.parametrize("mebibytes", [60, 150, 400])
def test_little_memory(run, mebibytes):
    found = run(
        "build", "check", "report", "complete", "show", "recipe", before=limited(resource.RLIMIT_AS, mebibytes << 20)
    )
    assert codes(found) == {"build": 2, "check": 2, "report": 2, "complete": 2, "show": 0, "recipe": 0}
    assert all(f"addresses are limited to {mebibytes} MiB" in found[name][2] for name in ("build", "check", "complete"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits addresses")
def test_less_memory_than_workers_may_take_changes_nothing(run):
    fine(run("build", before=limited(resource.RLIMIT_AS, 1100 << 20)))


def test_no_docstrings(run):
    found = run("build", "check", "show", "report", "complete", "eval", python=["-OO"])
    assert codes(found) == {"build": 0, "check": 0, "show": 0, "report": 0, "complete": 0, "eval": 2}
    assert "transformers reads docstrings" in found["eval"][2]
    assert all(check["promise"] for check in json.loads(found["check"][1])["checks"])


@pytest.mark.parametrize(
    "variables",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii", "TERM": None},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "TERM": "dumb", "COLUMNS": "1", "LINES": "0", "TZ": "No/Where:::"},
        {"LANG": "de_DE.UTF-8", "LANGUAGE": "de", "LC_ALL": None, "COLUMNS": "wide", "PYTHONHASHSEED": "7"},
        {"PYTHONWARNINGS": "error", "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"},
        {"GIT_DIR": "/nonexistent", "GIT_INDEX_FILE": "/nonexistent", "GIT_OBJECT_DIRECTORY": "/nonexistent",
         "GIT_WORK_TREE": "/", "GIT_TRACE": "1", "GIT_CONFIG_COUNT": "nonsense", "GIT_CEILING_DIRECTORIES": "/"},
        {"TMPDIR": "/nonexistent", "OMP_NUM_THREADS": "", "MPLCONFIGDIR": "/dev/null"},
    ],
    ids=["C", "POSIX", "German", "strict", "hook", "folders"],
)  # fmt: skip
def test_variables(run, variables):
    fine(run("build", "check", "show", "report", "recipe", **variables))


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_masks(run, mask):
    fine(run("build", "check", "report", before=lambda: os.umask(mask)))


@pytest.fixture(scope="module")
def latin(world, tmp_path_factory):
    """The same in a folder whose name is not UTF-8."""
    folder = tmp_path_factory.mktemp("latin") / LATIN
    shutil.copytree(world.folder, folder)
    (folder / f"{LATIN}.yaml").write_text("extends: effectiveness\n")
    return World(folder, world.digest)


def test_folders_that_are_not_utf8(run, latin):
    here = latin.folder
    out = ["-o", here / "made", *SMALL, "-j", "1", "--json"]
    first = {
        **{name: words for name, words in latin.commands().items() if name not in {"train", "doctor", "dry run"}},
        "json": ["build", here / "repo", *out],
        "parquet": [
            "build",
            here / "repo",
            "-o",
            here / "columns",
            *SMALL,
            "-j",
            "1",
            "--format",
            "parquet",
            "--labels",
        ],
        "named": ["build", here / "repo", "-o", here / "named", *SMALL, "-j", "1", "-r", here / f"{LATIN}.yaml"],
        "recipe": ["recipe", "show", here / f"{LATIN}.yaml", "--json"],
        "lint": ["recipe", "lint", here / f"{LATIN}.yaml", "--json"],
        "base": ["train", here / "data", "-o", here / "tuned", "--base", here / "model", "--steps", "1"],
        "model": ["report", here / "data", here / "model", "-o", here / "page.html", "--no-check", "--json"],
    }
    found = fine(run(commands=first))
    for name in ("check", "show", "json", "recipe", "lint", "eval", "model"):
        orjson.loads(found[name][1])  # which takes no half of a pair
    assert orjson.loads(found["json"][1])["out"].endswith("caf\\xe9/made")
    then = {
        "check": ["check", here / "columns", "--repo", here / "repo"],
        "named": ["check", here / "named"],
        "show": ["show", here / "columns", "train:1"],
        "report": ["report", here / "columns", "-o", here / "page2.html", "--no-check"],
    }
    fine(run(commands=then))
    assert (here / "page.html").read_text(encoding="utf-8")


def test_names_that_a_format_cannot_have_are_refused_before_the_work(run, latin):
    here = latin.folder
    refused = {
        "tokenizer": ["build", here / "repo", "-o", OUT, "--set", f"window.tokenizer={here}/data/tokenizer"],
        "tensorboard": ["train", here / "data", "-o", here / "logged", "--steps", "1", "--set", "tensorboard=true"],
    }
    for name, (code, _, said) in run(commands=refused).items():
        assert (code, "is not UTF-8" in said) == (2, True), name


def test_a_home_is_found_in_every_path(run, world, tmp_path):
    for name in ("repo", "data", "model", "prompt"):
        (tmp_path / name).symlink_to(world.folder / name)
    (tmp_path / "own.yaml").write_text("extends: effectiveness\nwindow: {tokenizer: ~/data/tokenizer}\n")
    (tmp_path / "more.yaml").write_text("extends: ~/own.yaml\n")
    (tmp_path / "training.yaml").write_text("steps: 1\n")
    commands = {
        "repo": ["build", "~/repo", "--out=~/made", *SMALL, "-j", "1"],
        "tokenizer": ["build", "~/repo", "-o", OUT, "-r", "~/more.yaml", "--set", "window.size=64", "-j", "1"],
        "check": ["check", "~/data", "--repo=~/repo"],
        "show": ["show", "~/data"],
        "report": ["report", "~/data", "--out=~/page.html", "--no-check"],
        "complete": ["complete", "~/model", "~/prompt", "--max-tokens", "1"],
        "train": ["train", "~/data", "--out=~/trained", "--config=~/training.yaml", "--base", "~/model"],
    }
    found = fine(run(commands=commands, HOME=str(tmp_path), STARCODER_CACHE="~/kept"))
    assert all((tmp_path / name).exists() for name in ("made", "page.html", "trained", "kept"))
    assert "~" not in found["repo"][1].decode()


MISSING = "import sys; sys.modules[{library!r}] = None; sys.argv[1:] = {arguments!r}; {start}"


@pytest.mark.parametrize("library", ["click", "numpy", "orjson", "yaml", "git_starcoder.cli.console"])
@pytest.mark.parametrize(
    "script", ["", "dataset_scripts:create_elite", "dataset_scripts:test_elite", "trainer_script:command"]
)
def test_a_library_that_is_missing(tmp_path, library, script):
    command = f"command='git_starcoder.cli.seed_{script}'" if script else ""
    start = f"from git_starcoder.cli import main; sys.exit(main({command}))"
    code = MISSING.format(library=library, start=start, arguments=["--none"] if script else ["show", "nothing"])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_the_script_of_a_checkout_ends_as_the_command_does(tmp_path):
    script = Path(__file__).parents[1] / "create_training_dataset_ELITE.py"
    for redirected, code in ((f" {tmp_path}", 2), (" --help >&-", 0), (" --help 2>&- <&-", 0)):
        done = subprocess.run(
            f"{shlex.join([sys.executable, str(script)])}{redirected}", shell=True, capture_output=True, check=False
        )
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), done.stderr
