"""`git starcoder build` and `check`: the output folder in every state that one can find it in."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import threading

import pytest

from git_starcoder.checks import check_names
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.records import SPLITS
from shell import HUNG, SMALL, environment
from toy import code_base

STEPS = ["read", "analyse", "split", "augment", "window", "dedup", "weigh", "order", "write"]


@pytest.fixture(scope="module")
def dataset_folder(repo, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "out"
    assert main(["build", str(repo), "-o", str(out), "-j", "1", "-q", *SMALL]) == 0
    return out


def file_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_build_answers_on_stdout_and_talks_on_stderr(starcoder, repo):
    result = starcoder("build", repo, "-j", "1", *SMALL)
    assert result.returncode == 0, result.stderr
    metadata = Dataset.open(starcoder.place / "training_data_natural").metadata
    lines = result.stdout.splitlines()
    assert lines[0] == "training_data_natural"
    rows = ", ".join(f"{split} {metadata[f'{split}_sequences']:,}" for split in SPLITS)
    assert lines[1] == f"  rows    {metadata['total_sequences']:,}: {rows}"
    steps = [line.split()[0] for line in result.stderr.splitlines() if line.endswith(" s")]
    assert steps == STEPS
    assert "\x1b" not in result.stderr
    assert file_names(starcoder.place) == ["training_data_natural"]


def test_the_current_folder_is_the_default(starcoder, repo):
    result = starcoder("build", "-j", "1", "-q", "-o", starcoder.place / "out", *SMALL, cwd=repo)
    assert (result.returncode, result.stderr) == (0, "")
    assert Dataset.open(starcoder.place / "out").metadata["total_sequences"] > 0


def test_json_is_one_object(starcoder, repo, dataset_folder):
    result = starcoder("build", repo, "-o", dataset_folder, "--json", "-q", *SMALL)
    answer = json.loads(result.stdout)
    assert (answer["schema"], answer["exit"], answer["out"]) == ("git-starcoder/build/1", 0, str(dataset_folder))
    assert answer["metadata"] == Dataset.open(dataset_folder).metadata
    assert [step["step"] for step in answer["steps"]] == STEPS
    assert result.stderr == ""


def test_the_current_folder_can_be_the_output_of_many(starcoder, repo, repo_maker):
    other = repo_maker({"other.py": "def other(value):\n    return value * 2\n" * 9})
    here = starcoder.place / "here"
    here.mkdir()
    result = starcoder("build", repo, other, "-j", "1", "-q", "-o", ".", *SMALL, cwd=here)
    assert (result.returncode, result.stderr) == (0, "")
    assert Dataset.open(here).is_of_many
    assert "work.json" in file_names(starcoder.place / "here.work")


def test_a_second_build_is_up_to_date_and_force_is_not(starcoder, repo, dataset_folder):
    before = (dataset_folder / "manifest.json").stat().st_mtime_ns
    result = starcoder("build", repo, "-o", dataset_folder, *SMALL)
    assert (result.returncode, result.stderr) == (0, f"{dataset_folder} is up to date\n")
    assert (dataset_folder / "manifest.json").stat().st_mtime_ns == before
    digest = Dataset.open(dataset_folder).digest
    assert starcoder("build", repo, "-o", dataset_folder, "-q", "--force", *SMALL).returncode == 0
    assert (dataset_folder / "manifest.json").stat().st_mtime_ns != before
    assert Dataset.open(dataset_folder).digest == digest


def test_another_recipe_replaces_a_dataset_of_ours(starcoder, repo, dataset_folder):
    out = shutil.copytree(dataset_folder, starcoder.place / "out")
    assert starcoder("build", repo, "-o", out, "-q", "-r", "baseline", *SMALL).returncode == 0
    assert Dataset.open(out).metadata["augmentation_techniques"].keys() == {"base"}
    assert file_names(starcoder.place) == ["out"]


def test_a_dry_run_writes_nothing(starcoder, repo):
    result = starcoder("build", repo, "-n", "--json", "-q", *SMALL)
    answer = json.loads(result.stdout)
    assert (result.returncode, answer["plan"]["files"], answer["plan"]["windows"]) == (0, 60, [64])
    assert "changes" not in starcoder("build", repo, "-n", "-q", *SMALL).stdout
    assert file_names(starcoder.place) == []


def test_a_dry_run_tells_files_from_changes(starcoder, repo_maker):
    files = code_base(12)
    paths = sorted(files)[:3]
    repo = repo_maker([files, {path: files[path] + "\n# end\n" for path in paths}])
    plan = json.loads(starcoder("build", repo, "-n", "--json", "-q", *SMALL, "--set", "read.changes=100").stdout)[
        "plan"
    ]
    assert (plan["files_seen"], plan["changes_seen"]) == (len(files), len(files) + 3)
    assert "that commits made to files" in starcoder("build", repo, "-n", *SMALL, "--set", "read.changes=100").stdout


def test_a_dry_run_is_near_the_build(starcoder, repo, dataset_folder):
    planned = json.loads(starcoder("build", repo, "-n", "--json", "-q", *SMALL).stdout)["plan"]
    metadata = Dataset.open(dataset_folder).metadata
    assert 0.5 < planned["rows"] / metadata["total_sequences"] < 2
    size = sum((dataset_folder / f"training_data_{split}.jsonl").stat().st_size for split in SPLITS)
    assert 0.3 < planned["bytes"] / size < 3


def foreign_folder(place):
    (place / "out").mkdir()
    (place / "out" / "thesis.txt").write_text("mine")


def file_in_the_way(place):
    (place / "out").write_text("mine")


def dangling_link(place):
    (place / "out").symlink_to(place / "nowhere")


@pytest.mark.parametrize("way", [foreign_folder, file_in_the_way, dangling_link])
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_what_is_not_ours_is_never_touched(starcoder, repo, way, force):
    way(starcoder.place)
    before = [(path, path.lstat().st_mtime_ns) for path in sorted(starcoder.place.rglob("*"))]
    result = starcoder("build", repo, "-o", "out", "-q", *force, *SMALL)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert "exists and is not a git-starcoder dataset" in result.stderr
    assert [(path, path.lstat().st_mtime_ns) for path in sorted(starcoder.place.rglob("*"))] == before


def test_an_empty_folder_is_filled(starcoder, repo):
    (starcoder.place / "out").mkdir()
    assert starcoder("build", repo, "-o", "out", "-q", *SMALL).returncode == 0


def test_a_damaged_dataset_of_ours_is_built_again(starcoder, repo, dataset_folder):
    out = shutil.copytree(dataset_folder, starcoder.place / "out")
    (out / "training_data_val.jsonl").write_text("")
    assert starcoder("build", repo, "-o", out, "-q", *SMALL).returncode == 0
    assert Dataset.open(out).digest == Dataset.open(dataset_folder).digest
    assert (out / "training_data_val.jsonl").read_bytes() == (dataset_folder / "training_data_val.jsonl").read_bytes()


def test_a_folder_below_a_file_cannot_be_made(starcoder, repo):
    (starcoder.place / "file").write_text("mine")
    result = starcoder("build", repo, "-o", "file/out", "-q", *SMALL)
    assert result.returncode == 2
    assert "cannot write" in result.stderr
    assert file_names(starcoder.place) == ["file"]


def mounted(place, options):
    """Whether this process may mount a small file system in a namespace of its own."""
    probe = subprocess.run(
        ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", options, "none", str(place)], capture_output=True, check=False
    )
    return probe.returncode == 0


@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare")
@pytest.mark.parametrize(
    ("options", "word"), [("size=64k", "No space left on device"), ("ro", "Read-only file system")]
)
def test_a_full_or_read_only_disk_is_one_clear_line(repo, tmp_path, options, word):
    if not mounted(tmp_path, options):
        pytest.skip("no user namespaces here")
    script = f'mount -t tmpfs -o {options} none "$1" && shift && exec git starcoder build "$@"; echo mount >&2'
    arguments = [str(tmp_path), str(repo), "-o", str(tmp_path / "out"), "-q", *SMALL]
    command = ["unshare", "-Urm", "bash", "-c", script + '; ls -A "$0"', str(tmp_path), *arguments]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 2, result.stderr
    assert word in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def test_a_file_that_may_not_grow_leaves_nothing(starcoder, repo):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = starcoder("build", repo, "-q", *SMALL, preexec_fn=limit)
    assert result.returncode == 2
    assert "File too large" in result.stderr
    assert "Traceback" not in result.stderr
    assert file_names(starcoder.place) == []


def test_two_builds_of_one_folder_do_not_meet(starcoder, repo):
    with (starcoder.place / ".out.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = starcoder("build", repo, "-o", "out", "-q", *SMALL)
    assert result.returncode == 2
    assert result.stderr.startswith("error: another build is writing ")


INTERRUPTED = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it runs in the background
from git_starcoder.stages import {step}
from git_starcoder.cli import main
def wait(*_):
    print("here", flush=True)
    time.sleep(600)
{step}.{function} = wait
sys.exit(main({arguments!r}))
"""


