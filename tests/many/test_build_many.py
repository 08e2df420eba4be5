"""One dataset from many repositories: forks, copies and extracts, increments, failures, licences and weights."""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import string
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from git_starcoder.checks import check
from git_starcoder.comparison.work_folder import open_work_folder as open_comparison_folder
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.show import show
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import OutputError, RepositoryError, UsageError
from git_starcoder.many import tasks
from git_starcoder.many.build import build_many
from git_starcoder.many.repositories import read_list
from git_starcoder.many.tasks import RepositorySource
from git_starcoder.protocols import Failure, Progress
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from git_starcoder.report import report
from git_starcoder.stages import analyse, augment
from git_starcoder.text.tokenizer import load_tokenizer
from toy import code_base, embedding_model

SMALL = ("window.size=64", "window.vocab_size=600")
NATURAL = Recipe.load("natural", SMALL)
HISTORY = Recipe.load("elite", (*SMALL, "read.changes=500"))
MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining a copy\n"
GPL = "GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007\n"


class Here:
    """An engine that works in this process, and remembers what it was asked for."""

    jobs = 1

    def __init__(self):
        self.asked = Counter()

    def map(self, function, given, *, limit):
        assert limit > 0
        for task in given:
            self.asked[function.__name__] += not getattr(task, "folder", Path()).is_dir() or not hasattr(task, "folder")
            yield function(task)


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(scope="module", autouse=True)
def _workers():
    yield
    while tasks._engines:
        tasks._engines.pop().close()


def named(repo, name, git):
    git(repo, "config", "remote.origin.url", f"https://example.com/somebody/{name}.git")
    return repo


def numbered(count, start=0):
    """Files of a code base of their own."""
    return {f"{start}/{path}": text.replace("total", f"sum_{start}") for path, text in code_base(count, start).items()}


def unlike(count, seed):
    """Files that are like no other file."""
    chance = random.Random(seed)

    def line():
        return " ".join("".join(chance.choices(string.ascii_lowercase, k=7)) for _ in range(8))

    return {f"notes/{number}.txt": "".join(f"{line()}\n" for _ in range(30)) for number in range(count)}


@pytest.fixture(scope="module")
def repos(repo_maker, git):
    """Five repositories: one, a fork of it, an extract of it, one that copies some of its files, and a stranger."""
    code = code_base(40)
    some = dict(list(code.items())[:12])
    later = {path: text.replace("limit", "bound") for path, text in list(code.items())[:6]}
    made = {
        "upstream": [{**code, "LICENSE": MIT}, later],
        "fork": [{**code, "LICENSE": MIT}, later, {**code_base(3, 77), "b.py": None}],
        "extract": [{f"lib/{path}": text for path, text in some.items()} | {"LICENSE": MIT}],
        "copier": [{**numbered(20, 1000), **{f"src/copied/{path}": f"# ours\n{text}" for path, text in some.items()}}],
        "stranger": [{**numbered(30, 5000), "LICENSE": GPL}],
    }
    return {name: named(repo_maker(commits), name, git) for name, commits in made.items()}


def sources(repos):
    return [RepositorySource(path) for path in repos.values()]


def built(repos, out, recipe=NATURAL, engine=None, **options):
    return build_many(sources(repos), recipe, out, engine=engine or Here(), **options)


@pytest.fixture(scope="module")
def natural(repos, tmp_path_factory):
    return built(repos, tmp_path_factory.mktemp("natural") / "out")


@pytest.fixture(scope="module")
def history(repos, tmp_path_factory):
    return built(repos, tmp_path_factory.mktemp("history") / "out", HISTORY)


def contents(dataset):
    return {
        path.relative_to(dataset.folder).as_posix(): path.read_bytes()
        for path in dataset.folder.rglob("*")
        if path.is_file()
    }


def listed(dataset):
    lines = (dataset.folder / "repositories.jsonl").read_text().splitlines()
    return {line["repository"]: line for line in map(json.loads, lines)}


def all_metadata(dataset):
    return [metadata for split in SPLITS for metadata in dataset.row_metadata(split)]


