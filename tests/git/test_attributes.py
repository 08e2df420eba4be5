"""Linguist's attributes in `.gitattributes`: as git itself says, and never more than it costs to read them."""

from __future__ import annotations

import time
from random import Random

import pytest

from git_starcoder.git.attributes import MAX_ATTRIBUTE_LINES, MAX_MACROS, read_attributes
from git_starcoder.git.objects import Repo
from git_starcoder.records import NO_DECLARED_ROLES, DeclaredRoles

NAMES = {"vendored": "linguist-vendored", "generated": "linguist-generated", "documentation": "linguist-documentation"}


def said_by_git(git, path, paths):
    """What `git check-attr` says in the checkout."""
    out = git(path, "check-attr", "-z", "--stdin", *NAMES.values(), stdin="".join(f"{one}\0" for one in paths).encode())
    words = out.decode().split("\0")[:-1]
    states = {}
    for file, name, value in zip(words[::3], words[1::3], words[2::3], strict=True):
        states[file, name] = None if value == "unspecified" else value not in {"unset", "false"}
    return {one: DeclaredRoles(*(states[one, name] for name in NAMES.values())) for one in paths}


def compare(git, repo_maker, files):
    path = repo_maker(files)
    paths = [one for one in files if not one.endswith(".gitattributes")]
    found = read_attributes(Repo.open(path))
    wrong = {
        one: (found.declared_roles(one), said)
        for one, said in said_by_git(git, path, paths).items()
        if found.declared_roles(one) != said
    }
    assert not wrong
    return [found.declared_roles(one) for one in paths]


PATHS = ["a.c", "b.c", "lib/a.c", "lib/x/a.c", "lib/x/b c.py", "src/lib/a.c", "src/a.c", "src/x/y/a.py", "docs/a.md", "[a].c",
    "a-b", "lib/a]b", "x/a/b/c", "a/b", "a/x/b", "a/x/y/b", "Z/é.c", 'q"t.c', "a.b.c", "foo/bar/foo/baz", "t/A1.c"]  # fmt: skip
EXAMPLES = {
    "names": "*.c linguist-vendored\na.c -linguist-vendored\n",
    "paths": "lib/*.c linguist-generated\n/a.c linguist-generated=true\nsrc/a.c linguist-generated=false\nx/y linguist-generated\n",
    "folders": "lib/ linguist-vendored\nsrc linguist-vendored\ndocs/* linguist-documentation\nlib/** linguist-generated\na-b/** linguist-vendored\n",
    "stars": "**/a.c linguist-vendored\na/**/b linguist-generated\n**/x/** linguist-documentation\nlib**a.c linguist-vendored\n",
    "takes back": "* linguist-vendored linguist-generated\n*.c !linguist-vendored -linguist-generated\n",
    "last one first": "*.c linguist-vendored -linguist-vendored\n*.py -linguist-vendored linguist-vendored\n",
    "quoted": '"lib/x/b c.py" linguist-vendored\n"q\\"t.c" linguist-vendored\n"Z/\\303\\251.c" linguist-generated\n"a.c linguist-vendored\n',
    "escaped": "\\[a].c linguist-vendored\nlib/a\\]b linguist-vendored\n\\a.c linguist-generated\nb.c\\ linguist-vendored\n",
    "brackets": "[ab].c linguist-vendored\n[!a]*.c linguist-generated\nlib/a[]]b linguist-vendored\n[[:upper:]][[:digit:]].c linguist-generated\n"
    "[a-c][.-].? linguist-documentation\n[z-a].c linguist-vendored\n[ab linguist-vendored\n[[:odd:]].c linguist-vendored\n",
    "macros": "[attr]theirs linguist-vendored -linguist-generated\n[attr]more theirs linguist-documentation\nlib/x/* more\n*.md more -theirs\n"
    "a.c linguist-generated theirs\nb.c -theirs\n",
    "odd": "# comment\n\n  a.c   linguist-vendored\t-linguist-generated  \r\n!b.c linguist-vendored\n*.py linguist-vendored =x\n*.md linguist-v\n"
    "src/a.c linguist-vendored=\nlib/a.c -linguist-vendored=true\nZ/* linguist-vendored=set\n",
    "bom": "\ufeffa.c linguist-vendored\n",
    "long": "a.c linguist-vendored " + "x" * 2100 + "\nb.c linguist-vendored " + "x" * 2000 + "\n",
}  # fmt: skip


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES)
def test_it_is_what_git_says(git, repo_maker, text):
    found = compare(git, repo_maker, {".gitattributes": text, **dict.fromkeys(PATHS, "x\n")})
    assert set(found) != {NO_DECLARED_ROLES}


def test_deeper_files_go_first(git, repo_maker):
    files = {
        ".gitattributes": "[attr]ours -linguist-vendored\n*.c linguist-vendored linguist-generated\nsrc/** linguist-documentation\n",
        "lib/.gitattributes": "a.c -linguist-vendored\n/x/*.py linguist-generated\n[attr]no linguist-generated\nb.c no\n",
        "lib/x/.gitattributes": "* !linguist-generated\n*.c ours\n",
    }
    compare(git, repo_maker, {**files, **dict.fromkeys(PATHS, "x\n"), "lib/b.c": "x\n"})


