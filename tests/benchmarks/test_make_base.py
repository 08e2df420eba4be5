"""A base is made from its list of sources: fetched, exported as the same bytes every time, and refused where it is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest

import shelf
from checkout import ROOT
from git_starcoder.errors import DatasetError, UsageError
from toy import code_base

make_base = shelf.script("make_base")
memorisation = shelf.script("memorisation")
by_language = shelf.script("by_language")
COMMIT = "0123456789" * 4


@pytest.fixture(scope="module")
def repo(repo_maker):
    return repo_maker([code_base(30), {"src/later.py": "x = 1\n"}])


@pytest.fixture(scope="module")
def made(tmp_path_factory, repo, git):
    return shelf.make(tmp_path_factory.mktemp("base"), repo, git(repo, "rev-parse", "HEAD").decode().strip(), steps=2)


def test_sources_are_lines_with_tabs(tmp_path):
    path = tmp_path / "sources.txt"
    path.write_text(
        f"# list\n\nhttps://a.org/b\t{COMMIT}\tMIT\tb\n/mirror/c/\t{COMMIT[::-1]}\tApache-2.0\tother\ttokenizer\n"
    )
    assert make_base.read_sources(path) == [
        make_base.Source("https://a.org/b", COMMIT, "MIT", "b", teaches_tokenizer=False),
        make_base.Source("/mirror/c/", COMMIT[::-1], "Apache-2.0", "other", teaches_tokenizer=True),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "or there is no source"),
        ("https://example.com/a\tmain\tMIT\ta", "is not a source"),
        (f"https://example.com/a\t{COMMIT}\tMIT", "is not a source"),
        (f"https://example.com/a\t{COMMIT}\t\ta", "is not a source"),
        (f"https://example.com/a\t{COMMIT}\tMIT\ta\ttokeniser", "is not a source"),
        (f"a\t{COMMIT}\tMIT\ta\nb\t{COMMIT}\tMIT\tb", "occurs twice"),
        (f"a/c\t{COMMIT}\tMIT\tc\nb/c\t{COMMIT[::-1]}\tMIT\tc", "name 'c' occurs twice"),
    ],
)
def test_what_is_no_list_of_sources(tmp_path, text, what):
    (tmp_path / "sources.txt").write_text(text)
    with pytest.raises(UsageError, match=what):
        make_base.read_sources(tmp_path / "sources.txt")


def test_fetching_clones_what_is_in_no_mirror(tmp_path, repo, git):
    first, last = git(repo, "rev-list", "--reverse", "HEAD").decode().split()
    (tmp_path / "sources.txt").write_text(f"{repo}\t{last}\tMIT\tnew\n/no/where/old\t{first}\tMIT\told\ttokenizer\n")
    mirrors = tmp_path / "mirrors"
    mirrors.mkdir()
    (mirrors / "old").symlink_to(repo)
    work = tmp_path / "work"
    for _ in range(2):  # the second time, nothing is cloned
        make_base.fetch(tmp_path, work, mirrors)
        lines = [line.split("\t") for line in (work / "repositories.txt").read_text().splitlines()]
        assert lines == [[str(work / "repositories/new"), last, "new"], [str(mirrors / "old"), first, "old"]]
        assert (work / "tokenizer_repositories.txt").read_text() == f"{mirrors / 'old'}\t{first}\told\n"
        (tmp_path / "sources.txt").write_text(
            f"/is/gone\t{last}\tMIT\tnew\n/no/where/old\t{first}\tMIT\told\ttokenizer\n"
        )
    assert git(work / "repositories/new", "rev-parse", "--is-bare-repository") == b"true\n"
    facts = json.loads((work / "sources.json").read_text())
    assert [fact["date"] for fact in facts] == ["2023-11-15T22:13:20+00:00", "2023-11-14T22:13:20+00:00"]
    (tmp_path / "sources.txt").write_text(f"{repo}\t{COMMIT}\tMIT\tnew\n")
    with pytest.raises(UsageError, match="git show failed"):
        make_base.fetch(tmp_path, work, None)
    (tmp_path / "sources.txt").write_text(f"/no/where/lost\t{COMMIT}\tMIT\tlost\n")
    with pytest.raises(UsageError, match="git clone failed"):
        make_base.fetch(tmp_path, work, None)
    assert not (work / "repositories/lost").exists()


def test_the_same_model_gives_the_same_bytes(made, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    shutil.copy(made.base.folder / "sources.txt", folder)
    make_base.export(folder, made.work, made.model, made.dataset, None)
    files = {path.name: path.read_bytes() for path in made.base.folder.iterdir()}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files


def test_weights_are_rounded_to_bfloat16_and_nothing_else(made):
    import torch
    from safetensors.torch import load_file

    base, model = (load_file(folder / "model.safetensors") for folder in (made.base.folder, made.model))
    assert base.keys() == model.keys()
    assert {value.dtype for value in base.values()} == {torch.bfloat16}
    assert all(torch.equal(base[name], value.to(torch.bfloat16)) for name, value in model.items())
    config = json.loads((made.base.folder / "config.json").read_text())
    assert config["torch_dtype"] == config["dtype"] == "bfloat16"


def test_a_base_says_nothing_of_this_machine(made, repo):
    for name in ("base.json", "README.md"):
        text = (made.base.folder / name).read_text()
        assert str(made.work) not in text
        assert text.count(str(repo)) == (name == "base.json")  # the URL of the source, which is a folder here


def test_what_cannot_be_exported(made, tmp_path):
    folder = tmp_path / "toy"
    folder.mkdir()
    facts = json.loads((made.work / "sources.json").read_text())
    work = tmp_path / "work"
    work.mkdir()
    (work / "sources.json").write_text(json.dumps([{**facts[0], "commit": COMMIT}]))
    with pytest.raises(DatasetError, match="no source has the commit"):
        make_base.export(folder, work, made.model, made.dataset, None)
    model = tmp_path / "model"
    shutil.copytree(made.model, model)
    record = json.loads((model / "training.json").read_text())
    for change, what in (({"dataset": "other"}, "another dataset"), ({"config": {"base": "x"}}, "from scratch")):
        (model / "training.json").write_text(json.dumps({**record, **change}))
        with pytest.raises(DatasetError, match=what):
            make_base.export(folder, made.work, model, made.dataset, None)


def test_a_base_that_is_too_large_is_refused(made, monkeypatch):
    for limit, what in (("MAX_BASE_BYTES", "the base has"), ("MAX_FILTER_BYTES", "blobs.npy has")):
        with monkeypatch.context() as patch:
            patch.setattr(make_base, limit, 100)
            with pytest.raises(UsageError, match=what):
                make_base.refuse_large_files(made.base.folder)


def test_repositories_of_a_dataset_of_many(made, monkeypatch, tmp_path):
    """What a base has read of each of several repositories, whose names begin the paths."""
    dataset = made.dataset
    lines = [
        {"repository": "a", "commit": COMMIT, "result": "kept"},
        {"repository": "b", "commit": COMMIT[::-1], "result": "kept"},
        {"repository": "c", "commit": "", "result": "failed"},
    ]
    folder = tmp_path / "dataset"
    shutil.copytree(dataset.folder, folder)
    (folder / "repositories.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    many = type(dataset).open(folder)
    assert make_base.list_repositories(many) == {"a": COMMIT, "b": COMMIT[::-1]}
    load = make_base.load_documents
    from dataclasses import replace

    def renamed(dataset, split):
        documents = load(dataset, split)
        return [replace(each, path=f"{'ab'[index % 2]}/{each.path}") for index, each in enumerate(documents)]

    monkeypatch.setattr(make_base, "load_documents", renamed)
    about = {"url": "https://example.com", "date": "2020", "licence": "MIT"}
    fetched = [{**about, "commit": commit, "name": name} for name, commit in (("a", COMMIT), ("b", COMMIT[::-1]))]
    first, second = make_base.find_sources(many, fetched)
    (whole,) = made.base.sources
    assert (first.repository, second.repository) == ("a", "b")
    assert first.files + second.files == whole.files
    assert first.bytes + second.bytes == whole.bytes
    assert min(first.bytes, second.bytes) > 0


def test_the_commands_of_make_base(tmp_path):
    """`make base` calls the steps in this order; the steps themselves are tested above."""
    command = ["make", "-n", "base", "BASE=toy", f"WORK={tmp_path}", "-o", ".venv/ready"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    order = [
        lines.index(part)
        for part in ("fetch", "build --list", " train ", "memorisation.py", "by_language.py", "make_base.py export")
    ]
    assert order == sorted(order)
    refused = subprocess.run(
        [*command[:1], "base", "-o", ".venv/ready"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2
    assert "error: no base is named" in refused.stderr


class Parrot:
    """Knows some of the files by heart, and writes a secret after all others."""

    end_token = 0

    def __init__(self, documents, tokenizer, known):
        self.tokenizer = tokenizer
        self.texts = {document.tokens[:50].tobytes(): document for document in documents}
        self.known = known

    def generate(self, prompts, limit, *, stop):  # noqa: ARG002
        written = []
        for prompt in prompts:
            document = self.texts[prompt[-50:].astype(np.int32).tobytes()]
            secret = self.tokenizer.encode([b'\nkey = "ghp_16C7e42F292c6912E7710c838347Ae178B4a"\n'])[0]
            is_known = document.path in self.known
            written.append(np.array(document.tokens[50 : 50 + limit] if is_known else secret[:limit], dtype=np.int32))
        return written


def test_memorisation_counts_what_is_word_for_word_and_what_looks_like_a_secret(made):
    from git_starcoder.dataset.held_out import load_documents
    from git_starcoder.text.tokenizer import load_tokenizer

    documents = load_documents(made.dataset, "train")
    tokenizer = load_tokenizer(made.base.folder)
    long = [each for each in documents if len(each.tokens) >= 100]
    drawn = memorisation.draw_files(documents, 8)
    assert len(drawn) == 8 <= len(long)
    known = {each.path for each in drawn[:3]}
    found = memorisation.measure(Parrot(documents, tokenizer, known), tokenizer, documents, 8)
    assert (found["files"], found["verbatim"], found["share"], found["shared"]) == (8, 3, 0.375, 0)
    assert sum(found["secrets"].values()) == 5
    assert "continues 3 word for word" in found["line"]
    twice = [*documents, drawn[0]]
    assert memorisation.measure(Parrot(documents, tokenizer, known), tokenizer, twice, 8)["shared"] >= 1


def test_memorisation_of_a_real_base_is_in_its_card(made, tmp_path):
    script = ROOT / "benchmarks/memorisation.py"
    output = shelf.run_script(script, made.base.folder, made.dataset.folder)
    found = json.loads(output)
    assert found["files"] > 5
    assert 0 <= found["verbatim"] <= found["files"]
    folder = tmp_path / "toy"
    folder.mkdir()
    base = make_base.export(folder, made.work, made.model, made.dataset, found)
    assert base.record["memorisation"] == found
    assert found["line"] in (folder / "README.md").read_text()


def test_the_card_has_the_loss_curve_and_a_table_of_languages(made, tmp_path):
    """PPM is given as much text of each language as the base has read of it, and the same held-out text."""
    script = ROOT / "benchmarks/by_language.py"
    found = json.loads(shelf.run_script(script, made.model, made.dataset.folder, "--min-bytes", 1))
    (measured,) = found["languages"]
    assert measured["language"] == "go"
    assert json.loads(shelf.run_script(script, made.model, made.dataset.folder))["languages"] == []
    seen = json.loads((made.model / "training.json").read_text())["result"]["tokens"]
    whole = sum(source.bytes for source in made.base.sources)
    assert 0 < measured["ppm_bytes"] <= min(4 * seen, whole)
    assert 0 < measured["ppm"] < measured["model"][0]  # two steps teach a network little
    assert measured["model"][0] / measured["ppm"] == pytest.approx(measured["ppm_ratio"][0], rel=1e-3)
    folder = tmp_path / "toy"
    folder.mkdir()
    base = make_base.export(folder, made.work, made.model, made.dataset, None, found)
    assert base.record["languages"] == found
    card = (folder / "README.md").read_text()
    assert found["table"] in card
    assert "](loss_curve.png)" in card
    assert (folder / "loss_curve.png").read_bytes() == (made.model / "loss_curve.png").read_bytes()


def test_the_bytes_of_a_language_follow_from_the_weights_of_its_rows():
    rows = [{"language": "c", "weight": 3.0, "length": 100}, {"language": "go", "weight": 1.0, "length": 300}]
    counts = by_language.Counter(c=40, go=60), by_language.Counter(c=10, go=20)
    assert by_language.bytes_read(rows, *counts, 1000) == {"c": 2000, "go": 1500}
