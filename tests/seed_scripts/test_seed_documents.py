"""Every command block of the seed documents, in order, in a checkout in which they can be run as they stand.

Lines are run as they are but for what `RUN_AS` says: no accelerator, one epoch, no editor. `NOT_RUN` are the lines that
do not do what the documents say, with the reason; `docs/seeds/index.md` has the same table.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from checkout import CONFIG, ROOT, SCRIPTS, furnish
from conftest import ENVIRONMENT
from git_starcoder.cli.seed_trainer_script import SeedConfig
from shell import HUNG, environment
from toy import evolving

BLOCKS = ROOT / "tests/data/seed_documents.md"
NOT_RUN = {"pip install": "asks the network", "watch nvidia-smi": "never ends, and wants an accelerator"}
RUN_AS = ((r"--device cuda", "--device cpu"), (r"--epochs \d+", "--epochs 1"), (r"tail -f", "tail -n 1"))


def blocks(document):
    """(language, text) of each block of a document, in order."""
    part = BLOCKS.read_text(encoding="utf-8").split(f"\n# {document}\n")[1]
    part = re.split(r"\n# (?:effectiveness|elite)\n", part)[0]
    return re.findall(r"^```(\w+)\n(.*?)^```$", part, re.DOTALL | re.MULTILINE)


def lines(text):
    """The commands of a block, continued lines put together."""
    whole = (line.strip() for line in re.sub(r"\\\n\s*", "", text).splitlines())
    return [line for line in whole if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def checkout(repo_maker, tmp_path_factory):
    """A home with `git-starcoder`, a checkout, and `the-block`, a repository with a history."""
    home = tmp_path_factory.mktemp("home")
    (home / "git-starcoder").symlink_to(repo_maker(evolving(1, 6)))
    (home / "the-block").symlink_to(home / "git-starcoder")
    here = home / "git-starcoder"
    furnish(here)
    return here


def edited(checkout, folder):
    """What `vim` is opened for: the paths of a dataset; and a step that holds the whole of this small one."""
    config = checkout / CONFIG
    text = re.sub(r"training_data_(effectiveness|ELITE)/", f"{folder}/", config.read_text(encoding="utf-8"))
    config.write_text(re.sub(r"batch_size: \d+", "batch_size: 100", text), encoding="utf-8")


def ran(checkout, commands, document):
    """What each distinct line came to: line → (exit code, output)."""
    came = {}
    python = Path(sys.executable).parent
    variables = environment(HOME=str(checkout.parent), OMP_NUM_THREADS="1", STARCODER_CACHE="off")
    variables |= {key: value for key, value in ENVIRONMENT.items() if key.startswith("GIT_")}
    assert (python / "python3").exists()
    variables["PATH"] = os.pathsep.join((str(commands), variables["PATH"]))
    for language, text in blocks(document):
        called = (
            [f"python3 - <<'EOF'\n{text}\nEOF"] if language == "python" else lines(text) if language == "bash" else []
        )
        for line in called:
            if line.startswith("vim "):
                edited(checkout, "training_data_ELITE" if document == "elite" else "training_data_effectiveness")
            elif line not in came and not line.startswith(tuple(NOT_RUN)):
                command = line
                for pattern, instead in RUN_AS:
                    command = re.sub(pattern, instead, command)
                command = f"set -o pipefail; {command}"
                done = subprocess.run(
                    ["bash", "-c", command], cwd=checkout, env=variables, text=True, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, check=False, timeout=HUNG,
                )  # fmt: skip
                came[line] = done.returncode, done.stdout
    return came


@pytest.fixture(scope="module")
def effectiveness(checkout, commands):
    return ran(checkout, commands, "effectiveness")


@pytest.fixture(scope="module")
def elite(checkout, commands, effectiveness):  # noqa: ARG001 - goes on where the other document ends
    return ran(checkout, commands, "elite")


def of(came, begin):
    """The output of the first line that begins so."""
    return next(output for line, (_, output) in came.items() if line.startswith(begin))


@pytest.mark.parametrize("document", ["effectiveness", "elite"])
def test_every_line_does_what_the_text_says(document, request):
    came = request.getfixturevalue(document)
    assert len(came) > 6
    wrong = [f"{line}\n{output}" for line, (code, output) in came.items() if code]
    assert not wrong, "\n\n".join(wrong)


def test_training_goes_on_from_a_model(effectiveness, checkout):
    ((code, output),) = [came for line, came in effectiveness.items() if "--checkpoint" in line]
    assert code == 0
    assert re.search(r"Val Loss: \d+\.\d+ bits/byte", output)
    record = yaml.safe_load((checkout / "models/the-block-effectiveness-v2/training.json").read_text())
    assert record["config"]["base"] == "models/the-block-effectiveness"


@pytest.mark.parametrize(("document", "script", "count", "end"), [
    ("effectiveness", SCRIPTS[0], 8, "DATASET CREATION COMPLETE!"), ("elite", SCRIPTS[1], 12, "ELITE DATASET CREATION COMPLETE!"),
])  # fmt: skip
def test_datasets_are_made_in_numbered_steps(document, script, count, end, request, checkout):
    output = of(request.getfixturevalue(document), f"python3 {script}")
    assert re.findall(r"^\[STEP (\d+)/(\d+)\]", output, re.MULTILINE) == [
        (str(n), str(count)) for n in range(1, count + 1)
    ]
    assert end in output
    metadata = yaml.safe_load(
        (checkout / f"training_data_{document.replace('elite', 'ELITE')}/dataset_metadata.json").read_text()
    )
    assert f"Total sequences: {metadata['total_sequences']:,} (train {metadata['train_sequences']:,}" in output
    assert f"Git diffs: {metadata['git_diffs']:,}\n" in output


@pytest.mark.parametrize("document", ["effectiveness", "elite"])
def test_tests_are_told_by_the_seeds_names(document, request):
    from git_starcoder.checks import SEED_SUITES

    output = of(
        request.getfixturevalue(document), f"python3 tests/test_dataset_{document.replace('elite', 'ELITE')}.py"
    )
    told = re.findall(r"^[✓✗-] (test_\w+) \.\.\. (ok|FAILED|skipped)", output, re.MULTILINE)
    assert [name for name, _ in told] == list(SEED_SUITES[document])
    assert len(told) == {"effectiveness": 17, "elite": 24}[document]
    assert "FAILED" not in dict(told).values()
    assert ("ok", "test_train_file_format") in {(result, name) for name, result in told}


def test_a_log_has_the_lines_that_one_looks_for(effectiveness):
    assert re.search(r"Val Loss: \d+\.\d+ bits/byte", of(effectiveness, 'grep "Val Loss"'))
    evaluated = next(output for line, (_, output) in effectiveness.items() if "--eval_only" in line)
    assert re.search(r"Test Loss: \d+\.\d+ bits/byte", evaluated)
    assert "models/the-block-effectiveness is the newest model" in evaluated or "models/test is the newest" in evaluated


def test_settings_of_the_documents_are_read(tmp_path):
    texts = [text for language, text in [*blocks("effectiveness"), *blocks("elite")] if language == "yaml"]
    for text in texts:
        for part in re.split(r"^# (?:OLD|NEW):$", text, flags=re.MULTILINE):  # one block shows a file before and after
            file = tmp_path / "config.yaml"
            file.write_text(part, encoding="utf-8")
            seeds, config = SeedConfig.load(file)
    assert (seeds.batch_size, config.learning_rate, seeds.warmup_steps, seeds.max_epochs) == (12, 1e-5, 1000, 500)
    assert SeedConfig.load(ROOT / CONFIG).config.learning_rate == 0.01


def test_a_folder_that_is_no_dataset_fails_the_first_test(tmp_path):
    command = [sys.executable, str(ROOT / SCRIPTS[3]), "nothing"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("✗ test_dataset_directory_exists ... FAILED  'nothing' is not a finished dataset")
    assert "Ran 24 tests: 0 ok, 1 failed, 23 skipped\nFAILED\n" in done.stdout


@pytest.mark.usefixtures("effectiveness")
def test_a_spoiled_dataset_fails_by_the_seeds_name(checkout):
    file = checkout / "training_data_effectiveness/training_data_train.jsonl"
    before = file.read_bytes()
    try:
        file.write_bytes(before.replace(b'"weight":3', b'"weight":2'))
        done = subprocess.run([sys.executable, SCRIPTS[2]], cwd=checkout, capture_output=True, text=True, check=False)
    finally:
        file.write_bytes(before)
    assert done.returncode == 1
    assert "✗ test_weighting_strategy ... FAILED" in done.stdout
    assert "training_data_train.jsonl:" in done.stdout


@pytest.mark.usefixtures("elite")
def test_held_out_rows_of_another_dataset_are_refused(checkout):
    command = [sys.executable, SCRIPTS[4], "--config", CONFIG, "--output", "models/other", "--sequences"]
    command.append("training_data_effectiveness/training_data_train.jsonl")
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "which is not of the dataset of" in done.stderr