@pytest.mark.parametrize(
    ("step", "function"), [("read", "read_repository"), ("dedup", "drop_duplicates"), ("write", "write_dataset")]
)
@pytest.mark.parametrize(
    ("number", "exit_code", "said"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_ctrl_c_and_sigterm_leave_nothing(starcoder, repo, step, function, number, exit_code, said):
    arguments = ["build", str(repo), "-j", "2", *SMALL]
    code = INTERRUPTED.format(step=step, function=function, arguments=arguments)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=starcoder.place, env=environment(), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    os.killpg(process.pid, number)  # as a terminal does: workers too
    _, output = process.communicate(timeout=HUNG)
    assert process.returncode == exit_code
    assert output.splitlines()[-1] == said
    assert "Traceback" not in output
    assert file_names(starcoder.place) == []


def test_quiet_says_nothing(starcoder, repo):
    result = starcoder("build", repo, "-q", *SMALL)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_terminal_gets_bars_and_the_same_lines(starcoder, repo):
    master, slave = pty.openpty()
    shown = bytearray()

    def read():
        while True:
            try:
                data = os.read(master, 1 << 16)
            except OSError:
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    result = starcoder("build", repo, *SMALL, stderr=slave, env={"TERM": "xterm", "COLUMNS": "160"})
    os.close(slave)
    reader.join(HUNG)
    os.close(master)
    assert result.returncode == 0
    assert b"\x1b[" in shown
    for step in STEPS:
        assert step.encode() in shown


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["/dev/null"], "error: "),
        (["--rev", "no-such"], "error: "),
        (["--set", "window.size=1"], "error: 'size' is 1 and should be a whole number from 16 to 1,048,576"),
        (["--set", "windwo.size=64"], "error: unknown key 'windwo'"),
    ],
)
def test_input_that_cannot_be_is_exit_2(starcoder, repo, arguments, what):
    place = [] if arguments[0] == "/dev/null" else [repo]
    result = starcoder("build", *place, "-q", *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(what)
    assert "Traceback" not in result.stderr
    assert file_names(starcoder.place) == []


def test_jobs_from_the_environment_must_be_a_number(starcoder, repo):
    result = starcoder("build", repo, "-q", env={"STARCODER_JOBS": "many"})
    assert (result.returncode, result.stderr.splitlines()[:2]) == (
        2,
        ["error: 'many' is not a number of jobs", "  in STARCODER_JOBS"],
    )


def test_seed_is_in_the_recipe(starcoder, repo):
    assert starcoder("build", repo, "-q", "--seed", "5", "-o", "out", *SMALL).returncode == 0
    assert "seed: 5\n" in (starcoder.place / "out" / "recipe.yaml").read_text()


def test_check_keeps_quiet_promises(starcoder, dataset_folder):
    result = starcoder("check", dataset_folder)
    assert result.returncode == 0, result.stdout
    assert result.stderr == ""
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["check", "promise", "result", "figure"]
    assert [line.split()[0] for line in lines] == check_names()
    assert all(" kept " in line or " skipped " in line for line in lines)


def test_check_finds_and_exits_with_1(starcoder, dataset_folder):
    out = shutil.copytree(dataset_folder, starcoder.place / "out")
    lines = (out / "training_data_train.jsonl").read_bytes().splitlines(keepends=True)
    (out / "training_data_train.jsonl").write_bytes(b"".join((lines[1], *lines[1:])))
    result = starcoder("check", out)
    assert result.returncode == 1
    assert "rows: training_data_train.jsonl:1: seq_id is 1, not 0" in result.stdout
    answer = json.loads(starcoder("check", out, "--json").stdout)
    assert (answer["schema"], answer["exit"]) == ("git-starcoder/check/1", 1)
    results = {check["check"]: check["result"] for check in answer["checks"]}
    assert results["rows"] == "broken"
    assert results["weights"] == "skipped"
    assert results["digests"] == "broken"  # which needs no rows


def test_check_of_another_folder_is_exit_2(starcoder):
    result = starcoder("check", ".")
    assert result.returncode == 2
    assert result.stderr.startswith("error: '.' is not a finished dataset")


def test_a_name_in_a_finding_cannot_command_the_terminal(starcoder, dataset_folder):
    out = shutil.copytree(dataset_folder, starcoder.place / "out")
    (out / "evil\x1b]0;x\x07\nname").write_text("")
    result = starcoder("check", out)
    assert result.returncode == 1
    assert "digests: evil\\x1b]0;x\\x07\\nname: is not in the manifest" in result.stdout


def test_it_ends_when_its_reader_went_away(starcoder, repo):
    reading, writing = os.pipe()
    os.close(reading)
    result = starcoder("build", repo, "-o", "out", *SMALL, stderr=writing)
    os.close(writing)
    assert result.returncode == 141
    assert file_names(starcoder.place) == []
