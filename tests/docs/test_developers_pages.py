"""What the pages for developers say of the code is what the code is."""

from __future__ import annotations

import inspect
import re
import tomllib
from importlib import import_module

import pytest

from checkout import ROOT
from git_starcoder import cli, registry
from git_starcoder.checks import Check

DATA = {"languages", "recipes"}
"""Folders of the package that hold no code."""


def contracts():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]


def layers():
    (contract,) = (one for one in contracts() if one["type"] == "layers")
    return [[name.strip().removeprefix("git_starcoder.") for name in layer.split("|")] for layer in contract["layers"]]


def modules():
    entries = [entry for entry in (ROOT / "src/git_starcoder").iterdir() if not entry.name.startswith("__")]
    return {entry.stem for entry in entries if entry.is_dir() or entry.suffix == ".py"} - DATA


def test_the_layers_of_the_architecture_are_those_that_are_checked():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    (told,) = re.findall(r"may import the layers to its right: `([^`]+)`", page)
    assert [[name.strip() for name in layer.split("|")] for layer in told.split("→")] == layers()


def test_every_module_has_a_layer():
    assert sorted(name for layer in layers() for name in layer) == sorted(modules())


def test_torch_is_forbidden_to_all_but_the_model():
    (contract,) = (one for one in contracts() if one["type"] == "forbidden")
    assert {name.removeprefix("git_starcoder.") for name in contract["source_modules"]} == modules() - {"model"}


def rows_of_contributing():
    """What a contributor adds → (its folder, the names that it must have)."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found = re.findall(
        r"^\| an? (\w+) \| `(\w+)/NAME\.py` with ([^|]+?)(?:, and a test[^|]*|, and its[^|]*)? \|$", text, re.MULTILINE
    )
    return {what: (folder, names) for what, folder, names in found}


@pytest.mark.parametrize("what", ["augmentation", "command"])
def test_what_a_contributor_is_told_to_write_is_what_every_other_one_has(what):
    folder, names = rows_of_contributing()[what]
    keys = cli.COMMANDS if folder == "cli" else registry.names(folder)
    for key in keys:
        module = import_module(f"git_starcoder.{folder}.{key}")
        for choice in re.findall(r"`\w+`(?: or `\w+`)*", names):
            assert any(hasattr(module, name) for name in re.findall(r"\w+", choice.replace(" or ", " "))), (key, choice)


def test_an_eval_is_a_function_with_the_decorator_that_a_contributor_is_told_to_write():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    ((decorator, folder),) = re.findall(
        r"^\| an eval \| a function with `@(\w+)\(\"NAME\"\)` in a module of `(\w+)/` \|$", text, re.MULTILINE
    )
    package = import_module(f"git_starcoder.{folder}")
    assert callable(getattr(package, decorator))
    for key, function in package.load_evals().items():
        assert f'@{decorator}("{key}")\ndef {function.__name__}(' in inspect.getsource(
            import_module(function.__module__)
        )


def test_what_a_check_beside_may_ask_for_is_said_alike():
    page = " ".join((ROOT / "docs/architecture.md").read_text(encoding="utf-8").split())
    told = " ".join((Check.__doc__ or "").split())
    promise = "may ask for tokens, texts, files and workers, but not for the repository"
    assert promise in page
    assert promise in told
