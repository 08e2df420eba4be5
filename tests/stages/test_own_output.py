"""Output of ours that somebody committed is not read; what merely resembles it is."""

import json
from collections import Counter

import pytest

from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.parse.own_output import recognise_own_output
from git_starcoder.pipeline import build
from git_starcoder.recipe import ReadOptions, Recipe
from git_starcoder.stages import read
from toy import code_base

CODE = "def mine(value):\n    return value + 1\n"
MINE = {
    "manifest.json": '{"schema": "another/1", "files": {"recipe.yaml": {"bytes": 12}}}\n',
    "recipe.yaml": "flour: 500 g\n",
    "config.json": '{"model_type": "of a car"}\n',
    "tokenizer/tokenizer.json": '{"version": "mine"}\n',
    "dataset_metadata.json": '{"total_sequences": 3, "source_repo": "mine"}\n',
    "training_data_train.jsonl": '{"tokens": [1, 2], "metadata": {"author": "Ada"}}\n',
    "drops.jsonl": '{"step": "wash", "id": 1, "reason": "mine", "because": "mine"}\n',
    "imports.jsonl": '{"from": "a", "to": "b"}\n',
    "metrics.jsonl": '{"step": 1, "loss": 2.0}\n',
    "training.json": '{"about": "a \\"git-starcoder/model/1\\" folder"}\n',
    "README.md": "# Mine\n\nMade by git-starcoder from one Git repository, says the card of my dataset.\n",
    "page.html": '<html><head><meta name="description" content="git starcoder report"></head></html>\n',
    ".gitignore": "*.pyc\n",
    "write.py": "SCHEMA = 'git-starcoder/dataset/1'\n",
}
"""Files of the user that look like output."""


@pytest.fixture(scope="module")
def output(repo_maker, tmp_path_factory):
    """The files of a dataset of each form: `output("jsonl")`."""
    repo = repo_maker([code_base(20), {"src/more.py": CODE * 9}])
    folder = tmp_path_factory.mktemp("output")
    done = {}

    def make(form):
        if form not in done:
            values = ("window.size=64", "window.vocab_size=600", f"write.format={form}", "write.labels=true")
            with LocalEngine(1) as engine:
                made = build(repo, Recipe.load("effectiveness", values), folder / form, engine=engine).folder
            done[form] = {str(path.relative_to(made)): path.read_bytes() for path in made.rglob("*") if path.is_file()}
        return dict(done[form])

    return make


class Result:
    """What the step reads of a repository, and why it drops the rest."""

    def __init__(self, repository, folder, **options):
        with LocalEngine(jobs=1) as engine, BuildState(folder, 0, engine) as run:
            sources, changes = read.read_repository(run, ReadOptions(**options), Repo.open(repository))
            [step] = run.steps
        assert step.seen == step.kept + sum(step.dropped.values())
        self.sources = {source.path for source in sources}
        self.changes = {change.path for change in changes}
        self.dropped = {drop.id: drop.reason for drop in run.drops}
        self.reasons = Counter(drop.reason for drop in run.drops)


def under(folder, files):
    return {f"{folder}/{name}" if folder else name: data for name, data in files.items()}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("folder", ["training_data_effectiveness", "deep/below/moved and renamed", ""])
def test_a_dataset_is_not_read(output, repo_maker, tmp_path, form, folder):
    files = under(folder, output(form))
    mine = {
        "mine.py": CODE,
        **under(folder, {"NOTES.md": "notes\n", "own/recipe.yaml": "flour\n", "labels.jsonl": "{}\n"}),
    }
    result = Result(repo_maker({**mine, **files}), tmp_path)
    assert result.sources == set(mine)
    assert result.reasons == {"own_output": len(files)}


