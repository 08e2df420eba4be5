"""Analyse: every source becomes a unit or a drop, and a parser that dies costs only its own file."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest

from git_starcoder import recipe
from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.parse.language import detect_language
from git_starcoder.protocols import Failure
from git_starcoder.records import Source, content_id
from git_starcoder.stages import analyse

FILES = {
    "Cargo.toml": '[package]\nname = "x"\n',
    "src/lib.rs": "pub mod net;\nuse net::go;\npub fn top(a: u8) -> Option<u8> { let b = Some(a)?; b.checked_add(1) }\n",
    "src/net.rs": "pub fn go() {\n    if x {\n        y.unwrap();\n    }\n}\n",
    "src/broken.rs": "fn broken( {\n",
    "tool.py": "def run(a: int):\n    try:\n        return a\n    except E:\n        raise\n",
    "notes.md": "# Notes\n\nText.\n",
    "api.pb.go": "package api\n",
    "vendor/a/a.go": "package a\n",
}


class Inline:
    """An engine that runs tasks here, and fails where it is told to."""

    jobs = 1

    def __init__(self, poison=b"\0", failure=None):
        self.poison, self.failure, self.asked = poison, failure or Failure("crash", "signal 11"), []

    def map(self, function, tasks, *, limit):
        for task in tasks:
            assert limit > 0
            self.asked.append(len(task))
            yield self.failure if any(self.poison in data for _, data in task) else function(task)


class Notes:
    def __init__(self):
        self.told = []

    def note(self, text):
        self.told.append(text)

    def begin(self, *_): ...

    def advance(self, *_): ...

    def end(self, *_): ...


def made(run, files):
    sources = []
    for path, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        blob = content_id(data)
        key = detect_language(path, data)
        sources.append(Source(content_id(blob, path), path, blob, "", 0, (), key, run.texts.put(data)))
    return sources


def analysed(tmp_path, files, engine=None, watch=None, options=None):
    with BuildState(tmp_path, 0, engine or Inline(), watch or Notes()) as run:
        return run, analyse.analyse_sources(run, options or recipe.AnalyseOptions(), made(run, files))


def test_units_keep_the_order_and_drops_have_their_role(tmp_path):
    run, units = analysed(tmp_path, FILES)
    step = run.steps[0]
    assert [unit.source.path for unit in units] == [
        path for path in FILES if path not in {"api.pb.go", "vendor/a/a.go"}
    ]
    assert (step.seen, step.kept, dict(step.dropped)) == (8, 6, {"generated": 1, "vendored": 1})
    assert {(drop.id, drop.reason) for drop in run.drops} == {("api.pb.go", "generated"), ("vendor/a/a.go", "vendored")}


def test_a_unit_is_understood(tmp_path):
    run, units = analysed(tmp_path, FILES)
    found = {unit.source.path: unit for unit in units}
    library = found["src/lib.rs"]
    assert (library.parse_status, library.role, library.imports) == ("clean", "core", ("src/net.rs",))
    assert [(one.name, one.visibility, one.line) for one in library.symbols] == [("top", "public", 3)]
    assert library.error_patterns == 1
    assert library.type_density == pytest.approx(2 / 3, abs=1e-6)
    assert found["src/net.rs"].error_patterns == 1
    assert found["src/net.rs"].difficulty > library.difficulty
    assert found["src/broken.rs"].parse_status == "errors"
    assert found["tool.py"].error_patterns == 3
    assert (found["notes.md"].parse_status, found["notes.md"].role) == ("none", "docs")
    assert run.steps[0].figures == {
        "functions": 3,
        "imports_resolved": 2,
        "imports_unresolved": 0,
        "graph_edges": 1,
        "graph_nodes": 2,
        "trees_clean": 3,
        "trees_errors": 1,
        "trees_none": 2,
        "files_python": 1,
        "files_rust": 3,
        "files_text": 2,
        "role_configuration": 1,
        "role_core": 4,
        "role_docs": 1,
    }


def test_roles_are_kept_when_the_recipe_skips_none(tmp_path):
    run, units = analysed(tmp_path, FILES, options=recipe.AnalyseOptions(skip=()))
    assert len(units) == len(FILES)
    assert {unit.role for unit in units} >= {"generated", "vendored"}
    assert not run.drops


@pytest.mark.parametrize("kind", ["crash", "timeout", "error"])
def test_a_failure_costs_only_the_file_at_fault(tmp_path, kind):
    watch = Notes()
    engine = Inline(b"POISON", Failure(kind, "signal 11"))
    files = {**FILES, "src/bad.rs": "fn bad() {} // POISON\n"}
    run, units = analysed(tmp_path, files, engine, watch)
    found = {unit.source.path: unit for unit in units}
    assert found["src/bad.rs"].parse_status == "none"
    assert found["src/bad.rs"].difficulty > 0
    assert found["src/lib.rs"].parse_status == "clean"
    assert run.steps[0].figures[f"parser_{kind}"] == 1
    assert engine.asked == [5, 1, 1, 1, 1, 1]
    assert len(watch.told) == 1
    assert "src/bad.rs" in watch.told[0]
    assert kind in watch.told[0]


def test_a_repository_full_of_poison_ends(tmp_path):
    watch = Notes()
    engine = Inline(b"POISON")
    files = {f"src/f{number}.rs": f"// POISON {number}\n" for number in range(analyse.TASKS_PER_ROUND * 2 + 3)}
    run, units = analysed(tmp_path, files, engine, watch)
    assert {unit.parse_status for unit in units} == {"none"}
    assert len(engine.asked) == 1 + analyse.TASKS_PER_ROUND
    figures = run.steps[0].figures
    assert (figures["parser_crash"], figures["parser_given_up"]) == (
        analyse.TASKS_PER_ROUND,
        analyse.TASKS_PER_ROUND + 3,
    )
    assert len(watch.told) == analyse.MAX_FAILURE_NOTES + 1


def test_equal_texts_are_looked_at_once_and_all_count(tmp_path):
    with BuildState(tmp_path, 0, Inline()) as run:
        one, other = made(run, {"a.py": "x = 1\n", "b.py": "x = 1\n"})
        units = analyse.analyse_sources(run, recipe.AnalyseOptions(), [one, replace(other, text=one.text)])
        assert run.engine.asked == [1]
    assert len(units) == run.steps[0].kept == 2


def test_texts_that_met_a_limit_are_counted(tmp_path):
    run, units = analysed(tmp_path, {"deep.py": "(" * 20_000, "wide.py": "x = 1\n" * 100_000})
    assert [unit.parse_status for unit in units] == ["none", "none"]
    assert run.steps[0].figures["not_parsed_depth"] == 1
    assert run.steps[0].figures["not_parsed_size"] == 1


def test_nothing_in_nothing_out(tmp_path):
    run, units = analysed(tmp_path, {})
    assert units == []
    assert run.steps[0].seen == 0


def test_many_batches_are_as_good_as_one(tmp_path, monkeypatch):
    files = {f"m{number}.py": f"import m{number + 1}\ndef f{number}(): pass\n" for number in range(60)}
    _, whole = analysed(tmp_path / "a", files)
    monkeypatch.setattr(analyse, "PARSE_TASK_BYTES", 10)
    engine = Inline()
    _, parts = analysed(tmp_path / "b", files, engine)
    assert engine.asked == [1] * 60
    assert parts == whole


def test_the_number_of_jobs_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(analyse, "PARSE_TASK_BYTES", 200)
    files = {**FILES, **{f"m{number}.py": f"import m{number + 1}\n" * 9 for number in range(40)}}
    results = []
    for jobs in (1, 2):
        with LocalEngine(jobs) as engine:
            run, units = analysed(tmp_path / str(jobs), files, engine)
            results.append((units, run.steps[0].figures, run.drops))
    assert results[0] == results[1]


def die_over_poison(texts):
    """Runs in a worker in the place of `facts_of`."""
    if any(b"POISON" in data for _, data in texts):
        os.kill(os.getpid(), signal.SIGKILL)
    return analyse.extract_facts(texts)


def test_a_worker_that_dies_costs_only_the_file_at_fault(tmp_path):
    class Deadly(LocalEngine):
        def map(self, function, tasks, *, limit):
            return super().map(die_over_poison if function is analyse.extract_facts else function, tasks, limit=limit)

    with Deadly(1) as engine:
        run, units = analysed(tmp_path, {"a.py": "a = 1\n", "b.py": "# POISON\n", "c.py": "c = 1\n"}, engine)
    assert [unit.parse_status for unit in units] == ["clean", "none", "clean"]
    assert run.steps[0].figures["parser_crash"] == 1
