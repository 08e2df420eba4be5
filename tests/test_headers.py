"""Headers: the repository's name and the file's path before every window of a file, read and not in the loss."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from git_starcoder.checks import check
from git_starcoder.dataset.held_out import draw_rows, load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import RecipeError
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.git.objects import Repo
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.network import Network
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers
from toy import code_base

SMALL = ("window.size=64", "window.vocab_size=600")
URLS = {
    "https://name:secret@example.com/owner/project.git": "project",
    "ssh://git@example.com:22/deep/er/some.thing/": "some.thing",
    "git@example.com:owner/project": "project",
    "host:project.git": "project",
    "/home/ada/private-name": "repository",
    "../private-name": "repository",
    "file:///home/ada/private name": "repository",
    "https://example.com": "repository",
}


@pytest.fixture(scope="module")
def repo(repo_maker, git):
    files = code_base(24) | {"one/LICENCE": "word " * 40, "two/LICENCE": "word " * 40}
    folder = repo_maker(files)
    git(folder, "config", "remote.origin.url", "https://example.com/owner/project.git")
    return folder


@pytest.fixture(scope="module")
def dataset(repo, tmp_path_factory):
    with LocalEngine(1) as engine:
        return build(repo, Recipe.load("natural", SMALL), tmp_path_factory.mktemp("built") / "out", engine=engine)


@pytest.mark.parametrize("url", URLS)
def test_the_name_is_the_last_part_of_a_url_and_never_that_of_a_folder(repo_maker, git, url):
    folder = repo_maker({"a.py": "x = 1\n"})
    assert Repo.open(folder).public_name() == "repository"
    git(folder, "config", "remote.origin.url", url)
    assert Repo.open(folder).public_name() == URLS[url]


def test_every_window_of_a_file_begins_with_its_header(dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    rows = list(dataset.rows("train"))
    assert len(rows) > 50
    assert any(row.metadata["chunk_index"] for row in rows)
    for row in rows:
        header = tokenizer.decode(row.tokens[: row.context_length]).decode()
        assert header == f"<repo_name>project<file_sep>{row.metadata['source_file']}\n"
        assert row.tokens[0] == tokenizer.control_token_ids("<repo_name>")[0]
        assert "<" not in tokenizer.decode(row.tokens[1 : row.context_length]).decode().replace("<file_sep>", "")


def test_a_dataset_with_headers_passes_all_checks(dataset, repo):
    outcomes = {outcome.check: outcome for outcome in check(dataset, Repo.open(repo))}
    assert {name: outcome.findings for name, outcome in outcomes.items() if outcome.finding_count} == {}
    assert not outcomes["headers"].skipped


def test_clones_anywhere_give_the_same_bytes(dataset, repo, tmp_path):
    shutil.copytree(repo, tmp_path / "elsewhere" / "another name")
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    assert recipe.window.header == "project"
    with LocalEngine(1) as engine:
        again = build(tmp_path / "elsewhere" / "another name", recipe, tmp_path / "out", engine=engine)
    assert again.manifest["files"] == dataset.manifest["files"]


def test_a_text_under_two_paths_is_one_text(dataset):
    drops = [line for line in (dataset.folder / "drops.jsonl").read_text().splitlines() if '"exact"' in line]
    assert len([line for line in drops if "LICENCE" in line]) == 1


def test_training_reads_headers_and_learns_only_the_text(dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    assert corpus.is_plain_text.all()
    first = int(np.flatnonzero(corpus.starts_text)[0])
    later = int(np.flatnonzero(~corpus.starts_text)[0])
    name = tokenizer.control_token_ids("<repo_name>")[0]
    assert corpus.input_tokens(first)[:2].tolist() == [tokenizer.end_id, name]
    assert corpus.input_tokens(later)[0] == name
    for row in (first, later):
        shown = tokenizer.decode(corpus.input_tokens(row)[: corpus.loss_starts[row]]).decode()
        assert shown.startswith(("<repo_name>project<file_sep>", "<|endoftext|><repo_name>project<file_sep>"))
        assert shown.endswith("\n")


class Spy:
    """A model that writes down what it reads."""

    context = 60
    sequence_bits = Network.sequence_bits

    def __init__(self, end_token):
        self.end_token = end_token

    def token_bits(self, windows):
        self.windows = [window.tolist() for window in windows]
        return [np.ones(len(window) - 1) for window in windows]


def test_held_out_text_is_scored_behind_headers_as_in_training(dataset):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    documents = load_documents(dataset, "val")
    longest = max(documents, key=lambda document: len(document.tokens))
    spy = Spy(tokenizer.end_id)
    assert document_bits(spy, [longest], tokenizer.end_id).tolist() == [len(longest.tokens)]
    header = longest.header.tolist()
    assert len(header) > 5
    assert spy.windows[0][: len(header) + 1] == [tokenizer.end_id, *header]
    assert len(spy.windows) > 2
    for window in spy.windows[1:]:
        assert window[: len(header)] == header
        assert len(window) <= spy.context + 1
    rows = draw_rows(dataset, "val", 10**6, tokenizer.end_id)
    assert all(row.context_length >= len(header) - 20 for row in rows)
    assert {row.tokens[0] == tokenizer.end_id for row in rows} == {True, False}


def test_a_recipe_without_a_header_is_written_as_before_there_were_any():
    assert "header" not in Recipe.load("effectiveness").to_yaml()
    assert (
        Recipe.load("effectiveness").fingerprint()
        == Recipe.load("effectiveness", ("window.header=null",)).fingerprint()
    )
    assert Recipe.load("natural").window.header == "auto"
    with pytest.raises(RecipeError):
        Recipe.load("natural", ('window.header="a\\nb"',))
