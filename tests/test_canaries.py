"""Secrets of every kind are planted in a repository, and none is in any byte of what is built from it."""

from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

import pytest

import planted
from git_starcoder.engine.local import LocalEngine
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from git_starcoder.text import tokenizer as tokenizers
from toy import code_base

if TYPE_CHECKING:
    from git_starcoder.dataset import Dataset

COMMENTS = {"py": "# ", "rs": "// ", "go": "// ", "ts": "// ", "c": "// ", "h": "// ", "md": ""}
ADDRESS = "grace@navy.mil"
IN_MESSAGE = ("JWT", "GITHUB_TOKEN", "PASSWORD")
RECIPE = ("window.size=512", "window.vocab_size=800")


@pytest.fixture(scope="module")
def canaries():
    few = [kind for kind in planted.KINDS if kind not in planted.FORMS]  # forms differ in their letters only
    return {kind: planted.KINDS[kind](Random(f"canary {kind}")) for kind in few}


@pytest.fixture(scope="module")
def repo(repo_maker, git, canaries):
    """Each canary is in the newest commit in one file, and in another one that the newest commit took it from."""
    files = code_base(len(canaries) * 3)
    for seed in range(1, 4):  # longer, or a key would be most of its file; of one place, one language
        for path, more in zip(files, code_base(len(files), seed).values(), strict=True):
            files[path] += more
    paths = [path for path in files if path.rpartition(".")[2] in COMMENTS]
    first = dict(files)
    for planting, now, once in zip(canaries.values(), paths[::2], paths[1::2], strict=False):
        for path, places in (now, (files, first)), (once, (first,)):
            mark = COMMENTS[path.rpartition(".")[2]]
            text = "".join(f"{mark}{line}\n" for line in planting.text.splitlines())
            for place in places:
                place[path] += text
    repo = repo_maker([first, files])
    secrets = "\n".join(canaries[kind].text for kind in IN_MESSAGE)
    message = f"Forget all of these\n\n{secrets}\n\nSigned-off-by: Grace <{ADDRESS}>"
    git(repo, "commit", "--quiet", "--amend", "--cleanup=verbatim", "-m", message)
    return repo


@pytest.fixture(scope="module", params=["effectiveness", "elite"])
def dataset(request, repo, tmp_path_factory):
    recipe = Recipe.load(request.param, RECIPE)
    with LocalEngine(2) as engine:
        return build(repo, recipe, tmp_path_factory.mktemp("canaries") / "out", engine=engine)


def traces(secret: str) -> list[bytes]:
    """What would give a secret away: of the token, or of every line of a key, the beginning and the end."""
    pieces = re.findall(r'[^\s"\\-][^\s"\\]{8,}', secret)
    return [part.encode() for piece in pieces for part in (piece[:16], piece[-16:])]


def leaks(text: bytes, canaries) -> list[str]:
    """Kinds of the canaries that a text gives away."""
    return [kind for kind, planting in canaries.items() if any(trace in text for trace in traces(planting.secret))]


def test_the_search_finds_what_is_there(canaries):
    for kind, planting in canaries.items():
        assert kind in leaks(b"x" + planting.text.encode() + b"x", canaries)


def test_the_repository_has_them(repo, git, canaries):
    assert leaks(git(repo, "grep", "-h", "", "HEAD"), canaries) == list(canaries)
    assert leaks(git(repo, "log", "--patch", "--format=", "-1"), canaries) == list(canaries)
    assert tuple(leaks(git(repo, "log", "--format=%B", "-1"), canaries)) == IN_MESSAGE


def test_no_file_has_one(dataset, canaries):
    for path in dataset.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert leaks(data, canaries) == [], path.name
            assert ADDRESS.encode() not in data, path.name


def test_no_row_has_one(dataset: Dataset, canaries):
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    marks, messages = 0, set()
    for split in SPLITS:
        for row in dataset.rows(split):
            text = tokenizer.decode(row.tokens)
            assert leaks(text, canaries) == []
            marks += text.count(b"REDACTED_")
            messages.add(row.metadata.get("commit_message", ""))
    assert marks > len(canaries)
    told = [text for text in messages if "Forget all of these" in text]
    assert [text.count("REDACTED_") for text in told] == (
        [len(IN_MESSAGE)] if "elite_version" in dataset.metadata else []
    )
