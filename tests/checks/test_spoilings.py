"""Every check is shown to fail, on a dataset that was spoiled for it; and one made the seeds' way is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from git_starcoder.checks import SEED_SUITES, check, check_names
from git_starcoder.checks.seed_suites import answering_checks
from git_starcoder.dataset import Dataset
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.protocols import Failure
from git_starcoder.recipe import Recipe
from spoilings import ELITE, SPLITS, SPOILINGS, Folder
from toy import evolving


@pytest.fixture(scope="module")
def repo(repo_maker):
    return Repo.open(repo_maker(evolving(40, 12)))


@pytest.fixture(scope="module")
def good(repo, tmp_path_factory):
    with LocalEngine(2) as engine:
        return build(repo, Recipe.load("elite", ELITE), tmp_path_factory.mktemp("good") / "out", engine=engine).folder


@pytest.fixture
def folder(good, tmp_path):
    """A copy to spoil."""
    return Folder(shutil.copytree(good, tmp_path / "spoiled"))


def found(folder, source=None):
    return {each.check: each.findings for each in check(Dataset.open(folder.path), source) if each.finding_count}


def test_the_good_dataset_is_good_and_an_unspoiled_rewriting_of_it_too(folder, repo):
    outcomes = list(check(Dataset.open(folder.path), repo))
    assert [(each.check, each.findings or each.figure) for each in outcomes if each.finding_count or each.skipped] == []
    for split in SPLITS:
        folder.write(folder.rows(split), split)
    folder.sign()
    assert found(folder) == {}


def test_every_check_has_a_spoiling():
    assert {each.check for each in SPOILINGS} == set(check_names())


@pytest.mark.parametrize("spoiling", SPOILINGS, ids=[f"{each.check}: {each.what}" for each in SPOILINGS])
def test_this_check_finds_it_and_no_unrelated_one(folder, repo, spoiling):
    spoiling.spoil(folder)
    if spoiling.signed:
        folder.sign()
    told = found(folder, repo if spoiling.source else None)
    assert told.keys() == {spoiling.check, *spoiling.also}, told
    assert all(finding.where and finding.what for findings in told.values() for finding in findings)


def test_workers_verify_variations_as_this_process_does(folder, repo):
    next(each for each in SPOILINGS if "token of a variation" in each.what).spoil(folder)
    folder.sign()
    dataset = Dataset.open(folder.path)
    with LocalEngine(1) as engine:
        told = {each.check: (each.figure, each.findings) for each in check(dataset, repo, engine=engine)}
    assert told == {each.check: (each.figure, each.findings) for each in check(dataset, repo)}
    figure, (finding,) = told["source"]
    assert int(figure.rpartition(", ")[2].partition(" of ")[0]) > 5
    assert "of its file: " in finding.what


class Dead:
    """An engine whose workers die."""

    jobs = 1

    def map(self, function, tasks, *, limit):  # noqa: ARG002
        return (Failure("crash", function.__name__) for _ in tasks)


def test_what_workers_fail_at_is_done_here(good):
    dataset = Dataset.open(good)
    told = [{each.check: (each.figure, each.certificate) for each in check(dataset, None, engine=engine)}
            for engine in (None, Dead())]  # fmt: skip
    assert told[0] == told[1]
    assert {"near_duplicates", "overlap"} <= told[0].keys()


def test_the_documentation_has_the_table():
    """`python benchmarks/checks.py > docs/checks.md` brings it up to date."""
    script = Path(__file__).parents[2] / "benchmarks" / "checks.py"
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert (script.parents[1] / "docs" / "checks.md").read_text() == told


@pytest.mark.parametrize("recipe", SEED_SUITES)
def test_the_tests_of_the_seeds_are_answered_for(recipe):
    names = SEED_SUITES[recipe]
    assert len(set(names)) == len(names) == {"effectiveness": 17, "elite": 24}[recipe]
    answered = answering_checks()
    assert set(names) <= answered.keys()
    assert answered.keys() <= {name for names in SEED_SUITES.values() for name in names}
    assert all(answered.values())
    assert {check for checks in answered.values() for check in checks} <= set(check_names())


def test_a_dataset_made_the_seeds_way_is_refused(folder):
    """Windows first, copies for weight (0.3 rounded up to 1), then shuffled and parted at random."""
    random = Random(0)
    rows = [row for split in SPLITS for row in folder.rows(split)]
    for row in rows:
        row["metadata"]["weight"] = max(1, round(row["metadata"]["weight"]))
    rows = [row | {"metadata": dict(row["metadata"])} for row in rows for _ in range(row["metadata"]["weight"])]
    random.shuffle(rows)
    edges = [0, int(0.85 * len(rows)), int(0.95 * len(rows)), len(rows)]
    for split, start, stop in zip(SPLITS, edges, edges[1:], strict=False):
        folder.write(rows[start:stop], split)
    folder.recount()
    folder.sign()
    told = found(folder)
    assert {"duplicates", "leak", "overlap", "weights", "curriculum"} <= told.keys()
    assert {"rows", "digests", "counts", "lengths", "split_ratio"}.isdisjoint(told)  # which the seeds got right
    reasons = Counter(finding.what.split()[0] for finding in told["leak"])
    assert reasons.keys() >= {"file", "row"}
