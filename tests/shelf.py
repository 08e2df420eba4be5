"""A toy base, made as `make base` makes one, and a package that has it among its bases."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from checkout import ROOT
from git_starcoder import registry
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe

if TYPE_CHECKING:
    import pytest

    from git_starcoder.bases import Base
    from git_starcoder.dataset import Dataset

OVERRIDES = ("window.size=128", "window.vocab_size=600")
SIZE = "0.2M"


class Made(NamedTuple):
    """A base, and what it was made from."""

    base: Base
    dataset: Dataset
    model: Path
    repo: Path
    work: Path


def script(name: str):
    """A script of `benchmarks/` as a module."""
    folder = str(ROOT / "benchmarks")
    if folder not in sys.path:
        sys.path.append(folder)
    return import_module(name)


def make(folder: Path, repo: Path, commit: str, name: str = "toy", steps: int = 4) -> Made:
    """Train a base of a size that takes seconds, and export it to `folder/name`."""
    make_base = script("make_base")
    home, work = folder / name, folder / "work"
    home.mkdir(parents=True)
    (home / "sources.txt").write_text(f"# a comment\n\n{repo}\t{commit}\tMIT\torigin\n")
    make_base.fetch(home, work, None)
    dataset = build(repo, Recipe.load("natural", OVERRIDES), work / "dataset")
    config = TrainConfig(size=SIZE, steps=steps, device="cpu", precision="float32")
    train(dataset, work / "model", config)
    base = make_base.export(home, work, work / "model", dataset, None)
    return Made(base, dataset, work / "model", repo, work)


def put(monkeypatch: pytest.MonkeyPatch, place: Path, *folders: Path) -> None:
    """Let the package have these bases and no others; `place` is an empty folder for it."""
    package = Path(str(files("git_starcoder")))
    for entry in package.iterdir():
        if entry.name != "bases":
            (place / entry.name).symlink_to(entry)
    (place / "bases").mkdir()
    for folder in folders:
        shutil.copytree(folder, place / "bases" / folder.name)
    monkeypatch.setattr(registry, "files", lambda _: place)


def run_script(path: Path, *arguments: object) -> str:
    """The output of a script."""
    command = [sys.executable, str(path), *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
