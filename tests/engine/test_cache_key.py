"""The key of every answer in the cache: it changes with whatever the answers come from, and with nothing else."""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import version

import pytest

from checkout import ROOT
from git_starcoder import registry
from git_starcoder.engine import cache
from git_starcoder.parse import language

NEUTRAL = {"click", "orjson", "pyyaml", "rich"}
"""Libraries that no answer comes from: they read flags and recipes, and write what is shown and the rows."""
EXTRAS = ("embed",)
"""Extras that a build uses."""


names = registry.names


def key():
    return cache.code_digest.__wrapped__()


def test_it_is_the_same_again():
    assert key() == key()


@pytest.mark.parametrize("change", ["_binding.abi3.so", "__init__.py", "queries/more.py"])
def test_another_build_of_any_grammar_of_the_shelf_changes_it(monkeypatch, tmp_path, change):
    grammar = tmp_path / "toy_grammar"
    for name in ("_binding.abi3.so", "__init__.py", "queries/more.py"):
        (grammar / name).parent.mkdir(exist_ok=True)
        (grammar / name).write_text("raise SystemExit('a grammar is not loaded for this')")
    monkeypatch.syspath_prepend(tmp_path)
    real, without = language.language_table, key()
    monkeypatch.setattr(registry, "names", lambda name: [*names(name), "toy"] if name == "languages" else names(name))
    monkeypatch.setattr(
        cache, "language_table", lambda key: {"file": {"grammar": "toy_grammar"}} if key == "toy" else real(key)
    )
    before = key()
    (grammar / change).write_text("raise SystemExit('nor the new one')")
    assert len({without, before, key()}) == 3
    assert "toy_grammar" not in sys.modules


def test_every_grammar_of_the_shelf_has_files():
    for name in registry.names("languages"):
        files = dict(cache._grammar_files(language.language_table(name)["file"]["grammar"]))
        assert any(".so" in path or ".pyd" in path for path in files)


@pytest.mark.parametrize("library", cache.RESULT_LIBRARIES)
def test_another_version_of_a_library_changes_it(monkeypatch, library):
    before = key()
    monkeypatch.setattr(cache, "version", lambda name: "0.0.1" if name == library else version(name))
    assert key() != before


def test_another_python_changes_it(monkeypatch):
    before = key()
    monkeypatch.setattr(sys, "version", "4.0.0")
    assert key() != before


def test_every_library_of_a_build_is_counted_or_known_to_change_nothing():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    libraries = {re.split(r"[<>=~!\[; ]", one)[0].lower() for one in asked}
    grammars = {
        language.language_table(name)["file"]["grammar"].replace("_", "-") for name in registry.names("languages")
    }
    assert libraries - grammars == {*cache.RESULT_LIBRARIES, *NEUTRAL}
