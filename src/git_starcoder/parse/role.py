"""What a file is for, from its path, its text, and what the repository's own `.gitattributes` say of it.

What `.gitattributes` say (`linguist-vendored`, `linguist-generated`, `linguist-documentation`) goes before our rules.
Of those the first that holds decides:

1. `vendored`, 2. `generated`: `git_starcoder.parse.origin`.
3. `test`: in a folder for tests, or named as one. Tests stay tests wherever they are, and so do their fixtures.
   Tests inside a source file do not make it one.
4. `docs`, 5. `configuration`: by folder (`docs/`), extension or name.
6. `utility`: scripts and tools, examples and benchmarks, by the outermost folder that says anything; build scripts by
   name; shell scripts and other text that is not in a source folder.
7. `core`: the rest. That is code in `src/`, `crates/`, `lib/`, …, and also code in folders that say nothing: a Go,
   Python or Java repository without `src/` has its package at the top, and that is what it is about.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.parse import origin
from git_starcoder.parse.language import TEXT, language_of
from git_starcoder.records import FOREIGN_ROLES, NO_DECLARED_ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.records import DeclaredRoles, Role

ATTRIBUTE = "linguist-{} in .gitattributes"
MOST_PATH = 4_096
"""Characters of a path that are looked at."""
LONGEST = 255
"""Characters of a name that are looked at; a repository may hold longer ones, a file system may not."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_GENERATED = _words("target dist htmlcov")
"""Folders of build outputs, but for those below `src/`, where these are words like any other."""
_TEST = _words("test tests testing testdata test-data test_data __tests__ __mocks__ spec specs fixtures e2e")
_TEST_NAME = re.compile(
    r"(test_.*|.*_test|conftest|tests?)\.pyi?|(.*_)?tests?\.rs|.*_test\.(go|c|cc|cpp|rb|exs)|.*\.(test|spec)\.[cm]?[jt]sx?"
    r"|.*(_unittest|-test|_spec)\.\w+"
)
_TEST_CLASS = re.compile(r"(?:.*[a-z0-9])?(?:Test|Tests|TestCase|IT)\.(?:java|kt|scala|cs)|Test[A-Z]\w*\.(?:java|kt)")
_DOCS = _words("doc docs documentation man")
_DOCS_NAME = re.compile(
    r".*\.(md|mdx|markdown|rst|adoc|asciidoc|tex|org|pod|[1-9]|html?)|(?!cmakelists|requirements|constraints).*\.txt"
    r"|(readme|(un)?licen[sc]e|copying|notice)([-._].*)?|authors|contributors|changelog|changes|history|news|todo|install"
    r"|codeowners|maintainers"
)
_CONFIGURATION_NAME = re.compile(
    r".*\.(toml|ya?ml|json5?|jsonc|jsonl|ini|cfg|conf|config|properties|xml|env|editorconfig|plist|csv|tsv|mod|work|gradle|"
    r"kts|cmake|nix|bazel|bzl|tf|tfvars|hcl|service)|\..*|.*\.config\.[cm]?[jt]s|(gnu)?makefile|(cmakelists|requirements.*|constraints.*)\.txt|dockerfile.*|"
    r"jenkinsfile|vagrantfile|procfile|justfile|gemfile|rakefile|build|workspace|pipfile"
)
_UTILITY = _words(
    "scripts script tools tool examples example benches bench benchmark benchmarks demo demos samples "
    "sample hack contrib ci .github .circleci .gitlab fuzz xtask devtools misc etc"
)
_UTILITY_NAME = re.compile(r"(setup|noxfile|tasks|fabfile|manage)\.py|build\.rs|(gulpfile|gruntfile)\.[cm]?js")
_ALWAYS_UTILITY = _words("examples example benches")
"""Cargo's own folders, which are beside `src/` in a crate and so below `crates/`."""
_CORE = _words("src crates lib libs pkg packages internal cmd app apps source sources include core modules")
_CODE = _words(
    ".rb .php .swift .kt .scala .cs .fs .vb .lua .ex .exs .erl .hs .ml .mli .jl .r .dart .zig .nim .v .sv "
    ".vhd .clj .lisp .el .scm .pl .pm .m .mm .f90 .f .pas .d .vue .svelte .sol .proto .sql .graphql .cu "
    ".glsl .wgsl .asm .s"
)


class Judged(NamedTuple):
    """A role, and the rule it follows from where that is worth telling."""

    role: Role
    rule: str = ""


def role_of(path: str, language: str, text: bytes, said: DeclaredRoles = NO_DECLARED_ROLES) -> Role:
    """The role of a file; see `judge`."""
    return judge(path, language, text, said).role


def unread_by_path(said: Callable[[str], DeclaredRoles]) -> Callable[[str], str]:
    """A function from a path to why no change of it is read: `generated`, `vendored`, or "". Texts may say more."""

    @lru_cache(1 << 14)  # a file changes many times
    def skip(path: str) -> str:
        role = role_of(path, language_of(path), b"", said(path))
        return role if role in FOREIGN_ROLES else ""

    return skip


def judge(path: str, language: str, text: bytes, said: DeclaredRoles = NO_DECLARED_ROLES) -> Judged:
    """The role of a file and why it has it. Without a text, what its path says. `said` is what the repository says."""
    path = path[-MOST_PATH:]
    *names, file = path.split("/")
    file = file[-LONGEST:]
    lower, small = [name.lower() for name in names], file.lower()
    if strange := _strange(path, lower, text, said):
        return strange
    code = language != TEXT or posixpath.splitext(small)[1] in _CODE
    if said.documentation:
        return Judged("docs", ATTRIBUTE.format("documentation"))
    if not _TEST.isdisjoint(lower) or _TEST_NAME.fullmatch(small) or _TEST_CLASS.fullmatch(file):
        return Judged("test")
    if said.documentation is None and _is_docs(path, lower, small, code=code):
        return Judged("docs")
    if _CONFIGURATION_NAME.fullmatch(small) and (not code or ".config." in small):
        return Judged("configuration")
    return Judged(_core_or_utility(lower, small, code=code))


def _strange(path: str, folders: list[str], text: bytes, said: DeclaredRoles) -> Judged | None:
    """Vendored or generated, if the file is one of them."""
    if said.vendored:
        return Judged("vendored", said.reason or ATTRIBUTE.format("vendored"))
    if said.vendored is None and (rule := origin.vendored(path, text)):
        return Judged("vendored", rule)
    if said.generated:
        return Judged("generated", ATTRIBUTE.format("generated"))
    if said.generated is not None:
        return None
    outside = folders[: folders.index("src")] if "src" in folders else folders
    if not _GENERATED.isdisjoint(outside):
        return Judged("generated", "a folder of build outputs")
    rule = origin.generated(path, text)
    return Judged("generated", rule) if rule else None


def _is_docs(path: str, folders: list[str], file: str, *, code: bool) -> bool:
    if not _DOCS.isdisjoint(folders[:1]):
        return True
    if not code:
        return _DOCS_NAME.fullmatch(file) is not None or bool(origin.documentation(path))
    return "src" not in folders and bool(origin.documentation(path[: path.rfind("/") + 1]))


def _core_or_utility(folders: list[str], file: str, *, code: bool) -> Role:
    outside = folders[: folders.index("src")] if "src" in folders else folders
    said = next((name for name in folders if name in _UTILITY or name in _CORE), "")
    if said in _UTILITY or not _ALWAYS_UTILITY.isdisjoint(outside) or _UTILITY_NAME.fullmatch(file):
        return "utility"
    if file.endswith((".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".awk")):
        return "utility"
    return "core" if code or said else "utility"
