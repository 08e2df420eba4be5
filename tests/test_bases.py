"""Bases: what a shelf has, what a base folder says, and the filter of what it has read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import shelf
from checkout import ROOT
from git_starcoder import registry
from git_starcoder.bases import BASE_SCHEMA, BaseSource, default_base, find_base
from git_starcoder.bases.blobs import BlobFilter
from git_starcoder.cli import main
from git_starcoder.errors import DatasetError
from git_starcoder.model.loading import load_weights
from git_starcoder.text.tokenizer import load_tokenizer
from shell import environment
from toy import code_base

MAX_BASE_BYTES, MAX_FILTER_BYTES = 25 << 20, 1 << 20
ids = st.text("0123456789abcdef", min_size=40, max_size=40)


@pytest.fixture(scope="module")
def made(tmp_path_factory, repo_maker, git):
    repo = repo_maker(code_base(40))
    return shelf.make(tmp_path_factory.mktemp("base"), repo, git(repo, "rev-parse", "HEAD").decode().strip())


@given(st.lists(ids, max_size=50), st.lists(ids, max_size=50))
def test_a_filter_finds_all_that_was_read_and_hardly_more(read, others):
    found = BlobFilter.build(read)
    assert found.contains(read).all()
    expected = [blob[:8] in {each[:8] for each in read} for blob in others]
    assert found.contains(others).tolist() == expected
    assert found.false_positive_rate == len({blob[:8] for blob in read}) / 2**32


def test_a_filter_of_many_files_is_small_and_errs_as_seldom_as_it_says(tmp_path):
    random = np.random.default_rng(0)
    read, others = ([random.bytes(20).hex() for _ in range(count)] for count in (50_000, 400_000))
    found = BlobFilter.build(read)
    found.save(tmp_path / "blobs.npy")
    assert (tmp_path / "blobs.npy").stat().st_size * 200_000 / 50_000 <= MAX_FILTER_BYTES
    again = BlobFilter.load(tmp_path / "blobs.npy")
    assert np.array_equal(again.keys, found.keys)
    assert again.contains(read[::100]).all()
    mistakes = int(again.contains(others).sum())
    expected = len(others) * found.false_positive_rate
    assert 0 < expected < 6
    assert mistakes <= 20


def test_the_key_of_a_file_is_what_git_says(made, git):
    path = next(path for path in sorted(made.repo.rglob("*.py")))
    blob = git(made.repo, "hash-object", str(path)).decode().strip()
    keys = made.base.read_blobs().keys
    assert int(blob[:8], 16) in keys.tolist() or blob in held_out_of(made)
    assert {int(each[:8], 16) for each in read_of(made)} == set(keys.tolist())
    assert not made.base.read_blobs().contains(held_out_of(made)).any()


def read_of(made):
    return {row["blob"] for split in ("train", "val") for row in made.dataset.row_metadata(split)}


def held_out_of(made):
    return {row["blob"] for row in made.dataset.row_metadata("test")}


def test_other_ids_are_never_found_and_cannot_be_in_a_filter():
    found = BlobFilter.build(["ab" * 20])
    assert found.contains(["ab" * 20, "ab" * 32, "", "AB" * 20]).tolist() == [True, False, False, False]
    with pytest.raises(DatasetError, match="1 files have no SHA-1 id, such as 'abababab"):
        BlobFilter.build(["ab" * 20, "ab" * 32])


@pytest.mark.parametrize(
    "keys", [np.array([2, 1], np.uint32), np.array([1, 1], np.uint32), np.array([1.0]), np.zeros((1, 1), np.uint32)]
)
def test_a_file_that_is_no_filter(tmp_path, keys):
    np.save(tmp_path / "blobs.npy", keys)
    with pytest.raises(DatasetError, match="holds no filter"):
        BlobFilter.load(tmp_path / "blobs.npy")
    np.savez(tmp_path / "keys.npz", keys)
    for data in (b"", b"nothing", (tmp_path / "keys.npz").read_bytes(), b"PK\x03\x04"):
        (tmp_path / "blobs.npy").write_bytes(data)
        with pytest.raises(DatasetError, match="cannot be read"):
            BlobFilter.load(tmp_path / "blobs.npy")


def test_every_base_of_the_package_keeps_the_contract(made):
    for base in (made.base, *(find_base(name) for name in registry.names("bases"))):
        keeps_contract(base)


def keeps_contract(base):
    folder = base.folder
    assert {
        "base.json",
        "blobs.npy",
        "README.md",
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "sources.txt",
    } <= {path.name for path in folder.iterdir()}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MAX_BASE_BYTES
    assert (folder / "blobs.npy").stat().st_size <= MAX_FILTER_BYTES
    record = base.record
    assert (record["schema"], record["name"]) == (BASE_SCHEMA, folder.name)
    assert base.sources
    assert all(source.commit and source.licence and source.date for source in base.sources)
    assert record["date"] == max(source.date for source in base.sources)
    blobs = base.read_blobs()
    assert record["blobs"] == {"files": len(blobs.keys), "false_positive_rate": blobs.false_positive_rate}
    assert record["tokenizer"] == load_tokenizer(folder).digest
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert all(source.repository in card and source.commit[:12] in card for source in base.sources)
    model = load_weights(folder)
    assert {str(weight.dtype) for weight in model.parameters()} == {"torch.float32"}
    assert sum(weight.numel() for weight in model.parameters()) == record["parameters"]
    assert (folder / "model.safetensors").stat().st_size == pytest.approx(2 * record["parameters"], rel=0.1)


def test_what_is_on_the_shelf(made, monkeypatch, tmp_path):
    assert find_base("toy") is None
    shelf.put(monkeypatch, tmp_path, made.base.folder)
    assert registry.names("bases") == ["toy"]
    assert "natural" in registry.names("recipes")
    base = find_base("toy")
    assert base == default_base()
    assert (base.name, base.folder, base.window) == ("toy", tmp_path / "bases/toy", 128)
    assert json.loads(registry.read("bases", "toy")) == base.record


def test_an_empty_shelf(monkeypatch, tmp_path):
    shelf.put(monkeypatch, tmp_path)
    assert registry.names("bases") == []
    assert default_base() is None


def test_a_folder_is_a_base_too_and_a_name_of_the_package_wins(made, monkeypatch, tmp_path):
    found = find_base(str(made.base.folder))
    assert found.record == made.base.record
    (tmp_path / "package").mkdir()
    shelf.put(monkeypatch, tmp_path / "package", made.base.folder)
    monkeypatch.chdir(made.base.folder.parent)
    assert find_base("toy").folder == tmp_path / "package/bases/toy"
    assert load_tokenizer("toy").digest == made.base.record["tokenizer"]
    assert find_base("./toy").folder == Path("toy")


def test_a_damaged_record_is_one_line(made, tmp_path):
    folder = tmp_path / "toy"
    shutil.copytree(made.base.folder, folder)
    for text, what in (
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"schema": "git-starcoder/base/2"}', "another format"),
        ('{"schema": "git-starcoder/base/1"}', "it has no 'name'"),
        (json.dumps(made.base.record | {"parameters": "5m"}), "'parameters' is '5m'"),
        (json.dumps(made.base.record | {"blobs": {"files": 3}}), "it has no 'false_positive_rate'"),
        (json.dumps(made.base.record | {"sources": [{}]}), "it has no 'repository'"),
        (json.dumps(made.base.record | {"sources": [7]}), "a source is not an object"),
        ("[" * 100_000, "is damaged"),
    ):
        (folder / "base.json").write_text(text)
        with pytest.raises(DatasetError, match=what):
            find_base(str(folder))


def test_the_sources_are_counted(made):
    (source,) = made.base.sources
    assert isinstance(source, BaseSource)
    sizes = {
        row["source_file"]: (made.repo / row["source_file"]).stat().st_size
        for split in ("train", "val")
        for row in made.dataset.row_metadata(split)
    }
    assert (source.repository, source.licence, source.files) == ("origin", "MIT", len(sizes))
    assert source.bytes == sum(sizes.values())
    assert source.date == "2023-11-14T22:13:20+00:00"


def test_a_wheel_has_the_bases(made, tmp_path):
    """A wheel has all that `packages` in pyproject.toml names, except what git ignores."""
    assert 'packages = ["src/git_starcoder"]' in (ROOT / "pyproject.toml").read_text()
    names = [f"src/git_starcoder/bases/toy/{path.name}" for path in made.base.folder.iterdir()]
    command = ["git", "check-ignore", "--no-index", *names, "src/git_starcoder/bases/__pycache__/x.pyc"]
    ignored = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.splitlines() == ["src/git_starcoder/bases/__pycache__/x.pyc"]
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(made.base.folder, tmp_path / "src/git_starcoder/bases/toy")
    shown = subprocess.run(
        [sys.executable, "-m", "git_starcoder", "base", "show", "toy", "--json"],
        cwd=tmp_path, env=environment(PYTHONPATH=str(tmp_path / "src")), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert json.loads(shown.stdout)["folder"] == str(tmp_path / "src/git_starcoder/bases/toy"), shown.stderr


def test_base_list_and_show(made, monkeypatch, tmp_path, capsys):
    assert main(["base", "list"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == registry.names("bases") != []
    (tmp_path / "empty").mkdir()
    shelf.put(monkeypatch, tmp_path / "empty")
    assert main(["base", "list"]) == 0
    assert capsys.readouterr().out == "git-starcoder comes with no base\n"
    shelf.put(monkeypatch, tmp_path, made.base.folder)
    assert main(["base", "list"]) == 0
    assert capsys.readouterr().out.startswith("toy  ")
    assert main(["base", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bases"] == {"toy": made.base.about}
    assert main(["base", "show", "toy"]) == 0
    shown = capsys.readouterr().out
    assert made.base.weights_digest in shown
    assert made.base.sources[0].commit[:12] in shown
    assert main(["base", "show", "toy", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["base"], answer["folder"]) == (made.base.record, str(tmp_path / "bases/toy"))
    assert main(["base", "show", "tou"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: base 'tou' is not known", "  in base show", "hint: did you mean 'toy'?",
    ]  # fmt: skip