@pytest.mark.parametrize("kind", ["natural", "history"])
def test_every_check_passes_on_many(kind, request):
    dataset = request.getfixturevalue(kind)
    found = {outcome.check: outcome.findings for outcome in check(dataset) if outcome.finding_count}
    assert not found
    passed = {outcome.check for outcome in check(dataset) if not outcome.skipped}
    assert passed > {"leak", "near_files", "overlap", "rows", "counts", "ages", "weights", "origins"}


@pytest.mark.parametrize("kind", ["natural", "history"])
def test_copies_in_other_repositories_are_in_the_same_split(kind, request):
    splits = defaultdict(set)
    for metadata in all_metadata(request.getfixturevalue(kind)):
        splits[metadata["group"]].add(metadata["split"])
    assert all(len(found) == 1 for found in splits.values())
    group_of_path = {
        metadata["source_file"]: metadata["group"] for metadata in all_metadata(request.getfixturevalue(kind))
    }
    originals = {path: group for path, group in group_of_path.items() if path.startswith(("fork/", "upstream/"))}
    copies = [path for path in group_of_path if path.startswith("copier/src/copied/")]
    for path in copies:
        own_path = path.removeprefix("copier/src/copied/")
        assert group_of_path[path] in {originals.get(f"fork/{own_path}"), originals.get(f"upstream/{own_path}")}
    assert len(copies) > 3


def test_equal_files_stay_in_the_largest_repository_that_has_them(natural):
    owners = Counter(metadata["repository"] for metadata in all_metadata(natural))
    assert owners["fork"] > 9 * owners["upstream"]  # the fork has three files more, so what both have stays there
    drops = [json.loads(line) for line in (natural.folder / "drops.jsonl").read_text().splitlines()]
    kept_in = Counter(
        drop["because"].partition("/")[0]
        for drop in drops
        if drop["id"].startswith("extract/") and drop["reason"] == "copied_file"
    )
    assert set(kept_in) == {"fork"}
    assert kept_in.total() >= 5


def test_a_row_names_its_repository_and_licence(natural):
    row = next(row for row in natural.rows("train") if row.metadata["repository"] == "fork")
    assert row.metadata["source_file"].startswith("fork/")
    assert row.metadata["license"] == "MIT"
    header = load_tokenizer(natural.tokenizer_folder).decode(row.tokens[: row.metadata["context"]]).decode()
    path = row.metadata["source_file"].removeprefix("fork/")
    assert header == f"<repo_name>fork<file_sep>{path}\n"


def test_the_bytes_do_not_depend_on_order_workers_and_work_folder(repos, history, tmp_path):
    backwards = dict(reversed(repos.items()))
    work = tmp_path / "work"
    with LocalEngine(2) as engine:
        again = built(backwards, tmp_path / "again", HISTORY, engine, work=work)
    assert contents(again) == contents(history)
    engine = Here()
    once_more = built(repos, tmp_path / "once more", HISTORY, engine, work=work)
    assert contents(once_more) == contents(history)
    assert engine.asked["read_part"] == engine.asked["rows_part"] == engine.asked["shard_part"] == 0


@pytest.fixture(scope="module")
def tokenizer(natural):
    return Recipe.load("natural", (*SMALL, f"window.tokenizer={natural.tokenizer_folder}"))


