"""Checks that go back to the repository read notebooks as builds do."""

from __future__ import annotations

import json
from random import Random

from git_starcoder.cli import main
from toy import code_base

ASKED = (
    "--set", "window.size=[128,512]", "--set", "window.vocab_size=600", "--set", "read.changes=100",
    "--set", "augment.git_diff=1.0",
)  # fmt: skip


def notebook(text: str, picture: str) -> str:
    outputs = [{"output_type": "display_data", "data": {"image/png": picture}}]
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": "About `" + text.partition("(")[0] + "`"},
        {"cell_type": "code", "metadata": {}, "outputs": outputs, "source": "%matplotlib inline\n" + text},
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_check_with_the_repository_finds_nothing(repo_maker, tmp_path, capsys):
    files = {path: text for path, text in code_base(40).items() if path.endswith(".py")}
    names = {path.replace(".py", ".ipynb"): text for path, text in files.items()}
    pictures = Random(0)
    first = {path: notebook(text, pictures.randbytes(100_000).hex()) for path, text in names.items()}
    some = sorted(names)[:12]
    more = "\n\ndef own_{0}(it):\n    return it + {0}\n"
    second = {
        path: notebook(names[path] + more.format(at), pictures.randbytes(9).hex()) for at, path in enumerate(some)
    }
    path = repo_maker([first, second])
    out = tmp_path / "out"
    assert main(["build", str(path), "-o", str(out), "-r", "effectiveness", "-q", *ASKED]) == 0
    capsys.readouterr()
    assert main(["check", str(out), "--repo", str(path), "--json"]) == 0, capsys.readouterr().out
    checks = {one["check"]: one for one in json.loads(capsys.readouterr().out)["checks"]}
    files, _, _, changes, *_ = checks["source"]["figure"].split()
    assert int(files) >= len(names) > 5 < int(changes)
    rows = b"".join((out / f"training_data_{split}.jsonl").read_bytes() for split in ("train", "val", "test"))
    assert b"git_diff" in rows
    assert b"variable_renaming" in rows