PIECES = [
    "a",
    "b",
    "x",
    "lib",
    "src",
    "*",
    "**",
    "?",
    "/",
    "/",
    "/",
    ".c",
    ".",
    "[ab]",
    "[!a]",
    "[a-x]",
    "\\a",
    "\\",
    "[",
    "]",
    "**/",
    "/**",
    "*/",
    "[]",
    "[^",
    "-",
]


@pytest.mark.parametrize("seed", range(8))
def test_any_pattern_matches_what_git_says(git, repo_maker, seed):
    random = Random(seed)
    lines = []
    for _ in range(60):
        pattern = "".join(random.choice(PIECES) for _ in range(random.randint(1, 6)))
        states = random.sample(
            [f"{sign}{name}" for name in NAMES.values() for sign in ("", "-", "!")], random.randint(1, 2)
        )
        lines.append(f"{pattern} {' '.join(states)}\n")
    folders = ["", "a/", "lib/", "lib/x/", "src/", "x/a/", "a/b/x/", "b/"]
    paths = {
        f"{folder}{name}.c" if random.random() < 0.7 else f"{folder}{name}"
        for folder in folders
        for name in ("a", "ab", "xb", "a.b")
    }
    paths = sorted(one for one in paths if not any(other.startswith(f"{one}/") for other in paths))
    path = repo_maker({".gitattributes": "", **dict.fromkeys(paths, "x\n")})
    for number in range(0, 60, 3):  # few lines at a time, so that each has its say
        text = "".join(lines[number : number + 3])
        (path / ".gitattributes").write_text(text)
        git(path, "commit", "-q", "-a", "-m", "x", "--allow-empty")
        found = read_attributes(Repo.open(path))
        for one, said in said_by_git(git, path, paths).items():
            assert found.declared_roles(one) == said, (text, one)


def test_a_link_or_a_large_file_says_nothing(repo_maker):
    files = {".gitattributes": ("120000", "other"), "other": "* linguist-vendored\n", "a.c": "x\n"}
    assert read_attributes(Repo.open(repo_maker(files))).declared_roles("a.c") == NO_DECLARED_ROLES
    files = {".gitattributes": "* linguist-vendored\n" + "#" * (1 << 20), "a.c": "x\n"}
    assert read_attributes(Repo.open(repo_maker(files))).declared_roles("a.c") == NO_DECLARED_ROLES


def test_hostile_patterns_cost_what_their_size_is(repo_maker):
    pattern = "a*" * 400 + "b"
    deep = "/".join(["**", "a*"] * 200) + "/b"
    text = f"{pattern} linguist-vendored\n{deep} linguist-vendored\n" + "[attr]m m linguist-vendored\n" * 10 + "*.c m\n"
    repo = Repo.open(repo_maker({".gitattributes": text, "x.c": "x\n"}))
    found = read_attributes(repo)
    begin = time.process_time()
    assert found.declared_roles("a" * 4000) == NO_DECLARED_ROLES
    assert found.declared_roles("/".join(["a"] * 2000)) == NO_DECLARED_ROLES
    assert found.declared_roles("y.c").vendored
    assert time.process_time() - begin < 2


def test_lines_beyond_a_limit_are_noted(repo_maker):
    text = "*.c linguist-vendored\n" * MAX_ATTRIBUTE_LINES + "*.py linguist-vendored\n"
    repo = Repo.open(repo_maker({".gitattributes": text}))
    assert read_attributes(repo).declared_roles("a.py") == NO_DECLARED_ROLES
    assert repo.notes == ["1 lines of .gitattributes beyond 2,000 are ignored"]


def test_a_long_chain_of_macros(repo_maker):
    chain = "".join(f"[attr]m{number} m{number - 1}\n" for number in range(1, MAX_MACROS + 2))
    text = f"[attr]m0 linguist-vendored\n{chain}*.x m{MAX_MACROS - 1}\n*.y m{MAX_MACROS}\n"
    repo = Repo.open(repo_maker({".gitattributes": text}))
    found = read_attributes(repo)
    assert found.declared_roles("a.x").vendored
    assert found.declared_roles("a.y") == NO_DECLARED_ROLES
    assert repo.notes == ["2 macros of .gitattributes beyond 2,000 are ignored"]


def test_a_folder_with_the_marks_of_a_virtual_environment_is_vendored(repo_maker):
    files = {
        "py/pyvenv.cfg": "home = /usr\n",
        "py/bin/tool": "x\n",
        "conda/conda-meta/history": "x\n",
        "pyvenv.cfg": "x\n",
    }
    found = read_attributes(Repo.open(repo_maker(files)))
    assert found.declared_roles("py/bin/tool") == DeclaredRoles(vendored=True, reason="py/ is a virtual environment")
    assert found.declared_roles("conda/lib/a.py").vendored
    assert found.declared_roles("main.py") == NO_DECLARED_ROLES
    files[".gitattributes"] = "py/** -linguist-vendored\n"
    assert read_attributes(Repo.open(repo_maker(files))).declared_roles("py/bin/tool").vendored is False