def test_what_is_added_or_changed_is_made_and_nothing_else(repos, tokenizer, repo_maker, git, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    before = built(repos, out, tokenizer, work=work)
    inodes = {name: (out / name).stat().st_ino for name in before.manifest["files"] if name.startswith("data/")}
    added = {**repos, "added": named(repo_maker(unlike(9, 1)), "added", git)}
    engine = Here()
    dataset = built(added, out, tokenizer, engine, work=work)
    assert engine.asked["read_part"] == engine.asked["rows_part"] == engine.asked["shard_part"] == 1
    assert {name: (out / name).stat().st_ino for name in inodes} == inodes
    assert contents(dataset) == contents(built(added, tmp_path / "from nothing", tokenizer))
    changed = shutil.copytree(repos["stranger"], tmp_path / "stranger")
    (changed / "new.txt").write_text(unlike(1, 2)["notes/0.txt"])
    git(changed, "add", ".")
    git(changed, "commit", "--quiet", "-m", "new")
    engine = Here()
    moved = {**added, "stranger": changed}
    dataset = built(moved, out, tokenizer, engine, work=work)
    assert engine.asked["read_part"] == 1
    assert engine.asked["shard_part"] == 1
    assert contents(dataset) == contents(built(moved, tmp_path / "from nothing again", tokenizer))
    assert len(list((work / "read").iterdir())) == len(moved)  # what is not used any more is gone


def test_a_shard_that_somebody_edited_is_made_again(repos, natural, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    built(repos, out, work=work)
    with (out / "data/train/fork.jsonl").open("ab") as file:
        file.write(b"{}\n")
    made_at = {path: path.stat().st_mtime_ns for path in (work / "shard").iterdir()}
    assert contents(built(repos, out, work=work, force=True)) == contents(natural)
    assert sum(path.stat().st_mtime_ns != time for path, time in made_at.items()) == 1


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
@pytest.mark.parametrize("kind", ["read", "rows", "shard", "tokenizer", "decisions"])
def test_what_was_damaged_in_a_work_folder_is_made_again(repos, natural, tmp_path, kind, damage):
    """Half of the files at a time: a build for each would take minutes."""
    work = tmp_path / "work"
    built(repos, tmp_path / "out", work=work)
    files = [path for path in sorted((work / kind).rglob("*")) if path.is_file() and path.stat().st_size]
    for some in (files[::2], files[1::2]):
        kept = {path: path.read_bytes() for path in some}
        for path in some:
            damage(path)
        assert contents(built(repos, tmp_path / "again", work=work, force=True)) == contents(natural)
        assert all(path.read_bytes() == data for path, data in kept.items() if path.name not in {"seal", "texts"})


def test_a_copy_of_a_work_folder_is_as_good(repos, natural, tmp_path):
    built(repos, tmp_path / "out", work=tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "second", copy_function=shutil.copyfile)
    made_at = {path: path.stat().st_mtime_ns for path in (tmp_path / "second").rglob("*") if path.is_file()}
    assert contents(built(repos, tmp_path / "out", work=tmp_path / "second", force=True)) == contents(natural)
    assert {path: path.stat().st_mtime_ns for path in made_at} == made_at


def test_a_work_folder_takes_no_folder_of_the_user(repos, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine\n")
    for work, what in (
        (taken, "is not the work folder of a build"),
        (repos["fork"], "is not the work folder of a build"),
        (repos["fork"] / ".git" / "work", "is inside the git directory"),
    ):
        with pytest.raises(OutputError, match=what) as caught:
            built(repos, tmp_path / "out", work=work)
        assert caught.value.where == "--work"
    assert [path.name for path in taken.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("kind", ["names of ours", "dataset", "comparison"])
def test_neither_names_nor_an_ignore_file_of_ours_make_a_work_folder(repos, natural, tmp_path, kind):
    work = tmp_path / "work"
    if kind == "names of ours":
        for name in ("tokenizer/tokenizer.json", "read/notes/a.txt"):
            (work / name).parent.mkdir(parents=True)
            (work / name).write_text("mine\n")
    elif kind == "dataset":
        shutil.copytree(natural.folder, work)
    else:
        with open_comparison_folder(work):
            pass
    before = {path: path.read_bytes() for path in work.rglob("*") if path.is_file()}
    with pytest.raises(OutputError, match="is not the work folder of a build"):
        built(repos, tmp_path / "out", work=work)
    assert {path: path.read_bytes() for path in work.rglob("*") if path.is_file()} == before


def test_files_of_the_user_stay_in_a_work_folder(repos, tmp_path):
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    (work / ".gitignore").write_text("mine\n")
    built(repos, out, work=work)
    mine = [work / name for name in (".gitignore", "notes.txt", "read/notes/a.txt", "tokenizer/tokenizer.json")]
    for path in mine[1:]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine\n")
    built(repos, out, work=work, force=True)
    assert {path.read_text() for path in mine} == {"mine\n"}


@pytest.mark.parametrize(("work", "out"), [("x", "x"), ("x/work", "x"), ("x", "x/out"), ("link", "x")])
def test_a_work_folder_and_the_output_do_not_contain_each_other(repos, tmp_path, work, out):
    (tmp_path / "link").symlink_to("x")
    engine = Here()
    with pytest.raises(OutputError, match="are one folder, or one contains the other"):
        built(repos, tmp_path / out, work=tmp_path / work, engine=engine)
    assert not engine.asked
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_another_embedding_model_in_the_same_folder_is_used(repo_maker, tmp_path):
    pytest.importorskip("model2vec")
    model = tmp_path / "model"
    recipe = Recipe.load("natural", (*SMALL, f"dedup.embedding={model}"))
    texts = {path: f"{text}kept\n" for path, text in unlike(6, 1).items()}
    similar = texts | {f"again/{path}": f"{text}more\n" for path, text in texts.items()}
    two = {"similar": repo_maker(similar), "other": repo_maker(numbered(9))}
    for word, dropped in (("lost", 0), ("kept", 6)):
        embedding_model(model, {word: (1.0, 0.0)})
        dataset = built(two, tmp_path / "out", recipe, work=tmp_path / "work")
        assert contents(dataset) == contents(built(two, tmp_path / word, recipe))
        assert dataset.steps[2]["dropped"].get("near_meaning", 0) == dropped


def test_another_version_of_pyarrow_makes_shards_again(repos, tmp_path, monkeypatch):
    pytest.importorskip("pyarrow")
    two = {name: repos[name] for name in ("copier", "fork")}
    recipe = Recipe.load("natural", (*SMALL, "write.format=parquet"))
    built(two, tmp_path / "out", recipe, work=tmp_path / "work")
    monkeypatch.setattr("git_starcoder.many.build.version", lambda _: "another")
    engine = Here()
    built(two, tmp_path / "out", recipe, engine, work=tmp_path / "work", force=True)
    assert (engine.asked["rows_part"], engine.asked["shard_part"]) == (0, 2)


@pytest.mark.parametrize("text", ["", "\n# nothing\n\n"])
def test_a_list_without_a_repository_is_an_error(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UsageError, match="names no repository"):
        read_list(tmp_path / "list.txt")


def test_only_line_feeds_end_the_lines_of_a_list(tmp_path):
    names = ["u\u2028v", "f\fv", "v\vw", "n\x85m"]
    (tmp_path / "list.txt").write_bytes("".join(f"{name}\tmain\r\n" for name in names).encode())
    found = read_list(tmp_path / "list.txt")
    assert [(each.path.name, each.revision) for each in found] == [(name, "main") for name in names]


def test_a_revision_of_any_length_costs_one_repository(repos, tmp_path):
    listed_sources = [*sources(repos), RepositorySource(repos["fork"], "a" * 300_000, "long")]
    dataset = build_many(listed_sources, NATURAL, tmp_path / "out", engine=Here())
    assert dataset.manifest["repositories"]["dropped"] == {"failed": 1}


def test_a_repository_that_fails_is_left_out_and_counted(repos, natural, repo_maker, tmp_path):
    broken = repo_maker({"a.py": "x = 1\n" * 30})
    for path in (broken / ".git" / "objects").rglob("*"):
        if path.is_file() and path.suffix != ".idx":
            path.unlink()
    more = {**repos, "none": tmp_path / "nowhere", "broken": broken}
    progress = Notes()
    dataset = built(more, tmp_path / "out", progress=progress)
    assert dataset.manifest["repositories"] == {"seen": 7, "kept": 5, "dropped": {"failed": 2}}
    assert sum("nowhere" in note for note in progress.notes) == 1
    assert {name: data for name, data in contents(dataset).items() if name.startswith("data/")} == {
        name: data for name, data in contents(natural).items() if name.startswith("data/")
    }
    with pytest.raises(RepositoryError, match="nowhere"):
        built({**repos, "none": tmp_path / "nowhere"}, tmp_path / "strict", strict=True)
    with pytest.raises(RepositoryError, match="none of 2"):
        built({"none": tmp_path / "nowhere", "broken": broken}, tmp_path / "empty")


def test_a_repository_that_was_repaired_is_read_again(repos, repo_maker, git, tmp_path):
    repo = repo_maker(numbered(9, 700))
    two = {"fork": repos["fork"], "repaired": repo}
    blob = git(repo, "rev-parse", f"HEAD:{min(numbered(9, 700))}").decode().strip()
    found = repo / ".git/objects" / blob[:2] / blob[2:]
    hidden = found.rename(tmp_path / blob)
    work, out = tmp_path / "work", tmp_path / "out"
    lacking = built(two, out, work=work)
    assert (lacking.manifest["faults"], lacking.steps[0]["dropped"]["missing"]) == (True, 1)
    engine = Here()
    made_at = {path: path.stat().st_mtime_ns for path in (work / "read").iterdir()}
    assert contents(built(two, out, work=work, engine=engine)) == contents(lacking)
    assert sum(path.stat().st_mtime_ns != time for path, time in made_at.items()) == 1
    assert engine.asked["rows_part"] == engine.asked["shard_part"] == 0  # nothing new was found
    hidden.rename(found)
    whole = built(two, out, work=work)
    assert "faults" not in whole.manifest
    assert contents(whole) == contents(built(two, tmp_path / "new"))


@pytest.mark.parametrize(
    ("module", "limit"), [(analyse, "PARSE_TIMEOUT_SECONDS"), (augment, "VARIATIONS_TIMEOUT_SECONDS")]
)
def test_what_took_too_long_is_tried_again(repo_maker, tmp_path, monkeypatch, module, limit):
    two = {"one": repo_maker(numbered(5)), "other": repo_maker(numbered(5, 500))}
    recipe = Recipe.load("effectiveness", SMALL)
    work, out = tmp_path / "work", tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(module, limit, 0.0)
        slow = built(two, out, recipe, work=work)
    again = built(two, out, recipe, work=work)
    assert contents(again) == contents(built(two, tmp_path / "new", recipe))
    assert again.digest != slow.digest


class Unlucky(Here):
    """An engine whose worker dies in one part of the first repository."""

    def __init__(self, part):
        super().__init__()
        self.part = part

    def map(self, function, given, *, limit):
        for number, result in enumerate(super().map(function, given, limit=limit)):
            yield Failure("crash", "worker ended with -11") if function.__name__ == self.part and not number else result


@pytest.mark.parametrize("part", ["read_part", "rows_part"])
def test_a_crash_costs_one_repository(repos, part, tmp_path):
    dataset = built(repos, tmp_path / "out", engine=Unlucky(part))
    assert dataset.manifest["repositories"]["dropped"] == {"failed": 1}
    assert not [outcome.check for outcome in check(dataset) if outcome.finding_count]
    assert built(repos, tmp_path / "out").manifest["repositories"]["dropped"] == {}


def test_licences_decide_which_repositories_are_used(repos, tmp_path):
    recipe = Recipe.load("natural", (*SMALL, "repos.licenses=[mit]"))
    dataset = built(repos, tmp_path / "out", recipe)
    lines = listed(dataset)
    assert {name: line["result"] for name, line in lines.items()} == {
        "copier": "license", "extract": "kept", "fork": "kept", "stranger": "license", "upstream": "kept",
    }  # fmt: skip
    assert (lines["copier"]["because"], lines["stranger"]["because"]) == ("no licence file", "licence GPL-3.0")
    assert {metadata["repository"] for metadata in all_metadata(dataset)} <= {"extract", "fork", "upstream"}


def weight_sums(dataset):
    sums = Counter()
    for metadata in dataset.row_metadata("train"):
        sums[metadata["repository"]] += metadata["weight"]
    return sums


def test_repositories_count_equally_or_by_temperature(repos, tmp_path):
    two = {name: repos[name] for name in ("copier", "fork")}
    rows = Counter(metadata["repository"] for metadata in built(two, tmp_path / "size").row_metadata("train"))
    equal = built(two, tmp_path / "equal", Recipe.load("natural", (*SMALL, "repos.weights=equal")))
    sums = weight_sums(equal)
    assert sums["copier"] == pytest.approx(sums["fork"], rel=0.01)
    recipe = Recipe.load("natural", (*SMALL, "repos.weights=temperature", "repos.temperature=2"))
    soft = built(two, tmp_path / "soft", recipe)
    sums = weight_sums(soft)
    assert sums["copier"] / sums["fork"] == pytest.approx((rows["copier"] / rows["fork"]) ** 0.5, rel=0.01)
    for dataset in (equal, soft):
        assert not [outcome.check for outcome in check(dataset) if outcome.finding_count]
        explained = show(dataset, "train:0")
        assert explained.weight_factors["repository"] != 1
        assert math.prod(explained.weight_factors.values()) == pytest.approx(explained.row.metadata["weight"], abs=1e-4)
        assert "change factor × factor of the repository" in report(dataset)
    lines = (equal.folder / "repositories.jsonl").read_text()
    spoiled = shutil.copytree(equal.folder, tmp_path / "spoiled")
    for value in ("1", '"x","was":'):
        (spoiled / "repositories.jsonl").write_text(lines.replace('"weight":', f'"weight":{value}'))
        assert "weights" in {outcome.check for outcome in check(Dataset.open(spoiled)) if outcome.finding_count}


def test_parquet_has_the_columns_of_the_stack(repos, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    two = {name: repos[name] for name in ("copier", "fork")}
    dataset = built(two, tmp_path / "out", Recipe.load("natural", (*SMALL, "write.format=parquet")))
    table = pq.read_table(dataset.folder / "data" / "train" / "fork-00000-of-00001.parquet").to_pylist()
    first = table[0]
    assert (first["repo_name"], first["detected_licenses"], first["license_type"]) == ("fork", ["MIT"], "permissive")
    assert first["repository"] == "fork"
    assert not [outcome.check for outcome in check(dataset) if outcome.finding_count]


def test_parquet_of_repositories_with_and_without_changes_has_one_set_of_columns(repos, repo_maker, tmp_path):
    datasets = pytest.importorskip("datasets")
    old, text = next(iter(unlike(1, 5).items()))
    text = text[:640]
    moved = repo_maker([numbered(9, 300) | {old: text}, {old: None, "moved.txt": f"{text}one more line\n"}])
    long = {f"{seed}.txt": "".join(unlike(12, seed).values()) for seed in range(6, 12)}  # too long for a change
    copied = repo_maker({"copy.txt": long["6.txt"]})
    paths = {"copied": copied, "moved": moved, "plain": repo_maker(long), "up": repos["upstream"]}
    settings = ("window.size=2048", "window.vocab_size=600", "read.changes=500", "write.format=parquet")
    recipe = Recipe.load("elite", (*settings, "augment.git_diff=1.0", "dedup.near=null"))
    given = [RepositorySource(path, name=name) for name, path in paths.items()]
    dataset = build_many(given, recipe, tmp_path / "out", engine=Here())
    assert listed(dataset)["copied"]["tokens"] == 0
    loaded = datasets.load_dataset(str(dataset.folder), cache_dir=str(tmp_path / "cache"))
    rows = list(loaded["train"])
    assert len(rows) == dataset.metadata["train_sequences"]
    assert {row["is_evolution"] for row in rows if row["repository"] == "plain"} == {None}
    assert {row["old_file"] for row in rows if row["source_file"] == "moved/moved.txt"} == {None, f"moved/{old}"}


def test_names_that_are_taken_get_the_commit(repos, repo_maker, git, tmp_path):
    other = named(repo_maker(numbered(9, 9000)), "Fork", git)
    dataset = built({"a": repos["fork"], "b": other, "c": repos["fork"]}, tmp_path / "out")
    commits = [git(repo, "rev-parse", "HEAD").decode()[:8] for repo in (repos["fork"], other)]
    assert {name for name, line in listed(dataset).items() if line["result"] == "kept"} == {
        f"fork@{commits[0]}", f"Fork@{commits[1]}",
    }  # fmt: skip
    assert dataset.manifest["repositories"]["dropped"] == {"repeated": 1}


def test_paths_that_are_no_text_are_kept(repo_maker, git, tmp_path):
    odd = {
        os.fsencode(f"odd\udcff{number}\\xe9.py"): text.encode() for number, text in enumerate(code_base(9).values())
    }
    two = {"odd": named(repo_maker(odd), "odd", git), "plain": named(repo_maker(numbered(9, 500)), "plain", git)}
    dataset = built(two, tmp_path / "out", HISTORY)
    paths = {metadata["source_file"] for metadata in all_metadata(dataset) if metadata["repository"] == "odd"}
    assert "odd/odd\\xff1\\x5cxe9.py" in paths
    assert not [outcome.check for outcome in check(dataset) if outcome.finding_count]


def test_report_and_show_read_many(natural):
    page = report(natural, [])
    drawn = re.search(r"([\w/.-]+), (data/train/[\w.-]+jsonl):(\d+)", page)
    line = (natural.folder / drawn[2]).read_text().splitlines()[int(drawn[3]) - 1]
    assert json.loads(line)["metadata"]["source_file"] == drawn[1]
    path = next(natural.row_metadata("train"))["source_file"]
    assert path in str(show(natural, path))
