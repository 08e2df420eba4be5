"""`train`, `eval`, `complete` and `run` on a tiny dataset, and what they say without torch."""

from __future__ import annotations

import io
import json
import shutil
import sys
from types import SimpleNamespace

import pytest
import yaml

from git_starcoder.cli import complete as complete_command
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.installation import install_command
from git_starcoder.output.contents import GITIGNORE_TEXT
from git_starcoder.text.encoding import decode_file
from shell import SMALL


@pytest.fixture(scope="module")
def dataset(repo, tmp_path_factory):
    out = tmp_path_factory.mktemp("built") / "dataset"
    assert main(["build", str(repo), "-o", str(out), "-r", "effectiveness", "-q", *SMALL]) == 0
    return out


@pytest.fixture(scope="module")
def model(dataset):
    out = dataset.parent / "model"
    assert main(["train", str(dataset), "-o", str(out), "--steps", "2", "-q"]) == 0
    return out


@pytest.fixture
def without_torch(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in {"torch", "transformers"}]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_export_names_its_files_and_what_is_left_out(model, tmp_path, capsys):
    out = tmp_path / "exported"
    assert main(["export", str(model), "--to", "ollama", "--type", "q8_0", "-o", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["schema"], answer["folder"], answer["to"]) == ("git-starcoder/export/1", str(out), "ollama")
    assert answer["files"] == {
        file.name: file.stat().st_size for file in out.iterdir() if file.name not in {".gitignore", "export.json"}
    }
    assert captured.err == "note: not exported: memory, which only git-starcoder can use\n"
    assert main(["export", str(model), "--to", "adapter"]) == 2
    assert "has no adapters: all of its weights were trained" in capsys.readouterr().err.splitlines()[0]
    assert main(["export", str(model)]) == 2
    assert "--to" in capsys.readouterr().err.splitlines()[0]


def test_train_says_what_it_came_to(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(dataset), "--steps", "1", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert (answer["schema"], answer["steps"], answer["folder"]) == ("git-starcoder/train/1", 1, "model_effectiveness")
    assert answer["held_out"] > 0
    assert json.loads((tmp_path / "model_effectiveness" / "training.json").read_text())["order"] == "curriculum"
    assert [line.split()[0] for line in captured.err.splitlines()][-1] == "train"
    assert (tmp_path / "model_effectiveness" / "model.safetensors").is_file()


def test_whoever_may_read_a_models_folder_may_read_its_files(model):
    files = [path for path in model.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {model.stat().st_mode & 0o666}
    assert (model / "memory").stat().st_mode == model.stat().st_mode


def test_train_replaces_a_model_only_with_force(dataset, model, capsys):
    assert main(["train", str(dataset), "-o", str(model), "--steps", "1", "-q"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "hint: --force replaces it"


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--minutes", "0"], "error: 'minutes' is 0.0 and should be a number above 0 or null"),
        (
            ["--steps", "-1"],
            "error: 'steps' is -1 and should be a whole number from 1 to 1,000,000,000,000,000 or null",
        ),
        (["--steps", "1", "--tokens", "1e5"], "error: only one budget may be set, not steps and tokens"),
        (["--set", "learning_rat=1"], "error: unknown key 'learning_rat'"),
        (["--tune", "lora"], "error: tune: lora needs a base model"),
        (["--config", "none.yaml"], "error: 'none.yaml' cannot be read: No such file or directory"),
        (["--explain-step", "3", "--steps", "2"], "error: the training has 2 steps, not 3"),
        (["--explain-step", "1"], "error: a time budget becomes steps only when training starts"),
        (["--size", "tini"], "error: size 'tini' is not known"),
    ],
)
def test_train_refuses_what_cannot_be(dataset, tmp_path, arguments, what, capsys):
    assert main(["train", str(dataset), "-o", str(tmp_path / "model"), "-q", *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[0] == what
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_looks_counts_and_writes_nothing(dataset, tmp_path, capsys):
    arguments = ["train", str(dataset), "-o", str(tmp_path / "model"), "--epochs", "2", "-n"]
    assert main(arguments) == 0
    output = capsys.readouterr().out.splitlines()
    looked_at, _, counted = (list(part) for part in (output[: output.index("")], [""], output[output.index("") + 1 :]))
    assert {"memory", "longest row", "end of text", "packed rows", "certificate"} <= {
        line[:15].rstrip() for line in looked_at
    }
    assert all(line[16:20].strip() == "ok" for line in looked_at)
    assert counted[0].startswith("steps    ")
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    ledger = answer["ledger"]
    assert ledger["trained"] + ledger["shown"] == ledger["drawn"] + ledger["control"]
    assert answer["epochs"] == pytest.approx(2, rel=0.2)
    assert answer["config"]["epochs"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_what_cannot_work_is_exit_2(dataset, tmp_path, capsys, monkeypatch):
    from git_starcoder.model import peak_memory

    monkeypatch.setattr(peak_memory, "free_memory", lambda _: 1 << 20)
    arguments = ["train", str(dataset), "-o", str(tmp_path / "model"), "--steps", "2"]
    assert main([*arguments, "-n"]) == 2
    assert "memory          wrong" in (output := capsys.readouterr().out)
    assert output.endswith("this training cannot work\n")
    assert main(arguments) == 2
    assert "\n  in before training: memory\nhint: a smaller --size" in capsys.readouterr().err
    assert [path for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_a_step_is_explained(dataset, capsys):
    assert main(["train", str(dataset), "--steps", "3", "--explain-step", "3"]) == 0
    first, *rows = capsys.readouterr().out.splitlines()
    assert first.startswith("step 3 of 3, stage 3 of 3: ")
    assert len(rows) == int(first.split(": ")[1].split()[0])
    assert all(row.strip().startswith("training_data_train.jsonl:") for row in rows)
    assert main(["train", str(dataset), "--steps", "3", "--explain-step", "3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(row["tokens"] for row in answer["rows"]) == answer["tokens"]


def test_a_model_says_how_it_was_trained(dataset, tmp_path, capsys):
    config = tmp_path / "own.yaml"
    config.write_text("learning_rate: 3e-3\nsteps: 9\nseed: 4\n")
    arguments = ["train", str(dataset), "-o", str(tmp_path / "model"), "-q"]
    assert main([*arguments, "--config", str(config), "--set", "ema=0.5", "--steps", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/model\n")
    recorded = yaml.safe_load((tmp_path / "model/training.yaml").read_text())
    assert {key: recorded[key] for key in ("learning_rate", "steps", "seed", "ema")} == {
        "learning_rate": 3e-3, "steps": 1, "seed": 4, "ema": 0.5,
    }  # fmt: skip
    assert recorded["precision"] in {"float32", "bfloat16"}
    assert recorded["micro_batch"] >= 64
    again = tmp_path / "again"
    assert main(["train", str(dataset), "-o", str(again), "-q", "--config", str(tmp_path / "model/training.yaml")]) == 0
    weights = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "model", again)]
    assert weights[0] == weights[1]


def test_a_budget_of_time_is_written_down_as_steps(dataset, tmp_path):
    out = tmp_path / "model"
    assert main(["train", str(dataset), "-o", str(out), "-q", "--minutes", "0.02"]) == 0
    recorded = yaml.safe_load((out / "training.yaml").read_text())
    record = json.loads((out / "training.json").read_text())
    assert (recorded["minutes"], recorded["steps"]) == (None, record["steps"])
    assert record["config"]["minutes"] == 0.02


def test_eval_puts_the_references_beside_the_model(model, dataset, capsys):
    assert main(["eval", str(model), str(dataset), "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["schema"] == "git-starcoder/eval/1"
    assert list(dict.fromkeys(score["eval"] for score in answer["scores"])) == [
        "bits_per_byte", "compressors", "next_line", "frequent_line", "fill_in_the_middle", "lines_above", "kinds",
    ]  # fmt: skip
    assert answer["kept"] == str(model / "scores.json")
    kept = json.loads((model / "scores.json").read_text())
    assert kept == {"schema": "git-starcoder/scores/2", **{key: answer[key] for key in kept if key != "schema"}}
    assert kept["dataset"] == Dataset.open(dataset).digest
    assert captured.err.startswith("eval ")


def test_eval_of_no_model_is_exit_2(dataset, tmp_path, capsys):
    assert main(["eval", str(tmp_path), str(dataset)]) == 2
    assert "is not a model" in capsys.readouterr().err


def test_complete_reads_a_file_or_the_input(model, tmp_path, capsys, monkeypatch):
    prompt = tmp_path / "prompt.py"
    prompt.write_bytes(b"def load_order(items):\xff\n")
    assert main(["complete", str(model), str(prompt), "--max-tokens", "5", "-q"]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(prompt.read_bytes())))
    assert main(["complete", str(model), "--max-tokens", "5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["schema"], answer["completion"]) == ("git-starcoder/complete/1", first)


PROMPT = "# -*- coding: {} -*-\ndef load_order(items, café):\n    total = 0\n    for entry in ite"
READ_AS = {
    "crlf": lambda text: text.replace("\n", "\r\n").encode(),
    "crlf and half a line end": lambda text: text.replace("\n", "\r\n").encode() + b"\r",
    "mixed": lambda text: text.replace("\n", "\r\n", 2).encode(),
    "old Mac": lambda text: text.replace("\n", "\r").encode(),
    "byte order mark": lambda text: text.encode("utf-8-sig"),
    "utf-16": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
    "utf-16-be": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "declared": lambda text: text.encode("latin-1"),
    "cut": lambda text: text.encode() + "é".encode()[:1],
}


@pytest.fixture
def prompts(dataset, monkeypatch):
    """The tokens of each prompt that the model gets; it generates nothing."""
    import numpy as np

    from git_starcoder.model import complete
    from git_starcoder.text import tokenizer as tokenizers

    prompts = []
    tokenizer = tokenizers.load_tokenizer(dataset / "tokenizer")

    class SilentModel:
        context = 4096
        end_token = tokenizer.end_id
        torch = SimpleNamespace(manual_seed=int)

        def generate(self, tokens, *_, **__):
            prompts.append(tokens[0].tolist())
            return [np.zeros(0, dtype=np.int32)]

    monkeypatch.setattr(complete, "load_reader", lambda _: (SilentModel(), tokenizer))
    monkeypatch.setattr(complete, "read_training_record", lambda _: {"config": {"fim": 0.3}})
    return prompts


def test_an_empty_completion_is_explained(prompts, tmp_path, capsys):
    (tmp_path / "whole.py").write_text("x = 1\n")
    assert main(["complete", str(tmp_path), str(tmp_path / "whole.py")]) == 0
    assert prompts
    printed = capsys.readouterr()
    assert (printed.out, "expects the text to end" in printed.err) == ("", True)


@pytest.mark.parametrize("kind", READ_AS)
@pytest.mark.parametrize("way", ["file", "input", "suffix"])
def test_complete_reads_a_text_as_build_does(prompts, tmp_path, monkeypatch, kind, way):
    text = PROMPT.format("latin-1")
    (tmp_path / "plain").write_bytes(text.encode())
    (tmp_path / "other").write_bytes(READ_AS[kind](text))
    for name in ("plain", "other"):
        arguments = [str(tmp_path / name)]
        if way == "input":
            arguments = []
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO((tmp_path / name).read_bytes())))
        elif way == "suffix":
            arguments += ["--suffix", str(tmp_path / name)]
        assert main(["complete", str(tmp_path), *arguments]) == 0
    assert len(prompts[0]) > 20
    assert prompts[0] == prompts[1]
    if kind != "cut":
        assert decode_file((tmp_path / "other").read_bytes(), max_line=999, mean_line=999).utf8 == text.encode()


def test_a_suffix_is_read_as_its_prompt_is(prompts, tmp_path):
    before, after = PROMPT.format("latin-1"), "):\n    café()\n"
    for codec in ("utf-8", "latin-1", "utf-16-le"):
        (tmp_path / "before").write_bytes((b"\xff\xfe" if codec == "utf-16-le" else b"") + before.encode(codec))
        (tmp_path / "after").write_bytes(after.encode(codec))
        assert main(["complete", str(tmp_path), str(tmp_path / "before"), "--suffix", str(tmp_path / "after")]) == 0
    assert prompts[0] == prompts[1] == prompts[2]


def test_a_text_given_by_a_program_is_read_the_same(prompts, tmp_path):
    from git_starcoder.model.complete import complete

    for given in ("x = 1\ny = 'é'", "\ufeffx = 1\r\ny = 'é'", "x = 1\r\ny = 'é'\r", b"x = 1\r\ny = '\xc3\xa9'"):
        complete(tmp_path, given)
    assert prompts[0] == prompts[1] == prompts[2] == prompts[3]


@pytest.mark.usefixtures("prompts")
def test_a_prompt_that_is_no_text(tmp_path, capsys):
    (tmp_path / "prompt").write_bytes(b"\x7fELF\0\0")
    assert main(["complete", str(tmp_path), str(tmp_path / "prompt")]) == 2
    assert capsys.readouterr().err.splitlines()[0] == "error: the prompt is not text: it has a NUL"


def test_complete_fills_a_gap(model, tmp_path, capsys):
    (tmp_path / "before").write_text("def load(items):\n")
    (tmp_path / "after").write_text("    return total\n")
    arguments = [
        "complete",
        str(model),
        str(tmp_path / "before"),
        "--suffix",
        str(tmp_path / "after"),
        "--max-tokens",
        "4",
    ]
    assert main(arguments) == 0
    assert main([*arguments[:2], str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err.lower()


def test_run_does_everything(starcoder, repo):
    result = starcoder("run", repo, "-j", "1", "--minutes", "0.1", "--base", "none", *SMALL)
    assert result.returncode == 0, result.stderr
    parts = result.stdout.split("\n\n")
    assert parts[0].startswith("starcoder_run/dataset\n")
    assert parts[1].startswith("check ")
    assert parts[2].startswith("starcoder_run/model\n")
    assert parts[3].startswith("bits per byte")
    for subject in ("network", "untrained network", "xz", "PPM", "most frequent next line"):
        assert subject in parts[3]
    assert "--- completion by the model" in result.stdout
    assert result.stdout.endswith("everything is in starcoder_run\n")
    assert {"read", "write", "train", "eval"} <= {line.split()[0] for line in result.stderr.splitlines()}
    out = starcoder.place / "starcoder_run"
    values = json.loads((out / "run.json").read_text())
    assert values["dataset"]["digest"] == Dataset.open(out / "dataset").digest
    assert json.loads((out / "model" / "training.json").read_text())["order"] == "shuffled"
    assert {"checks", "training", "scores", "completion"} <= values.keys()
    assert json.loads((out / "model" / "scores.json").read_text())["scores"] == values["scores"]


@pytest.mark.usefixtures("without_torch")
def test_run_without_torch_builds_and_names_the_extra(repo, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", str(repo), "-o", str(out), "-j", "1", *SMALL]) == 2
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{out}/dataset\n")
    assert "\ncheck " in captured.out
    assert captured.err.splitlines()[-2:] == [
        "error: torch is not installed; it belongs to the extra 'train'",
        f"hint: {install_command('train')}",
    ]
    assert Dataset.open(out / "dataset").metadata["total_sequences"] > 0


def test_run_of_one_file_says_that_nothing_is_held_out(repo_maker, tmp_path, capsys):
    repo = repo_maker({"src/a.py": "def f(x):\n    return x + 1\n" * 30})
    options = ["-j", "1", "--minutes", "0.05", "--base", "none", "-q"]
    assert main(["run", str(repo), "-o", str(tmp_path / "out"), *options, *SMALL]) == 0
    assert "nothing is held out" in capsys.readouterr().out


def test_run_needs_a_budget(repo, capsys):
    assert main(["run", str(repo), "--minutes", "0"]) == 2
    assert capsys.readouterr().err.startswith("error: the time budget must be above 0\n")


def test_doctor_says_what_is_there(capsys):
    assert main(["doctor"]) == 0
    output = capsys.readouterr().out
    assert install_command("train") not in output
    assert main(["doctor", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["schema"] == "git-starcoder/doctor/1"
    assert answer["extras"]["train"] == "installed"
    assert answer["extras"].keys() == {
        "train",
        "serve",
        "report",
        "parquet",
        "lora",
        "bitsandbytes",
        "export",
        "tensorboard",
        "embed",
        "ray",
    }
    assert answer["device"].startswith(("cpu", "cuda", "mps"))
    assert answer["precision"].startswith(("float32", "bfloat16"))
    assert answer["threads"] >= 1
    assert all(answer["training"][name] for name in ("torch", "transformers", "safetensors"))
    assert answer["problems"] == []
    assert all(answer["libraries"].values())
    assert {"version", "python", "git", "processors", "memory_gib", "disk_free_gib", "device", "hub"} <= answer.keys()


@pytest.mark.usefixtures("without_torch")
def test_doctor_without_torch_says_so_and_is_fine(capsys):
    assert main(["doctor"]) == 0
    assert (
        "device            not known: torch is not installed; it belongs to the extra 'train'"
        in capsys.readouterr().out
    )


def test_doctor_finds_an_old_git(capsys, tmp_path, monkeypatch):
    git = tmp_path / "git"
    git.write_text('#!/bin/sh\n[ "$1" = config ] || echo git version 2.20.1\n')
    git.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["doctor"]) == 1
    assert "git 2.39.4 or newer is needed, this is '2.20.1'" in capsys.readouterr().out
    git.unlink()
    assert main(["doctor"]) == 1
    assert "this is 'not found'" in capsys.readouterr().out


def test_run_is_refused_before_any_work(starcoder, repo):
    """Where something of the user's is in the way of any part of it."""
    out = starcoder.place / "starcoder_run"

    def refused(what, *more):
        before = {path: path.read_bytes() for path in starcoder.place.rglob("*") if path.is_file()}
        result = starcoder("run", repo, "-j", "1", "--minutes", "0.1", "-q", *more, *SMALL)
        assert (result.returncode, result.stdout) == (2, "")
        assert what in result.stderr.splitlines()[0]
        assert {path: path.read_bytes() for path in starcoder.place.rglob("*") if path.is_file()} == before

    out.mkdir()
    (out / "thesis.tex").write_text("mine")
    refused("'starcoder_run' exists and is not a folder that git starcoder run wrote")
    (out / ".gitignore").write_text(GITIGNORE_TEXT)  # as a run does first
    (out / "run.json").write_text('{"mine": 1}')
    refused("'run.json' in 'starcoder_run' is your file, but the run needs its name")
    (out / "run.json").unlink()
    (out / "model").mkdir()
    (out / "model" / "mine").write_text("mine")
    refused("starcoder_run/model' exists and is not a git-starcoder model")
    refused("the path is empty", "-o", "")


def test_run_keeps_what_is_not_its_own(starcoder, repo, model):
    out = starcoder.place / "starcoder_run"
    (starcoder.place / "disk").mkdir()
    out.symlink_to("disk")
    shutil.copytree(model, out / "model")
    (out / "model" / "notes.txt").write_text("mine")
    (out / ".gitignore").write_text(GITIGNORE_TEXT)
    (out / "thesis.tex").write_text("mine")
    config = out / "model" / "config.json"
    config.write_text(config.read_text() + "\n")
    command = ("run", repo, "-j", "1", "--minutes", "0.1", "-q", *SMALL)
    result = starcoder(*command)
    assert result.returncode == 2
    assert "were changed after they were written: config.json" in result.stderr
    assert starcoder(*command, "--force").returncode == 0
    assert out.is_symlink()
    assert (out / "thesis.tex").read_text() == (out / "model" / "notes.txt").read_text() == "mine"
    assert json.loads((out / "run.json").read_text())["schema"] == "git-starcoder/run/1"
    assert {path.parent.name for path in out.rglob(".gitignore")} == {"starcoder_run", "dataset", "model"}
    listed = json.loads((out / "model" / "training.json").read_text())["files"]
    assert listed["config.json"]["bytes"] == config.stat().st_size


@pytest.fixture
def copies(model, dataset, tmp_path):
    """Copies of the model and its dataset, to be spoiled."""
    shutil.copytree(model, tmp_path / "model")
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "model", tmp_path / "dataset"


def say(capsys, *arguments):
    """The exit code of a command, and the first line of what it says."""
    code = main([*map(str, arguments)])
    return code, (capsys.readouterr().err.splitlines() or [""])[0]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "git-starcoder/model/1"'])
def test_a_damaged_record_is_one_line(copies, repo, capsys, text):
    model, dataset = copies
    (model / "training.json").write_text(text)
    for command in (["complete", model, model / "README.md"], ["eval", model, dataset], ["replay", model, repo], ["update", model, repo],
                    ["export", model, "--to", "ollama"], ["serve", model, "--calibrate", dataset]):  # fmt: skip
        code, line = say(capsys, *command)
        assert code == 2, command
        assert "training.json" in line, (command, line)


@pytest.mark.parametrize("name", ["memory/places.npy", "memory/lengths.npy"])
def test_an_empty_file_of_the_memory_is_one_line(copies, capsys, name):
    model, _ = copies
    (model / name).write_bytes(b"")
    code, line = say(capsys, "complete", model, model / "README.md")
    assert (code, "memory cannot be read" in line) == (2, True), line


def test_what_is_no_model_is_one_line(repo, tmp_path, capsys):
    code, line = say(capsys, "replay", tmp_path / "none", repo)
    assert (code, "is not a model" in line) == (2, True)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert say(capsys, "update", loop, repo)[0] == 2


def test_numbers_that_are_none(model, dataset, capsys):
    for command in (["complete", model, "--temperature", "nan"], ["eval", model, dataset, "--seed", "-1"],
                    ["eval", model, dataset, "--minutes", "nan"], ["serve", model, "--threshold", "nan"]):  # fmt: skip
        assert say(capsys, *command)[0] == 2, command


def test_a_row_without_a_key_is_one_line(copies, capsys):
    model, dataset = copies
    path = dataset / "training_data_test.jsonl"
    path.write_text(path.read_text().replace('"augmentation_type"', '"other"'))
    code, line = say(capsys, "eval", model, dataset)
    assert (code, "row 1 of test is damaged" in line) == (2, True), line


def test_damaged_files_of_a_dataset_are_one_line(copies, repo, capsys):
    _, dataset = copies
    manifest = json.loads((dataset / "manifest.json").read_text())
    for steps in (None, "x"):
        (dataset / "manifest.json").write_text(json.dumps({**manifest, "steps": steps}))
        code, line = say(capsys, "show", dataset)
        assert (code, "is damaged" in line) == (2, True), line
    (dataset / "manifest.json").write_text(json.dumps({**manifest, "files": {"a\0b": {"bytes": 1, "sha256": ""}}}))
    code, line = say(capsys, "build", repo, "-o", dataset, "-q", "-r", "effectiveness", *SMALL)
    assert (code, "is not a git-starcoder dataset" in line) == (2, True), line
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    (dataset / "recipe.yaml").write_text("")
    code, line = say(capsys, "check", dataset)
    assert (code, "recipe has no window size" in line) == (2, True), line


def test_a_link_to_nothing_is_a_finding(copies, capsys):
    _, dataset = copies
    (dataset / "mine.jsonl").symlink_to("/nonexistent")
    assert main(["check", str(dataset), "-q"]) in {0, 1}
    (dataset / "training_data_train.jsonl").unlink()
    (dataset / "training_data_train.jsonl").symlink_to("/nonexistent")
    assert main(["check", str(dataset), "-q"]) in {1, 2}
    assert "bug" not in capsys.readouterr().err


def test_a_model_below_the_home_folder_has_its_memory(copies, monkeypatch):
    from git_starcoder.serve.engine import Engine

    model, _ = copies
    monkeypatch.setenv("HOME", str(model.parent))
    with Engine.open("~/model") as engine:
        assert engine.model.memory is not None
        assert engine.name.endswith("/model")


@pytest.mark.parametrize("kind", READ_AS)
def test_an_explained_text_is_read_as_build_does(tmp_path, monkeypatch, kind):
    cursors = []
    monkeypatch.setattr(complete_command, "_explain", lambda *each: cursors.append(each[2]) or 0)
    text = PROMPT.format("latin-1")
    (tmp_path / "whole").write_bytes(READ_AS[kind](text))
    (tmp_path / "end").write_bytes("\ncafé\n".encode("latin-1" if kind == "declared" else "utf-8"))
    arguments = ["complete", str(tmp_path), str(tmp_path / "whole"), "--suffix"]
    assert main([*arguments, str(tmp_path / "whole"), "--explain"]) == 0
    assert main([*arguments, str(tmp_path / "end"), "--explain"]) == 0
    assert [part.rstrip("\n") for part in (cursors[0].prefix, cursors[0].suffix)] == [text, text]
    assert kind.startswith("utf") or cursors[1].suffix == "\ncafé\n"  # in the encoding that the first text declares
