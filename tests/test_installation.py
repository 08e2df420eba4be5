"""The command that installs an extra names the place from which git-starcoder was installed."""

from __future__ import annotations

import json
from importlib import metadata
from types import SimpleNamespace

import pytest

from checkout import ROOT
from git_starcoder import installation
from git_starcoder.installation import install_command


@pytest.mark.parametrize(
    ("origin", "command"),
    [
        (None, "pip install 'git-starcoder[train]'"),
        ({"url": "file:///src/it%20is", "dir_info": {}}, "pip install '/src/it is[train]'"),
        ({"url": "file:///src", "dir_info": {"editable": True}}, "pip install -e '/src[train]'"),
        ({"url": "file:///a/git_starcoder-1.whl", "archive_info": {}}, "pip install '/a/git_starcoder-1.whl[train]'"),
        (
            {"url": "https://example.org/x", "vcs_info": {"vcs": "git", "commit_id": "12"}},
            "pip install 'git-starcoder[train] @ git+https://example.org/x'",
        ),
        ({"url": "https://example.org/x.whl"}, "pip install 'git-starcoder[train] @ https://example.org/x.whl'"),
        ([], "pip install 'git-starcoder[train]'"),
    ],
)
def test_an_extra_comes_from_where_the_package_came_from(origin, command, monkeypatch):
    text = None if origin is None else json.dumps(origin)
    found = SimpleNamespace(read_text=lambda name: text if name == "direct_url.json" else None)
    monkeypatch.setattr(installation.metadata, "distribution", lambda _: found)
    assert install_command("train") == command


def test_without_a_record_the_name_is_all_there_is(monkeypatch):
    def nothing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(installation.metadata, "distribution", nothing)
    assert install_command() == "pip install git-starcoder"


def test_no_page_sends_a_reader_to_a_package_index_for_this_project():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    assert [page.name for page in pages if "pip install 'git-starcoder" in page.read_text(encoding="utf-8")] == []
