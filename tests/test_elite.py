"""The elite recipe on a repository with a history, and builds that know what earlier ones worked out."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest

from git_starcoder.checks import check
from git_starcoder.engine import cache as module
from git_starcoder.engine.cache import SqliteCache
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.protocols import Failure
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS
from git_starcoder.stages.analyse import extract_facts
from toy import embedding_model, evolving

LIMIT = 1 << 30
CHANGES = (
    "window.vocab_size=800", "window.size=[64, 128, 256]", "augment.ast_based=0.4", "augment.cross_file_context=1",
)  # fmt: skip
RECIPE = Recipe.load("elite", CHANGES)
TECHNIQUES = {
    "base", "ast_based", "error_patterns", "type_annotations", "cross_file_context", "temporal_context", "git_diff",
}  # fmt: skip


@pytest.fixture(scope="module")
def repo(repo_maker):
    commits = evolving(70, 24)
    path = next(
        path for path in sorted(commits[0]) if path.endswith(".go") and not any(path in one for one in commits[1:])
    )
    return repo_maker([*commits, {path: f"{commits[0][path]}// The last word.\n"}])


@pytest.fixture(scope="module")
def engine():
    with LocalEngine(2) as engine:
        yield engine


@pytest.fixture(scope="module")
def fresh(repo, engine, tmp_path_factory):
    """A build without a cache."""
    return build(repo, RECIPE, tmp_path_factory.mktemp("fresh") / "out", engine=engine)


def rows(dataset, split="train"):
    return [row.metadata for row in dataset.rows(split)]


def files_of(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def test_every_technique_and_size_is_there(fresh):
    found = [row for split in SPLITS for row in rows(fresh, split)]
    assert {row["augmentation_type"] for row in found} == TECHNIQUES
    assert {row["window_size"] for row in found} == {64, 128, 256}
    assert {row.get("kind") for row in found if row["augmentation_type"] == "git_diff"} >= {"hunk", "file"}
    said = fresh.metadata
    assert said["git_diffs"] == sum(row["augmentation_type"] == "git_diff" for row in found) > 20
    assert said["git_commits_analyzed"] == 26
    assert said["elite_version"]
    assert (
        said["weighting_strategy"] | {"core": 3.0, "recent_boost": 1.5, "evolution_boost": 1.3}
        == said["weighting_strategy"]
    )
    assert said["context_windows"] == [64, 128, 256]


def test_diffs_say_where_they_come_from(fresh, git, repo):
    commits = set(git(repo, "rev-list", "HEAD").decode().split())
    diffs = [row for row in rows(fresh) if row["augmentation_type"] == "git_diff"]
    for row in diffs:
        assert row["is_evolution"] is True
        assert row["commit"] in commits
        assert row["commit_message"].startswith("commit ")
        assert 0 < row["context"] < row["length"]
    others = [row for row in rows(fresh) if row["augmentation_type"] != "git_diff"]
    assert not any("is_evolution" in row or "commit_message" in row for row in others)


def test_the_changes_of_a_file_are_in_its_split(fresh):
    split_of = {}
    for split in SPLITS:
        for row in rows(fresh, split):
            if row["augmentation_type"] == "base":
                split_of[row["source_file"]] = split
    diffs = [(split, row) for split in SPLITS for row in rows(fresh, split) if row["augmentation_type"] == "git_diff"]
    told = [(split, split_of[row["source_file"]]) for split, row in diffs if row["source_file"] in split_of]
    assert len(told) > 20
    assert all(mine == its for mine, its in told)
    assert {mine for mine, _ in told} > {"train"}


def test_the_top_of_the_file_is_mixed(fresh):
    first = rows(fresh)[:100]
    assert len({row["window_size"] for row in first}) > 1
    assert len({row["augmentation_type"] for row in rows(fresh)[:1000]}) >= 6


def test_every_check_passes(repo, fresh):
    outcomes = list(check(fresh, Repo.open(repo)))
    assert not [(outcome.check, outcome.findings) for outcome in outcomes if outcome.finding_count]
    assert not [outcome.check for outcome in outcomes if outcome.skipped]


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_number_of_jobs_does_not_matter(repo, fresh, tmp_path, jobs):
    with LocalEngine(jobs) as engine:
        assert build(repo, RECIPE, tmp_path / "out", engine=engine).digest == fresh.digest


def test_after_a_commit_only_what_it_touched_is_done_again(repo, engine, fresh, tmp_path):
    with SqliteCache(tmp_path / "cache", LIMIT) as cache:
        build(Repo.open(repo, "HEAD~1"), RECIPE, tmp_path / "out", engine=engine, cache=cache)
        assert cache.hits == 0
        before = cache.misses
    with SqliteCache(tmp_path / "cache", LIMIT) as cache:
        dataset = build(repo, RECIPE, tmp_path / "out", engine=engine, cache=cache)
        assert 0 < cache.misses < before / 5
    assert files_of(dataset.folder) == files_of(fresh.folder)


def warm(repo, engine, folder):
    with SqliteCache(folder / "cache", LIMIT) as cache:
        build(repo, RECIPE, folder / "first", engine=engine, cache=cache)
    return folder / "cache" / module.DATABASE_NAME


def again(repo, engine, folder, limit=LIMIT):
    """The digest of another build with the same cache, how much it found there, and how much it did not."""
    with SqliteCache(folder / "cache", limit) as cache:
        dataset = build(repo, RECIPE, folder / "again", engine=engine, cache=cache, force=True)
        return dataset.digest, cache.hits, cache.misses


def test_a_second_build_finds_everything(repo, engine, fresh, tmp_path):
    warm(repo, engine, tmp_path)
    digest, hits, misses = again(repo, engine, tmp_path)
    assert (digest, misses) == (fresh.digest, 0)
    assert hits > 100


class Unparsed:
    """An engine with parsers that take too long."""

    def __init__(self, engine):
        self.jobs, self._engine = engine.jobs, engine

    def map(self, function, tasks, *, limit):
        if function is extract_facts:
            return (Failure("timeout", "took too long") for _ in tasks)
        return self._engine.map(function, tasks, limit=limit)


def test_failures_of_parsers_leave_nothing_in_the_cache(repo, engine, tmp_path):
    recipe = Recipe.load("natural", ("window.vocab_size=800", "window.size=64", "window.overlap=0.5"))
    plain = build(repo, recipe, tmp_path / "plain", engine=engine).digest
    with SqliteCache(tmp_path / "cache", LIMIT) as cache:
        assert build(repo, recipe, tmp_path / "a", engine=Unparsed(engine), cache=cache).digest != plain
        assert build(repo, recipe, tmp_path / "b", engine=engine, cache=cache).digest == plain


def test_damaged_entries_are_not_believed(repo, engine, fresh, tmp_path):
    path = warm(repo, engine, tmp_path)
    with sqlite3.connect(path) as connection:
        values = connection.execute("SELECT rowid, value FROM entries").fetchall()
        for rowid, value in values[::3]:
            spoiled = value[:-1] + bytes([value[-1] ^ 1])
            connection.execute("UPDATE entries SET value = ? WHERE rowid = ?", (spoiled, rowid))
        for rowid, value in values[1::3]:
            connection.execute("UPDATE entries SET value = ? WHERE rowid = ?", (value[: len(value) // 2], rowid))
    connection.close()
    digest, hits, misses = again(repo, engine, tmp_path)
    assert digest == fresh.digest
    assert hits > 0 < misses
    assert again(repo, engine, tmp_path)[2] == 0  # they were written anew


@pytest.mark.parametrize("damage", ["another file", "cut", "torn", "empty"])
def test_a_damaged_file_is_made_anew(repo, engine, fresh, tmp_path, damage):
    path = warm(repo, engine, tmp_path)
    data = path.read_bytes()
    torn = data[:4096] + b"\xff" * 8192 + data[12288:]
    path.write_bytes(
        {"another file": b"not a database" * 1000, "cut": data[: len(data) // 2], "torn": torn, "empty": b""}[damage]
    )
    assert again(repo, engine, tmp_path)[0] == fresh.digest
    again(repo, engine, tmp_path)
    digest, _, misses = again(repo, engine, tmp_path)
    assert (digest, misses) == (fresh.digest, 0)


def test_a_cache_that_cannot_be_is_none(repo, engine, fresh, tmp_path):
    (tmp_path / "cache").write_text("a file is in the way")
    digest, hits, _ = again(repo, engine, tmp_path)
    assert (digest, hits) == (fresh.digest, 0)


def test_a_full_disk_costs_the_cache_and_not_the_build(repo, engine, fresh, tmp_path, monkeypatch):
    opened = SqliteCache._connect

    def small(self):
        connection = opened(self)
        connection.execute("PRAGMA max_page_count = 32")  # "database or disk is full", as SQLite says of a full disk
        return connection

    monkeypatch.setattr(SqliteCache, "_connect", small)
    assert again(repo, engine, tmp_path)[0] == fresh.digest
    monkeypatch.undo()
    assert again(repo, engine, tmp_path)[0] == fresh.digest


def test_it_stays_within_its_limit_and_keeps_what_was_used_last(repo, engine, fresh, tmp_path, monkeypatch):
    path = warm(repo, engine, tmp_path)
    whole = path.stat().st_size
    monkeypatch.setattr(module.time, "time", lambda: 2e9)
    assert again(repo, engine, tmp_path, limit=whole // 2)[0] == fresh.digest
    assert path.stat().st_size <= whole * 0.6
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM entries").fetchone()[0] > 0
    connection.close()


def test_two_builds_at_once_share_a_cache(repo, fresh, tmp_path):
    code = f"""
