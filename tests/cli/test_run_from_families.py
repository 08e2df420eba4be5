"""`git starcoder run --base FOLDER` for the families of bases: build, training, scores before and after, completion."""

from __future__ import annotations

import json
import os

import pytest

import bases
from bases import FAMILIES
from git_starcoder.cli import main
from git_starcoder.dataset import Dataset
from git_starcoder.evals.bits_per_byte import score_models
from git_starcoder.model import evaluate as evaluation
from git_starcoder.serve import confidence
from git_starcoder.text.tokenizer import load_tokenizer
from toy import code_base

SMALL = ("-j", "1", "--minutes", "0.05", "--set", "split={train: 0.6, val: 0.2, test: 0.2}", "--set", "window.size=192")
FULLY_TUNED = {"qwen2-instruct"}


@pytest.fixture(scope="module")
def repo(repo_maker):
    return repo_maker(code_base(20))


@pytest.fixture
def one_eval(monkeypatch):
    """Without what takes long and is the same for every model: compressors, and the threshold of `serve`."""
    monkeypatch.setattr(evaluation, "load_evals", lambda: {"bits_per_byte": score_models})
    monkeypatch.setattr(evaluation, "_fit_time", lambda exam, *_: exam)
    monkeypatch.setattr(confidence, "choose_threshold", lambda *_, **__: None)


@pytest.mark.usefixtures("one_eval")
@pytest.mark.parametrize("name", ["llama3", "qwen2-instruct", "starcoder2"])  # tests/model has all families
def test_one_command_tunes_a_base_of_each_family(name, repo, tmp_path, capsys):
    family = FAMILIES[name]
    base, out = str(bases.write_family(tmp_path / "base", name)), tmp_path / "out"
    tune = ["--tune", "full"] if name in FULLY_TUNED else []
    assert main(["run", str(repo), "-o", str(out), "--base", base, *tune, *SMALL]) == 0
    told = capsys.readouterr()
    assert f"training starts from the base '{base}'" in told.err.splitlines()
    assert ("is an Instruct model" in told.err) == family.is_chat_model
    assert "bits as a share of those of 'base before tuning'" in told.out
    assert "untrained" not in told.out

    dataset = Dataset.open(out / "dataset")
    tokenizer = load_tokenizer(dataset.tokenizer_folder)
    assert tokenizer.find_difference(load_tokenizer(base)) == ""
    assert tokenizer.control_tokens[tokenizer.end_id] == family.end
    assert dataset.metadata["context_windows"] == [192]
    row = next(dataset.rows("train"))
    header = [tokenizer.control_tokens.get(token, "") for token in row.tokens[: row.context_length]]
    assert [token for token in header if token] == [token for token in (family.repository, family.file) if token]

    values = json.loads((out / "run.json").read_text())
    assert values["start"] == {"base": base, **({} if tune else {"tune": "lora"})}
    subjects = {score["subject"] for score in values["scores"]}
    assert subjects == {"network", "memory", "network and memory", "base before tuning"}
    pair = next(each for each in values["comparisons"] if each["reference"] == "base before tuning")
    assert pair["subject"] == "network"
    assert pair["low"] is not None
    assert (out / "model" / "adapter").exists() == (not tune)
    assert "the base before tuning" in (out / "model" / "README.md").read_text()
    assert "completion" in values


def test_what_cannot_be_a_base_is_said_before_the_build(repo, tmp_path, capsys):
    folder = bases.write_family(tmp_path / "base", "llama3")
    values = json.loads((folder / "config.json").read_text())
    kind = tmp_path / "t5"
    os.rename(bases.write_family(tmp_path / "other", "qwen3"), kind)
    (kind / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    for options, what in (
        (["--base", str(kind)], f"'{kind}' is of the kind t5: no causal language model"),
        (["--base", str(tmp_path / "nothing")], f"there is no folder '{tmp_path / 'nothing'}'"),
        (["--base", "nothing"], "base 'nothing' is not known"),
        (["--base", str(folder), "--size", "tiny"], "a base has its own size"),
        (["--tune", "lora", "--base", "none"], "a model from scratch is not tuned"),
        (["--base", str(folder), "--set", "window.size=512"],
         f"the recipe has rows of 512 tokens, and the base '{folder}' reads {values['max_position_embeddings'] - 3}"),
        (["--base", str(folder), "--set", "window.tokenizer=other/one"],
         f"the recipe has the tokenizer 'other/one', and the base '{folder}' its own"),
    ):  # fmt: skip
        assert main(["run", str(repo), "-o", str(tmp_path / "out"), *options]) == 2, options
        said = capsys.readouterr().err
        assert f"error: {what}\n" in said
        assert "read  " not in said
        assert not (tmp_path / "out").exists()
