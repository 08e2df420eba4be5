"""The tokenizer is learned from an anchor commit and from files to learn from alone, and holds still between anchors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from git_starcoder.build_state import BuildState
from git_starcoder.git.objects import Repo
from git_starcoder.recipe import Recipe
from git_starcoder.records import Source, Span, Unit, content_id
from git_starcoder.stages import learn_tokenizer
from git_starcoder.stages.shares import holdout_rank

RECIPE = Recipe.load("effectiveness", ("window.size=64", "window.vocab_size=600"))


class NoEngine:
    jobs = 1


def files(number):
    return {f"f{at}.py": f"def only_in_{at}(value):\n    return value * {at + 1}\n" * 8 for at in range(number)}


@pytest.mark.parametrize(("commits", "back"), [(1, 0), (7, 0), (16, 1), (17, 0), (18, 1), (40, 3), (41, 0), (44, 3)])
def test_it_is_the_last_of_every_so_many_commits(repo_maker, git, commits, back):
    repo = repo_maker([{"a.py": f"x = {number}\n"} for number in range(commits)])
    line = git(repo, "rev-list", "HEAD").decode().split()
    assert learn_tokenizer.find_anchor(Repo.open(repo)) == line[back]


def learned(repo, folder, splits):
    """The digest of the tokenizer, and the texts that it was learned from."""
    opened = Repo.open(repo)
    with BuildState(folder, 0, NoEngine()) as run:
        units = []
        for entry, (_, data) in zip(
            opened.entries(), opened.read_blobs(entry.blob for entry in opened.entries()), strict=True
        ):
            source = Source(content_id(entry.path), entry.path, entry.blob, "", 0, (), "python", run.texts.put(data))
            units.append(Unit(source, "clean", "core", 0.5, group=content_id(entry.path), split=splits(entry.path)))
        sources = [learn_tokenizer.LearningSource(opened, units, run.texts)]
        chosen = {file.path: file.blob for file in learn_tokenizer._choose_files(run, sources, RECIPE.read.max_bytes)}
        tokenizer = learn_tokenizer.learn_tokenizer(run, RECIPE, sources)
        (folder / "vocabulary").write_text(json.dumps([*tokenizer.vocabulary]))
        return tokenizer.digest, chosen, run, units


def test_a_small_commit_changes_no_token(repo_maker, tmp_path):
    history = [files(40), *({f"f{number}.py": f"changed = {number}\n" * 9} for number in range(17))]  # 18: back by one
    before = repo_maker(history)
    after = repo_maker([*history[:-1], {"f39.py": "quite = another\n" * 90}])
    assert learned(before, tmp_path / "a", lambda _: "train")[0] == learned(after, tmp_path / "b", lambda _: "train")[0]


def test_only_files_to_learn_from_that_are_far_from_the_edge_are_read(repo_maker, tmp_path):
    repo = repo_maker(files(40))
    held = {"f3.py", "f7.py", "f11.py", "f12.py"}
    _, chosen, run, units = learned(repo, tmp_path / "a", lambda path: "val" if path in held else "train")
    far = {unit.path for unit in units if holdout_rank(run, content_id(unit.path)) >= learn_tokenizer.MIN_HOLDOUT_RANK}
    assert far & held
    assert chosen.keys() == far - held


def test_code_that_moved_to_a_held_out_file_since_the_anchor_is_not_learned_from(repo_maker, tmp_path):
    moved = "".join(f"    wombatlynx = platypusheron + quokkazebrafinch({number})\n" for number in range(40))
    texts = {path: f"{text}{moved}" for path, text in files(40).items()}
    now = {**files(40), "held.py": f"def moved():\n{moved}"}
    repo = repo_maker([texts, *({"f1.py": f"changed = {number}\n"} for number in range(16)), now])  # 18: back by one
    opened = Repo.open(repo)
    assert learn_tokenizer.find_anchor(opened) != opened.commit
    found = []
    for name, split in (("a", "val"), ("b", "train")):
        _, chosen, _, _ = learned(
            repo, tmp_path / name, lambda path, split=split: split if path == "held.py" else "train"
        )
        assert chosen
        vocabulary = json.loads((tmp_path / name / "vocabulary").read_text())
        found.append([word for word in vocabulary if "wombat" in word or "platypus" in word])
    assert found[0] == []
    assert found[1]


def test_the_past_versions_of_files_with_held_out_lines_are_learned_from(repo_maker, tmp_path):
    repo = Repo.open(repo_maker(files(40)))
    _, chosen, run, units = learned(repo.path, tmp_path / "a", lambda _: "train")
    later = [replace(unit, source=replace(unit.source, added=(Span(0, 9),)), split="test") for unit in units]
    source = learn_tokenizer.LearningSource(repo, [*units, *later], run.texts)
    again = learn_tokenizer._choose_files(run, [source], RECIPE.read.max_bytes)
    assert {file.path: file.blob for file in again} == chosen


def test_where_there_is_no_anchor_the_units_are_learned_from(repo_maker, tmp_path):
    repo = Repo.open(repo_maker(files(12)))
    with BuildState(tmp_path / "a", 0, NoEngine()) as run:
        span = run.texts.put(b"hello = hello + hello\n" * 50)
        unit = Unit(Source("i", "elsewhere.py", "b", "", 0, (), "python", span), "clean", "core", 0.5)
        source = learn_tokenizer.LearningSource(repo, [unit], run.texts)
        with_it = learn_tokenizer.learn_tokenizer(run, RECIPE, [source])
        held_out = learn_tokenizer.learn_tokenizer(run, RECIPE, [source._replace(units=[replace(unit, split="test")])])
    assert len(with_it.encode([b"hello"])[0]) < len(held_out.encode([b"hello"])[0])
