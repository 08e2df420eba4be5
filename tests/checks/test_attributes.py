"""Checks go by what a repository says of its own files, with the repository at hand and without."""

from __future__ import annotations

import json

from git_starcoder.cli import main
from toy import code_base

ASKED = (
    "--set", "window.size=[128,512]", "--set", "window.vocab_size=600", "--set", "read.changes=100",
    "--set", "augment.git_diff=1.0",
)  # fmt: skip


def test_roles_that_attributes_gave_are_no_finding(repo_maker, tmp_path, capsys):
    files = code_base(30)
    python = sorted(path for path in files if path.endswith(".py"))
    shown, own, made = python[:3]
    moved = {f"vendor/{own}": files.pop(own), **files}
    attributes = f"{shown} linguist-documentation\nvendor/** -linguist-vendored\n{made} linguist-generated\n"
    edited = {path: moved[path] + "\n\ndef more(it):\n    return [it]\n" for path in (shown, f"vendor/{own}", made)}
    path = repo_maker([{**moved, ".gitattributes": attributes}, edited])
    out = tmp_path / "out"
    assert main(["build", str(path), "-o", str(out), "-j", "1", "-q", *ASKED]) == 0
    for more in ([], ["--repo", str(path)]):
        capsys.readouterr()
        assert main(["check", str(out), *more, "--json"]) == 0, capsys.readouterr().out
    capsys.readouterr()
    lines = (out / "training_data_train.jsonl").read_text().splitlines()
    abouts = [json.loads(line)["metadata"] for line in lines]
    roles = {about["source_file"]: about["role"] for about in abouts}
    assert roles.get(shown, "docs") == "docs"
    assert roles.get(f"vendor/{own}", "core") not in {"vendored", "docs"}
    assert made not in roles
    assert main(["show", str(out), made]) == 0
    assert "analyse: generated (linguist-generated in .gitattributes)" in capsys.readouterr().out
