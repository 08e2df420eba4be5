"""`git starcoder compare`: what it refuses before any work, in one line."""

from __future__ import annotations

import pytest

from git_starcoder.cli import main


@pytest.fixture
def models(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "training.json").write_text("{}")
    return str(tmp_path / "one"), str(tmp_path / "two")


def refused(capsys, *arguments):
    assert main(["compare", "-q", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        ([], "there is nothing to compare with", "name two recipes or models, or use --without FEATURE or --ablate"),
        (["natural"], "there is nothing to compare with", "name two recipes"),
        (["natural", "elit"], "recipe 'elit' is not known", "did you mean 'elite'?"),
        (
            ["natural", "elite", "--ablate"],
            "features are switched off in one recipe, and 2 are given",
            "name one recipe",
        ),
        (["--without", "train.fimm"], "'train.fimm' is not a feature", "did you mean"),
        (["natural", "elite", "--train", "fimm=0"], "unknown key 'fimm'", "did you mean 'fim'?"),
        (["natural", "elite", "--tokens", "inf"], "the number of tokens must be finite", ""),
        (["natural", "natural"], "two arms are called 'natural'", "give arms names of their own"),
        (["--arms", "none.yaml"], "the file of arms cannot be read", ""),
    ],
)
def test_what_cannot_be_compared(repo, tmp_path, monkeypatch, capsys, arguments, what, hint):
    monkeypatch.chdir(tmp_path)
    error, *more = refused(capsys, *arguments, "--repo", repo)
    assert error.startswith(f"error: {what}")
    assert not hint or more[-1].startswith(f"hint: {hint}")


def test_models_need_a_dataset_and_no_repository(models, capsys):
    assert "on the test split of a dataset" in refused(capsys, *models)[0]
    assert "models are compared as they are" in refused(capsys, *models, "--ablate")[0]
    assert "nothing to compare with" in refused(capsys, models[0])[0]
    assert "is given twice" in refused(capsys, models[0], models[0], "--dataset", "d")[0]
    assert "is not a finished dataset" in refused(capsys, *models, "--dataset", "d")[0]


def test_files_of_the_user_are_not_replaced(repo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.html").write_text("mine")
    assert (
        "exists and was not written by" in refused(capsys, "natural", "elite", "-o", "thesis.html", "--repo", repo)[0]
    )
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("mine")
    assert (
        "is not the work folder of a comparison"
        in refused(capsys, "natural", "elite", "--work", "work", "--repo", repo)[0]
    )
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["thesis.tex"]
