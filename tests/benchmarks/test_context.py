"""The benchmark of contexts: its control shows another repository, and what is done is not done again."""

from __future__ import annotations

import sys

import pytest

import finished
from checkout import ROOT
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.model import training, with_context
from git_starcoder.text.tokenizer import load_tokenizer


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.delitem(sys.modules, "context", raising=False)
    return __import__("context")


@pytest.fixture
def datasets(tmp_path):
    own = finished.toy(tmp_path / "own", repository="own", size=256, stride=256)
    texts = {f"other/part_{seed}.py": finished.source(seed) for seed in range(100, 106)}
    held_out = {"val": {"other/val.py": finished.source(200)}, "test": {"other/test.py": finished.source(201)}}
    return own, finished.write(tmp_path / "other", {"train": texts, **held_out}, size=256, vocab_size=450)


def test_the_control_shows_files_of_another_repository_and_none_of_its_own(benchmark, datasets):
    own, other = datasets
    tokenizer = load_tokenizer(own.tokenizer_folder)
    document = load_documents(own, "val")[0]
    shown = {}
    for name, dataset in (("on", own), ("control", other)):
        with benchmark.showing_files_of(dataset):
            composers = [module.training_context(own, tokenizer) for module in (training, with_context)]
        shown[name] = [
            tokenizer.decode(each.extend_header(document.header, document.tokens, 200)).decode() for each in composers
        ]
        assert shown[name][0] == shown[name][1]
    assert "other/part_" not in shown["on"][0]
    assert "<file_sep>src/file_" in shown["on"][0].removesuffix(tokenizer.decode(document.header[-20:]).decode())
    assert "<file_sep>other/part_" in shown["control"][0]
    assert shown["control"][0].count("<file_sep>src/") == 1  # its own path
    again = training.training_context(own, tokenizer)
    assert set(again.paths) == {each.path for each in load_documents(own, "train")}


def test_an_interrupted_run_goes_on(benchmark, datasets, tmp_path, monkeypatch, capsys):
    done = []

    def measure(dataset, key, out):
        del out
        done.append((dataset.folder.name, key["arm"], key["train"]))
        files = {path: [8.0, 1] for path in key["held_out"]}
        return {"files": files, "files_with_memory": files}

    monkeypatch.setattr(benchmark, "measure", measure)
    folders = [str(dataset.folder) for dataset in datasets]
    monkeypatch.setattr(sys, "argv", ["context.py", str(tmp_path / "done.jsonl"), *folders, "--context", "100"])
    benchmark.main()
    benchmark.main()
    keys = ["context_tokens=100", "context_dropout=0.25"]
    assert done == [
        (name, arm, [] if arm == "off" else keys) for name in ("own", "other") for arm in ("off", "on", "control")
    ]
    assert capsys.readouterr().out.count("control") == 8
