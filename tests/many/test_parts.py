"""What a build of many repositories is made of: lists, names, samples, and how parts are stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from git_starcoder.errors import UsageError
from git_starcoder.many import storage
from git_starcoder.many.repositories import choose_repositories, read_list
from git_starcoder.many.tasks import Problem, RepositoryFacts, RepositorySource
from git_starcoder.recipe import RepositoryOptions
from git_starcoder.records import Change, Drop, Source, Span, Unit
from git_starcoder.stages.learn_tokenizer import choose_sample
from git_starcoder.weight_rules import repository_factor


def test_a_list_has_a_path_and_perhaps_a_revision_and_a_name(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("# ours\n\none\ntwo\tv1.0\nthree\t\tnamed\n/four\tmain\tother\n")
    assert read_list(path) == [
        RepositorySource(tmp_path / "one"),
        RepositorySource(tmp_path / "two", "v1.0"),
        RepositorySource(tmp_path / "three", "HEAD", "named"),
        RepositorySource(Path("/four"), "main", "other"),
    ]
    assert [source.revision for source in read_list(path, "v2")] == ["v2", "v1.0", "v2", "main"]


@pytest.mark.parametrize("line", ["a\tb\tc\td", "\tmain", "a\tmain\tx/y", "a\tmain\t.hidden"])
def test_a_line_that_is_no_repository_is_named(tmp_path, line):
    path = tmp_path / "list.txt"
    path.write_text(f"fine\n{line}\n")
    with pytest.raises(UsageError) as caught:
        read_list(path)
    assert caught.value.where == f"{path}:2"


def facts(name, commit, licences=(), shallow=()):
    return RepositoryFacts(Path(name), commit, name, licences, shallow)


def test_one_of_the_repositories_at_a_commit_is_used_and_the_complete_one_first():
    found = [facts("b", "1", shallow=("x",)), facts("c", "1"), facts("a", "2"), Problem("is not there")]
    sources = [RepositorySource(Path(name)) for name in "bca"] + [RepositorySource(Path("d"))]
    chosen, left_out = choose_repositories(sources, found, RepositoryOptions())
    assert [(each.name, each.facts.commit) for each in chosen] == [("a", "2"), ("c", "1")]
    assert [(each.name, each.reason) for each in left_out] == [("", "failed"), ("b", "repeated")]
    backwards = choose_repositories(sources[::-1], found[::-1], RepositoryOptions())
    assert backwards == (chosen, left_out)


def test_names_that_are_no_file_names_are_not_used():
    chosen, _ = choose_repositories([RepositorySource(Path("a"))], [facts("..", "1")], RepositoryOptions())
    assert [each.name for each in chosen] == ["repository"]


def test_the_sample_of_a_tokenizer_seldom_changes():
    names = [f"repository {number}" for number in range(127)]
    assert choose_sample(names[:15]) == set(names[:15])
    before = choose_sample(names[:64])
    assert 3 < len(before) < 20
    changes = sum(choose_sample(names[:count]) != choose_sample(names[: count + 1]) for count in range(64, 127))
    assert 0 < changes < 16
    assert choose_sample(names[:127]) >= before
    assert len(choose_sample(names[16:33])) >= 1


@pytest.mark.parametrize(
    ("kind", "temperature", "weight_sum", "factor"),
    [
        ("size", 2, 9, 1),
        ("equal", 2, 4000, 0.25),
        ("temperature", 2, 4000, 0.5),
        ("temperature", 1, 70, 1),
        ("equal", 2, 0, 1),
    ],
)
def test_the_factor_of_a_repository(kind, temperature, weight_sum, factor):
    assert repository_factor(kind, temperature, weight_sum) == pytest.approx(factor)


def test_arrays_come_back_as_they_were(tmp_path):
    arrays = {
        "numbers": np.arange(7, dtype=np.uint16),
        "none": np.empty((0, 3), dtype=np.uint64),
        "table": np.arange(12, dtype=np.float64).reshape(3, 4),
        "flags": np.array([True, False]),
    }
    storage.store_arrays(tmp_path / "arrays", arrays)
    found = storage.load_arrays(tmp_path / "arrays")
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_records_come_back_though_their_paths_are_no_text(tmp_path):
    path = "caf\udce9\\x41/a.py"
    source = Source("id", path, "blob", "commit", 5, (f"old/{path}",), "python", Span(0, 9))
    units = [Unit(source, "clean", "core", 0.5, imports=(path, "b.py"), split="val")]
    changes = [
        Change("id", path, "", path, "c", 1, 2, Span(0, 1), "", "b", "python", "core", 0.1, (), is_whole_file=True)
    ]
    drops = [Drop("read", path, "binary", f"like {path}")]
    values = storage.ReadRecords(
        storage.store_units(units), storage.store_changes(changes), [], storage.store_drops(drops)
    )
    storage.store(tmp_path / "records", values)
    found = storage.load(tmp_path / "records", storage.ReadRecords)
    assert storage.load_units(found.units) == units
    assert storage.load_changes(found.changes) == changes
    assert [drop.id for drop in storage.load_drops(found.drops)] == [path]


def test_a_folder_is_complete_or_not_there(tmp_path):
    folder = tmp_path / "read" / "key"
    with pytest.raises(ValueError, match="no luck"), storage.new_folder(folder) as partial:
        (partial / "half").write_text("")
        raise ValueError("no luck")
    assert not list(folder.parent.iterdir())
    with storage.new_folder(folder) as slow:
        (slow / "file").write_text("slow")
        with storage.new_folder(folder) as fast:
            (fast / "file").write_text("fast")
    assert [path.name for path in folder.parent.iterdir()] == ["key"]
    assert (folder / "file").read_text() == "fast"