@pytest.mark.parametrize("left", ["manifest", "manifest and rows", "rows of one split"])
def test_a_part_of_a_dataset_is_not_read(output, repo_maker, tmp_path, left):
    files = output("jsonl")
    del files["manifest.json"]
    if left != "manifest":
        for split in ("train", "val", "test") if left == "manifest and rows" else ("train", "test"):
            del files[f"training_data_{split}.jsonl"]
    result = Result(repo_maker({"mine.py": CODE, **under("data", files)}), tmp_path)
    assert result.sources == {"mine.py"}
    assert result.reasons == {"own_output": len(files)}


def test_each_file_with_text_of_code_is_known_by_itself(output, repo_maker, tmp_path):
    names = {"training_data_train.jsonl": "rows.txt", "README.md": "card.md", "manifest.json": "a.json", ".gitignore": "i",
             "dataset_metadata.json": "b.json", "drops.jsonl": "c", "signatures.jsonl": "d.log"}  # fmt: skip
    files = output("jsonl")
    moved = {f"{number}/{name}": files[old] for number, (old, name) in enumerate(names.items())}
    moved["first rows"] = b"".join(files["training_data_train.jsonl"].splitlines(keepends=True)[:2])
    moved["windows.jsonl"] = files["training_data_val.jsonl"].replace(b"\n", b"\r\n")
    moved["sorted.json"] = json.dumps(json.loads(files["manifest.json"]), indent=4, sort_keys=True).encode()
    result = Result(repo_maker({"mine.py": CODE, **moved}), tmp_path, max_bytes=10**8)
    assert result.sources == {"mine.py"}
    assert {result.dropped[name] for name in moved} == {"own_output"}


def test_what_merely_resembles_output_is_read(repo_maker, tmp_path):
    result = Result(repo_maker(MINE), tmp_path)
    assert result.sources == set(MINE)


def test_files_of_the_user_beside_output_are_read(output, repo_maker, tmp_path):
    """A file that the manifest does not list, and one with a listed name and size in another folder."""
    files = output("jsonl")
    mine = {
        "docs/recipe.yaml": files["recipe.yaml"],
        "docs/config.json": "{}\n",
        "config.json": "{}\n",
        "page.html": "<p>\n",
    }
    result = Result(
        repo_maker({**mine, **files, "docs/page.html": b'<meta name="generator" content="git starcoder report">'}),
        tmp_path,
    )
    assert result.sources == set(mine)


def test_changes_of_output_are_not_learned_from(output, repo_maker, tmp_path):
    """It was committed, built again elsewhere, and removed in the end, so the tree says nothing of it."""
    first = under("old", output("jsonl"))
    second = under("moved/new", {name: data.replace(b"def", b"fed") for name, data in output("jsonl").items()})
    second["moved/new/recipe.yaml"] = first["old/recipe.yaml"] + b"# changed\n"
    mine = {"mine.py": CODE, "old/mine.py": CODE, "recipe.yaml": "flour: 1\n", "config/config.json": "{}\n"}
    changed = {name: f"{text}# more\n" for name, text in mine.items()}
    gone = dict.fromkeys(second)
    history = [mine, first, {**dict.fromkeys(first), **second, **changed}, gone]
    result = Result(repo_maker(history), tmp_path, changes=1000, max_bytes=10**8)
    assert result.sources == result.changes == set(mine)
    assert {result.dropped[name] for name in first if first[name]} == {"own_output", "minified"}
    assert result.dropped["moved/new/recipe.yaml"] == "own_output"
    assert result.reasons["own_output"] > len(first)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b"\xff\xfe{", b"---\n", b"<", b'{"because": 1}', b'{"schema": null}']
)
def test_whatever_else_is_in_a_file_it_is_not_ours(data):
    assert recognise_own_output(data) is None


@pytest.mark.parametrize("step", [["lint"], {"a": 1}, 7, None])
def test_drops_of_another_program_are_read(step):
    line = json.dumps({"step": step, "id": 1, "reason": "style", "because": "x"})
    assert recognise_own_output(f"{line}\n".encode()) is None
