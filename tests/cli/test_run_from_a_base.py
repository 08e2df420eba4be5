"""`git starcoder run` starts from a base if there is one, and says what it starts from."""

from __future__ import annotations

import json

import pytest

import shelf
from git_starcoder.cli import main
from git_starcoder.cli.run import _choose_base
from git_starcoder.dataset import Dataset
from git_starcoder.errors import UsageError
from git_starcoder.recipe import Recipe
from toy import code_base

SIZE = ("--set", "window.size=128")


@pytest.fixture(scope="module")
def made(tmp_path_factory, repo_maker, git):
    repo = repo_maker(code_base(30))
    return shelf.make(tmp_path_factory.mktemp("base"), repo, git(repo, "rev-parse", "HEAD").decode().strip(), steps=2)


@pytest.fixture
def package(made, monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    shelf.put(monkeypatch, tmp_path / "package", made.base.folder)
    return made


@pytest.fixture
def empty_package(monkeypatch, tmp_path):
    (tmp_path / "package").mkdir()
    shelf.put(monkeypatch, tmp_path / "package")


def choose(name=None, size=None, *overrides):
    base, reason = _choose_base(name, size, Recipe.load("natural", ("window.size=128", *overrides)))
    return base and base.name, reason


@pytest.mark.usefixtures("empty_package")
def test_without_a_base_training_starts_from_scratch_and_says_so():
    assert choose() == (None, "training starts from scratch: git-starcoder comes with no base")
    assert choose("none") == (None, "training starts from scratch")
    with pytest.raises(UsageError, match="base 'toy' is not known") as caught:
        choose("toy")
    advice = "give a folder or a Hugging Face id, or use --base none"
    assert caught.value.hint == f"git-starcoder comes with no base: {advice}"


@pytest.mark.usefixtures("package")
def test_what_a_run_starts_from():
    other = "window.tokenizer=some/folder"
    assert choose() == ("toy", "training starts from the base 'toy'; --base none trains from scratch")
    assert choose("toy") == ("toy", "training starts from the base 'toy'")
    assert choose("none") == choose(None, "small") == choose("none", "small") == (None, "training starts from scratch")
    tokenizer = "the tokenizer 'some/folder', and the base 'toy' its own"
    assert choose(None, None, other) == (None, f"training starts from scratch: the recipe has {tokenizer}")
    assert choose(None, None, "window.tokenizer=toy")[0] == "toy"
    assert choose(None, None, "window.size=auto")[0] == choose(None, None, "window.size=scales")[0] == "toy"
    long = "the recipe has rows of 129 tokens, and the base 'toy' reads 128"
    assert choose(None, None, "window.size=[64,129]") == (None, f"training starts from scratch: {long}")
    for arguments, what in (
        (("toy", "small"), "a base has its own size"),
        (("tou", None), "base 'tou' is not known"),
        (("toy", None, other), f"the recipe has {tokenizer}"),
        (("toy", None, "window.size=129"), long),
    ):
        with pytest.raises(UsageError) as caught:
            choose(*arguments)
        assert caught.value.what == what
        assert caught.value.hint


def test_a_run_from_a_base(package, repo_maker, tmp_path, capsys, monkeypatch):
    """The dataset gets the tokenizer of the base, and the model its weights. Of the held-out files, it has read some."""
    from git_starcoder.model import evaluate

    monkeypatch.setattr(evaluate, "load_evals", dict)
    repo = repo_maker({**code_base(30), **{f"own/{path}": text for path, text in code_base(30, seed=1).items()}})
    command = ["run", str(repo), "-o", str(tmp_path / "out"), "-j", "1", "--minutes", "0.05", *SIZE]
    assert main([*command, "--set", "split={train: 0.6, val: 0.2, test: 0.2}"]) == 0
    captured = capsys.readouterr()
    assert "training starts from the base 'toy'; --base none trains from scratch" in captured.err.splitlines()
    assert "the base 'toy' has read " in captured.out
    values = json.loads((tmp_path / "out/run.json").read_text())
    assert values["start"] == {"base": "toy"}
    assert values["base"]["splits"]["test"]["read"] > 0
    dataset = Dataset.open(tmp_path / "out/dataset")
    assert dataset.metadata["tokenizer"] == "toy"
    assert dataset.metadata["context_windows"] == [package.base.window]
    assert json.loads((tmp_path / "out/model/training.json").read_text())["base"]["of"] == "toy"


@pytest.mark.usefixtures("package")
def test_a_run_on_what_the_base_has_read_ends_with_one_line(made, tmp_path, capsys):
    """A base that has read the very same repository: but for its test split, everything that is held out."""
    arguments = ["run", str(made.repo), "-o", str(tmp_path / "out"), "-j", "1", "--minutes", "0.05", "-q", *SIZE]
    from git_starcoder.bases.blobs import BlobFilter

    everything = BlobFilter.build(
        row["blob"] for split in ("train", "val", "test") for row in made.dataset.row_metadata(split)
    )
    everything.save(tmp_path / "package/bases/toy/blobs.npy")
    assert main(arguments) == 0
    said = "the base 'toy' has read all files that are held out, so the model cannot be scored"
    assert said in capsys.readouterr().out.splitlines()
    model, dataset = (str(tmp_path / "out" / name) for name in ("model", "dataset"))
    assert main(["eval", model, dataset]) == 2
    assert capsys.readouterr().err.splitlines()[-3] == f"error: {said}"
