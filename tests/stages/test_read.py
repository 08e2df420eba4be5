import codecs
import hashlib
import json
import re
import tracemalloc
import zlib
from random import Random

import pytest

import planted
from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.errors import RepositoryError
from git_starcoder.git.objects import Repo
from git_starcoder.recipe import ReadOptions
from git_starcoder.records import DeclaredRoles, content_id
from git_starcoder.stages import read


class Notes:
    """A watch that remembers what it was told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def begin(self, step, total): ...
    def advance(self, count): ...
    def end(self, step, seconds, seen, kept, dropped): ...

    def note(self, text):
        self.notes.append(text)


class Result:
    """What the step made of a repository."""

    def __init__(self, repository, folder, **options) -> None:
        watch = Notes()
        with LocalEngine(jobs=1) as engine, BuildState(folder, 0, engine, watch) as run:
            self.sources, self.changes = read.read_repository(run, ReadOptions(**options), Repo.open(repository))
            self.texts = {source.path: run.texts.get(source.text) for source in self.sources}
            self.dropped = {drop.id: drop.reason for drop in run.drops}
            self.because = {drop.id: drop.detail for drop in run.drops}
            [self.step] = run.steps
        self.notes = watch.notes
        assert self.step.seen == len(self.sources) + len(run.drops) == self.step.kept + self.step.dropped.total()


def test_a_source_says_where_it_is_from(repo_maker, tmp_path):
    text = "line\n" * 30
    path = repo_maker([{"old.py": text}, {"old.py": None, "new.py": text + "more\r\n"}])
    [source] = Result(path, tmp_path).sources
    assert source.path == "new.py"
    assert source.id == content_id(source.blob, "new.py")
    assert (source.commit, source.changed_at) == (Repo.open(path).commit, 1_700_086_400)
    assert source.former_paths == ("old.py",)
    assert source.language == "python"
    assert source.decoding_changes == ("crlf",)


def test_sources_are_sorted_by_the_bytes_of_their_paths(repo_maker, tmp_path):
    names = ["b", "a/b", "a.b", "a", "Z", "é", "\udcff", "a0"]
    result = Result(repo_maker({name: "x\n" for name in names if name != "a"}), tmp_path)
    assert [source.path for source in result.sources] == ["Z", "a.b", "a/b", "a0", "b", "é", "\udcff"]


def test_every_kind_of_file_has_its_reason(repo_maker, tmp_path):
    result = Result(
        repo_maker(
            {
                "kept.rs": "fn main() {}\n",
                "bom.py": codecs.BOM_UTF8 + b"x = 1\n",
                "wide.txt": codecs.BOM_UTF16_LE + "wide\n".encode("utf-16-le"),
                "latin.py": b"# coding: latin-1\nx = '\xe9'\n",
                "link": ("120000", "/etc/passwd"),
                "module": ("160000", "1" * 40),
                "empty": "",
                "blank": "\n\n",
                "image.png": b"\x89PNG\0\0",
                "latin.txt": b"caf\xe9\n",
                "big.txt": "x\n" * 600,
                "line.txt": "y" * 300 + "\n" + "x\n" * 300,
                "app.min.js": "z" * 60 + "\n",
                "model.bin": "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
            }
        ),
        tmp_path,
        max_bytes=1000,
        max_line=200,
        mean_line=50,
    )
    assert result.texts == {
        "bom.py": b"x = 1\n",
        "kept.rs": b"fn main() {}\n",
        "latin.py": "# coding: latin-1\nx = 'é'\n".encode(),
        "wide.txt": b"wide\n",
    }
    assert [source.decoding_changes for source in result.sources] == [("bom",), (), ("cookie",), ("utf-16",)]
    assert result.dropped == {
        "link": "symlink",
        "module": "submodule",
        "empty": "empty",
        "blank": "empty",
        "image.png": "binary",
        "latin.txt": "undecodable",
        "big.txt": "too_large",
        "line.txt": "long_line",
        "app.min.js": "minified",
        "model.bin": "lfs_pointer",
    }
    assert (result.step.seen, result.step.kept) == (14, 4)
    assert result.step.figures == {"entries": 14, "bytes": 51, "renamed": 0}


def notebook(*sources, picture="", count=1):
    outputs = [{"output_type": "display_data", "data": {"image/png": picture}, "metadata": {}}] if picture else []
    cells = [
        {"cell_type": "code", "execution_count": count, "metadata": {}, "outputs": outputs, "source": source}
        for source in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}, indent=1)


def test_a_notebook_is_its_code_whatever_its_pictures_weigh(repo_maker, tmp_path):
    result = Result(
        repo_maker(
            {
                "plain.ipynb": notebook("x = 1\n"),
                "line.ipynb": notebook("y = 1\n", picture="A" * 100_000),
                "large.ipynb": notebook("z = 1\n", picture="A" * 2_000_000),
                "token.ipynb": notebook(f"login('{secret('GITHUB_TOKEN')}')\n" + "x = 1\n" * 80, picture="A"),
                "broken.ipynb": "<<<<<<< HEAD\n" + notebook("x = 1"),
                "huge.ipynb": notebook("x = 1", picture="A" * (32 << 20)),
                "empty.ipynb": notebook(),
                "data.json": json.dumps({"cells": [1, 2]}),
            }
        ),
        tmp_path,
    )
    assert {path: text for path, text in result.texts.items() if path != "token.ipynb"} == {
        "plain.ipynb": b"# %%\nx = 1\n",
        "line.ipynb": b"# %%\ny = 1\n",
        "large.ipynb": b"# %%\nz = 1\n",
        "data.json": b'{"cells": [1, 2]}',
    }
    assert b"REDACTED_GITHUB_TOKEN_" in result.texts["token.ipynb"]
    assert {source.language for source in result.sources if source.path.endswith("b")} == {"python"}
    assert result.dropped == {"broken.ipynb": "no_notebook", "huge.ipynb": "too_large", "empty.ipynb": "empty"}
    figures = {name: value for name, value in result.step.figures.items() if name.startswith("notebook")}
    assert figures == {"notebooks": 4, "notebook_outputs": 3, "notebook_images": 3, "notebook_execution_counts": 4}


def test_a_source_says_what_the_repository_says_of_it(repo_maker, tmp_path):
    files = {
        ".gitattributes": "gen/** linguist-generated\nvendor/own.c -linguist-vendored\n",
        "gen/a.c": "int a;\n",
        "vendor/own.c": "int b;\n",
        "py/pyvenv.cfg": "home = /usr\n",
        "py/x.py": "x = 1\n",
        "main.c": "int c;\n",
    }
    result = Result(repo_maker(files), tmp_path)
    assert {
        source.path: source.declared_roles for source in result.sources if source.declared_roles != DeclaredRoles()
    } == {
        "gen/a.c": DeclaredRoles(generated=True),
        "vendor/own.c": DeclaredRoles(vendored=False),
        "py/pyvenv.cfg": DeclaredRoles(vendored=True, reason="py/ is a virtual environment"),
        "py/x.py": DeclaredRoles(vendored=True, reason="py/ is a virtual environment"),
    }
    assert result.step.figures["marked"] == 4


def test_equal_files_share_a_text(repo_maker, tmp_path):
    a, b = Result(repo_maker({"a.py": "x = 1\n", "b.py": "x = 1\n"}), tmp_path).sources
    assert a.text == b.text
    assert a.id != b.id


def test_special_tokens_are_text(repo_maker, tmp_path):
    text = b"<fim_prefix><|endoftext|>\n"
    assert Result(repo_maker({"a.txt": text}), tmp_path).texts == {"a.txt": text}


def test_two_reads_give_the_same(repo_maker, tmp_path):
    path = repo_maker([{f"{number}.py": f"x = {number}\n" for number in range(30)}, {"3.py": None, "4.py": "y\n"}])
    assert Result(path, tmp_path / "one").sources == Result(path, tmp_path / "two").sources


def put_loose(repo, size: int, fill: bytes) -> str:
    """A loose blob of any size, made without holding it."""
    header = b"blob %d\0" % size
    digest, packer = hashlib.sha1(header), zlib.compressobj(1)
    packed = [packer.compress(header)]
    for begin in range(0, size, 1 << 20):
        part = fill * (min(1 << 20, size - begin) // len(fill))
        digest.update(part)
        packed.append(packer.compress(part))
    name = digest.hexdigest()
    place = repo / ".git/objects" / name[:2] / name[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"".join(packed) + packer.flush())
    return name


def commit_blob(git, repo, path: str, name: str) -> None:
    git(repo, "update-index", "--add", "--cacheinfo", f"100644,{name},{path}")
    git(repo, "commit", "--quiet", "-m", "more")


def test_a_file_of_200_megabytes_is_never_in_memory(repo_maker, git, tmp_path):
    path = repo_maker({"a.py": "x = 1\n"})
    commit_blob(git, path, "huge.csv", put_loose(path, 200 << 20, b"1,2,3,4\n"))
    tracemalloc.start()
    result = Result(path, tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.dropped == {"huge.csv": "too_large"}
    assert list(result.texts) == ["a.py"]
    assert peak < 20 << 20


def test_a_line_of_5_megabytes(repo_maker, git, tmp_path):
    path = repo_maker({"a.py": "x = 1\n"})
    commit_blob(git, path, "line.js", put_loose(path, 5 << 20, b"x"))
    assert Result(path, tmp_path).dropped == {"line.js": "too_large"}
    assert Result(path, tmp_path, max_bytes=10 << 20).dropped == {"line.js": "long_line"}


def test_the_same_path_twice_is_one_file(repo_maker, git, tmp_path):
    path = repo_maker({"a": "x\n"})
    entry = b"100644 a\0" + bytes.fromhex(git(path, "rev-parse", "HEAD:a").decode().strip())
    command = ("hash-object", "-w", "-t", "tree", "--stdin", "--literally")
    tree = git(path, *command, stdin=entry * 2).decode().strip()
    commit = git(path, "commit-tree", tree, "-m", "twice").decode().strip()
    git(path, "update-ref", "HEAD", commit)
    result = Result(path, tmp_path)
    assert len(result.sources) == 1
    assert list(result.step.dropped.items()) == [("repeated", 1)]


def test_modes_that_are_no_file(repo_maker, git, tmp_path):
    path = repo_maker({"a": "x\n"})
    blob = bytes.fromhex(git(path, "rev-parse", "HEAD:a").decode().strip())
    raw = b"100644 a\0" + blob + b"777777 b\0" + blob
    tree = git(path, "hash-object", "-w", "-t", "tree", "--stdin", "--literally", stdin=raw).decode().strip()
    git(path, "update-ref", "HEAD", git(path, "commit-tree", tree, "-m", "odd").decode().strip())
    assert Result(path, tmp_path).dropped == {"b": "odd_mode"}


def test_damage_is_counted(repo_maker, git, tmp_path):
    path = repo_maker({"a": "first\n", "b": "second\n", "c/d": "third\n", "e": "fourth\n"})
    for name, raw in [("b", zlib.compress(b"blob 7\0forged\n")), ("c", None), ("e", None)]:
        oid = git(path, "rev-parse", f"HEAD:{name}").decode().strip()
        place = path / ".git/objects" / oid[:2] / oid[2:]
        place.unlink()
        if raw is not None:
            place.write_bytes(raw)
    result = Result(path, tmp_path)
    assert list(result.texts) == ["a"]
    assert result.dropped == {"b": "corrupt", "c/": "missing", "e": "missing"}


def test_a_shallow_clone_is_told(repo_maker, git, tmp_path):
    path = repo_maker([{"a": "1\n", "b": "1\n"}, {"b": "2\n"}])
    git(path.parent, "clone", "--quiet", "--depth=1", path.as_uri(), "shallow")
    result = Result(path.parent / "shallow", tmp_path)
    assert [(source.commit, source.changed_at) for source in result.sources] == [("", 1_700_086_400)] * 2
    assert "shallow" in result.notes[0]


@pytest.mark.parametrize(
    ("files", "hint"),
    [({}, "the commit has no files"), ({"a": "", "b": "", "c": b"\0"}, "of 3 files: 1 binary, 2 empty")],
)
def test_nothing_that_can_be_used(repo_maker, tmp_path, files, hint):
    with pytest.raises(RepositoryError, match="can be used") as caught:
        Result(repo_maker(files), tmp_path)
    assert caught.value.hint == hint


def secret(kind, number=0):
    return planted.TOKENS[kind](Random(f"{kind}{number}"))


SECRET_FILES = {
    "a.py": f"client('{secret('GITHUB_TOKEN')}', '{secret('GITHUB_TOKEN', 1)}')\n" + "x = 1\n" * 80,
    "b.py": f"client('{secret('GITHUB_TOKEN')}')\n" + "y = 2\n" * 80,
    "clean.py": "x = 1\n",
    "list.txt": "".join(secret("NPM_TOKEN", number) + "\n" for number in range(30)) + "z\n" * 20_000,
    "one.txt": f"{secret('GOOGLE_KEY')}\n",
    ".env": "PORT=3000\n",
    "tls/server.pem": planted.KINDS["PRIVATE_KEY of PKCS"](Random(0)).text + "\n",
    "tls/public.pem": planted.LOOKALIKES["public"](Random(0)) + "\n",
    "store.p12": b"\0\1",
}
"""Paths and texts with secrets."""


def test_secrets_are_redacted_and_counted(repo_maker, tmp_path):
    result = Result(repo_maker(SECRET_FILES), tmp_path)
    assert list(result.texts) == ["a.py", "b.py", "clean.py", "tls/public.pem"]
    first, second = (text.split(b"'")[1] for text in (result.texts["a.py"], result.texts["b.py"]))
    assert first == second
    assert re.fullmatch(rb"REDACTED_GITHUB_TOKEN_[0-9a-f]{4}", first)
    assert result.dropped == {
        ".env": "secret_file",
        "list.txt": "mostly_secrets",
        "one.txt": "mostly_secrets",
        "store.p12": "secret_file",
        "tls/server.pem": "secret_file",
    }
    assert result.step.figures["secrets_github_token"] == 3
    assert [name for name in result.step.figures if name.startswith("secrets_")] == ["secrets_github_token"]


def test_files_with_secrets_may_be_dropped(repo_maker, tmp_path):
    result = Result(repo_maker(SECRET_FILES), tmp_path, secrets="drop")
    assert list(result.texts) == ["clean.py", "tls/public.pem"]
    assert result.dropped["a.py"] == result.dropped["b.py"] == "secret"
    assert result.because["a.py"] == "2 GITHUB_TOKEN"


def test_secrets_may_be_left(repo_maker, tmp_path):
    result = Result(repo_maker(SECRET_FILES), tmp_path, secrets="off")
    assert result.dropped == {"store.p12": "binary"}
    assert result.texts["a.py"].decode() == SECRET_FILES["a.py"]
    assert not [name for name in result.step.figures if name.startswith("secrets_")]


def test_no_drop_tells_a_value(repo_maker, tmp_path):
    for number, option in enumerate(("redact", "drop")):
        result = Result(repo_maker(SECRET_FILES), tmp_path / str(number), secrets=option)
        told = " ".join(result.because.values())
        assert not any(secret(kind, number) in told for kind in ("GITHUB_TOKEN", "NPM_TOKEN") for number in range(30))