import sys
from pathlib import Path
from git_starcoder.pipeline import build
from git_starcoder.protocols import Failure
from git_starcoder.engine.cache import SqliteCache
from git_starcoder.recipe import Recipe
with SqliteCache(Path({str(tmp_path / "cache")!r}), {LIMIT}) as cache:
    print(build({str(repo)!r}, Recipe.load("elite", {CHANGES!r}), Path(sys.argv[1]), cache=cache).digest)
"""
    builds = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name)], stdout=subprocess.PIPE, text=True)
              for name in "ab"]  # fmt: skip
    assert [process.communicate()[0].strip() for process in builds] == [fresh.digest] * 2


def test_a_missing_blob_of_the_history_costs_its_changes_and_nothing_else(repo_maker, git, engine, tmp_path):
    repo = repo_maker(evolving(30, 8))
    path = git(repo, "diff", "--name-only", "--diff-filter=M", "HEAD~5", "HEAD~4").decode().split()[0]
    blob = git(repo, "rev-parse", f"HEAD~4:{path}").decode().strip()
    for pack in (repo / ".git/objects/pack").glob("*.pack"):
        data = pack.read_bytes()
        pack.with_suffix(".idx").unlink()
        pack.unlink()
        git(repo, "unpack-objects", "-q", stdin=data)
    (repo / ".git/objects" / blob[:2] / blob[2:]).unlink()
    dataset = build(repo, RECIPE, tmp_path / "out", engine=engine)
    read = dataset.manifest["steps"][0]
    assert read["dropped"]["missing"] in {1, 2}
    assert Counter(row["augmentation_type"] for row in rows(dataset))["git_diff"] > 0


def test_an_embedding_model_drops_files_and_is_in_the_fingerprint(repo, engine, fresh, tmp_path):
    def built(vectors):
        model = embedding_model(tmp_path / "model", vectors)
        options = (*CHANGES, f"dedup.embedding={model}", "dedup.embedded=0.999", "split.near=0.2")
        return build(repo, Recipe.load("elite", options), tmp_path / "out", engine=engine)

    dataset = built({"return": (1.0, 0.0), "total": (0.0, 1.0)})
    dropped = dataset.manifest["steps"][2]["dropped"]
    assert dropped["near_meaning"] > 0
    drops = [json.loads(line) for line in (dataset.folder / "drops.jsonl").read_text().splitlines()]
    assert sum(drop["reason"] == "near_meaning" for drop in drops) == dropped["near_meaning"]
    assert dataset.manifest["fingerprint"] != fresh.manifest["fingerprint"]
    assert built({"return": (1.0, 0.0), "total": (0.0, 1.0)}).manifest == dataset.manifest
    other = built({"return": (1.0, 0.0), "total": (0.0, 0.9)})
    assert other.manifest["fingerprint"] != dataset.manifest["fingerprint"]
