"""Paths as rows print them: no two files print the same, and a printed path gives its file back."""

from __future__ import annotations

import json
from collections import defaultdict

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from git_starcoder.checks import check
from git_starcoder.cli import main
from git_starcoder.git.history import decode_path
from git_starcoder.git.objects import Repo
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe
from git_starcoder.records import SPLITS, parse_printable_path, printable_path
from toy import code_base, evolving

NAMES = (
    b"caf\xe9.py",
    b"caf\\xe9.py",
    b"caf\\x5cxe9.py",
    b"caf\\\xe9.py",
    b"caf\\xE9.py",
    "caf\u00e9.py".encode(),
    "cafe\u0301.py".encode(),
    b"CAF\xe9.py",
    b"d\xe9p/caf\xe9.py",
    b"d\\xe9p/caf\xe9.py",
    b"wtf8_\xed\xa0\x80.py",
    b"overlong_\xc0\xaf.py",
    b"overlong_\\xc0\\xaf.py",
    b"cut_\xe2\x82.py",
    "bidi_\u202egnp.py".encode(),
    b"bidi_\\u202egnp.py",
    b"new\nline.py",
    b"new\\nline.py",
    b"esc\x1b[31m.py",
    b"system\\x2dslice.py",
    b"win\\dows.py",
    b" spaces .py",
    b"caf\xe9",
    b"caf.\xe9",
    b"caf.\\xe9",
)
ELITE = (
    "window.vocab_size=700", "window.size=[64, 256]", "augment.git_diff=1.0", "augment.cross_file_context=1.0",
    "augment.temporal_context=1.0",
)  # fmt: skip
TOO_FEW = {"split_ratio"}
"""What so few files cannot promise."""


def nasty():
    """A code base some of whose files have such names, changed once."""
    texts = [text for path, text in sorted(code_base(90, seed=5).items()) if path.endswith(".py")]
    first = {name: texts[at % len(texts)] + f"\n\nplace = {at!r} * {at * 7919}\n" for at, name in enumerate(NAMES)}
    imports = {b"c/use.c": '#include "new\nhead.h"\nint use(void) { return 1; }\n', b"c/new\nhead.h": "int heading(int a);\n"}  # fmt: skip
    second = {name: text + f"added_{at} = {at * 104729}\n" for at, (name, text) in enumerate(first.items())}
    return [evolving(24, 0)[0], first | imports, second]


def lines(dataset, name):
    """The objects of a file of the dataset, one on each line."""
    return [json.loads(line) for line in (dataset.folder / name).read_bytes().split(b"\n") if line]


@pytest.fixture(scope="module")
def repo(repo_maker):
    return Repo.open(repo_maker(nasty()))


@pytest.fixture(scope="module", params=["jsonl", "parquet"])
def dataset(request, repo, tmp_path_factory):
    recipe = Recipe.load("elite", (*ELITE, f"write.format={request.param}"))
    return build(repo, recipe, tmp_path_factory.mktemp("paths") / "out")


@given(st.binary(max_size=20) | st.lists(st.sampled_from([b"\\", b"x", b"5c", b"e9", b"\xe9", b"\n"])).map(b"".join))
@example(b"\\x5c")
@example(b"\\\\xe9")
@example(b"\\x\xe99")
def test_a_printed_path_gives_its_bytes_back(data):
    printed = printable_path(decode_path(data))
    printed.encode()
    assert parse_printable_path(printed) == decode_path(data)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20).filter(lambda text: "\\x" not in text))
@example("win\\dows/a\\b.py")
@example("new\nline")
def test_an_ordinary_path_prints_as_it_is(path):
    assert printable_path(path) == path


@pytest.mark.parametrize("path", ["system\\x2dslice", "\\xE9", "\\xg9", "\\u00e9", "C:\\x", "\\x7f"])
def test_a_backslash_stays_where_it_is_no_escape(path):
    assert printable_path(path) == path


def test_every_file_has_a_path_of_its_own_and_every_check_is_kept(dataset, repo):
    blobs = defaultdict(set)
    for split in SPLITS:
        for about in dataset.row_metadata(split):
            if not about.get("is_evolution"):
                blobs[about["source_file"]].add(about["blob"])
    assert all(len(of_path) == 1 for of_path in blobs.values())
    of_repo = {entry.path: entry.blob for entry in repo.entries()}
    assert {parse_printable_path(printed): blob for printed, (blob,) in blobs.items()}.items() <= of_repo.items()
    assert {decode_path(name) for name in NAMES} <= {parse_printable_path(printed) for printed in blobs}
    wrong = {each.check: each.findings for each in check(dataset, repo) if each.finding_count}
    assert wrong.keys() <= TOO_FEW, wrong


def test_other_files_of_the_dataset_name_them_the_same(dataset):
    rows = {about["source_file"] for split in SPLITS for about in dataset.row_metadata(split)}
    declared = {symbol["path"] for symbol in lines(dataset, "signatures.jsonl")}
    assert declared <= rows
    assert "caf\\xe9.py" in declared
    assert "caf\\x5cxe9.py" in declared
    dropped = {drop["id"].partition("#")[0].partition("@")[0] for drop in lines(dataset, "drops.jsonl")}
    assert dropped
    assert all(printable_path(parse_printable_path(path)) == path for path in dropped)


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_show_finds_each_by_its_printed_path(dataset, name, capsys):
    printed = printable_path(decode_path(name))
    assert main(["show", str(dataset.folder), printed, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["path"] == printed
    assert {row["path"] for row in said["rows"]} == {printed}
    assert all(gone["path"] == printed for gone in said["drops"])


@pytest.mark.parametrize("name", [b"caf\\\xe9.py", b"wtf8_\xed\xa0\x80.py", b"d\xe9p/caf\xe9.py"], ids=repr)
def test_show_finds_one_by_its_own_name_too(dataset, name, capsys):
    assert main(["show", str(dataset.folder), decode_path(name), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == printable_path(decode_path(name))


def test_show_finds_one_as_a_terminal_shows_it(dataset, capsys):
    assert main(["show", str(dataset.folder), "esc\\x1b[31m.py", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "esc\x1b[31m.py"
