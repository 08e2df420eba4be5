"""A model that shows everything, and a repository that nobody here wrote: the source of click."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from git_starcoder.model.loading import SERVING_FILE, SERVING_SCHEMA
from git_starcoder.serve.engine import Engine
from serving import running
from shell import HUNG


@pytest.fixture(scope="session")
def click_tree(repo_maker):
    folder = Path(find_spec("click").origin).parent
    tree = repo_maker({f"click/{file.name}": file.read_bytes() for file in sorted(folder.glob("*.py"))})
    assert sum("from __future__ import annotations" in file.read_text() for file in (tree / "click").iterdir()) > 3
    return tree


@pytest.fixture(scope="session")
def sure_model(model_folder):
    folder = model_folder.parent / "sure"
    shutil.copytree(model_folder, folder)
    (folder / SERVING_FILE).write_text(json.dumps({"schema": SERVING_SCHEMA, "threshold": 0.0}))
    return folder


@pytest.fixture(scope="session")
def served(sure_model, click_tree):
    with Engine.open(sure_model, repository=click_tree) as engine:
        assert engine.follower.wait(HUNG)
        assert engine.threshold == 0
        with running(engine) as client:
            yield SimpleNamespace(url=client.url, engine=engine, model=sure_model, tree=click_tree)
