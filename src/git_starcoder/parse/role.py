"""Decides the role of a file from its path, its text, and the `.gitattributes` of the repository.

`.gitattributes` (`linguist-vendored`, `linguist-generated`, `linguist-documentation`) override our rules. The first of
our rules that applies decides:

1. `vendored`, 2. `generated`: see `git_starcoder.parse.vendored_or_generated`.
3. `test`: in a folder for tests or with the name of a test. Tests and their fixtures are tests wherever they are. Tests
   inside a source file do not make it a test.
4. `docs`, 5. `configuration`: by folder (`docs/`), extension or name.
6. `utility`: scripts, tools, examples and benchmarks, by the outermost folder with a known name; build scripts by
   name; shell scripts, and other text outside of source folders.
7. `core`: the rest. That is code in `src/`, `crates/`, `lib/`, …, and code in folders with unknown names: a Go,
   Python or Java repository without `src/` has its main package at the top.
"""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.parse.language import PLAIN_TEXT, detect_language
from git_starcoder.parse.vendored_or_generated import documentation_reason, generated_reason, vendored_reason
from git_starcoder.records import FOREIGN_ROLES, NO_DECLARED_ROLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.records import DeclaredRoles, Role

MAX_PATH_CHARACTERS = 4_096
"""Characters at the end of a path that the rules see."""
MAX_FILE_NAME_CHARACTERS = 255
"""Characters at the end of a file name that the rules see; file systems allow no longer names, but a repository may."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BUILD_OUTPUT_FOLDERS = _words("target dist htmlcov")
"""Folders of build outputs. Below `src/` these are ordinary words and do not count."""
_TEST_FOLDERS = _words("test tests testing testdata test-data test_data __tests__ __mocks__ spec specs fixtures e2e")
_TEST_NAME = re.compile(
    r"(test_.*|.*_test|conftest|tests?)\.pyi?|(.*_)?tests?\.rs|.*_test\.(go|c|cc|cpp|rb|exs)|.*\.(test|spec)\.[cm]?[jt]sx?"
    r"|.*(_unittest|-test|_spec)\.\w+"
)
_TEST_CLASS = re.compile(r"(?:.*[a-z0-9])?(?:Test|Tests|TestCase|IT)\.(?:java|kt|scala|cs)|Test[A-Z]\w*\.(?:java|kt)")
_DOCS_FOLDERS = _words("doc docs documentation man")
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
_UTILITY_FOLDERS = _words(
    "scripts script tools tool examples example benches bench benchmark benchmarks demo demos samples "
    "sample hack contrib ci .github .circleci .gitlab fuzz xtask devtools misc etc"
)
_UTILITY_NAME = re.compile(r"(setup|noxfile|tasks|fabfile|manage)\.py|build\.rs|(gulpfile|gruntfile)\.[cm]?js")
_SHELL_EXTENSIONS = (".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".awk")
_CARGO_FOLDERS = _words("examples example benches")
"""Utility folders of Cargo: they are next to `src/` in a crate and therefore may be below `crates/`."""
_CORE_FOLDERS = _words("src crates lib libs pkg packages internal cmd app apps source sources include core modules")
_OTHER_CODE_EXTENSIONS = _words(
    ".rb .php .swift .kt .scala .cs .fs .vb .lua .ex .exs .erl .hs .ml .mli .jl .r .dart .zig .nim .v .sv "
    ".vhd .clj .lisp .el .scm .pl .pm .m .mm .f90 .f .pas .d .vue .svelte .sol .proto .sql .graphql .cu "
    ".glsl .wgsl .asm .s"
)
"""Extensions of code in languages that have no language file."""


class RoleDecision(NamedTuple):
    """A role, and why the file has it where that is not obvious."""

    role: Role
    reason: str = ""


def file_role(path: str, language: str, text: bytes, declared: DeclaredRoles = NO_DECLARED_ROLES) -> Role:
    """The role of a file; see `decide_role`."""
    return decide_role(path, language, text, declared).role


def foreign_role_filter(declared_roles: Callable[[str], DeclaredRoles]) -> Callable[[str], str]:
    """A function from a path to `generated`, `vendored` or "". It sees paths only; a text may reveal more."""

    @lru_cache(1 << 14)  # the same path occurs in many commits
    def foreign_role(path: str) -> str:
        role = file_role(path, detect_language(path), b"", declared_roles(path))
        return role if role in FOREIGN_ROLES else ""

    return foreign_role


def decide_role(path: str, language: str, text: bytes, declared: DeclaredRoles = NO_DECLARED_ROLES) -> RoleDecision:
    """The role of a file and why it has it. If the text is empty, only the path counts."""
    path = path[-MAX_PATH_CHARACTERS:]
    *folders, name = path.split("/")
    name = name[-MAX_FILE_NAME_CHARACTERS:]
    folders, lower_name = [folder.lower() for folder in folders], name.lower()
    if foreign := _foreign_role(path, folders, text, declared):
        return foreign
    is_code = language != PLAIN_TEXT or posixpath.splitext(lower_name)[1] in _OTHER_CODE_EXTENSIONS
    if declared.documentation:
        return RoleDecision("docs", "linguist-documentation in .gitattributes")
    if not _TEST_FOLDERS.isdisjoint(folders) or _TEST_NAME.fullmatch(lower_name) or _TEST_CLASS.fullmatch(name):
        return RoleDecision("test")
    if declared.documentation is None and _is_docs(path, folders, lower_name, is_code=is_code):
        return RoleDecision("docs")
    if _CONFIGURATION_NAME.fullmatch(lower_name) and (not is_code or ".config." in lower_name):
        return RoleDecision("configuration")
    outermost = next((folder for folder in folders if folder in _UTILITY_FOLDERS or folder in _CORE_FOLDERS), "")
    is_utility = (
        outermost in _UTILITY_FOLDERS
        or not _CARGO_FOLDERS.isdisjoint(_folders_above_src(folders))
        or _UTILITY_NAME.fullmatch(lower_name)
        or lower_name.endswith(_SHELL_EXTENSIONS)
        or not (is_code or outermost)
    )
    return RoleDecision("utility" if is_utility else "core")


def _foreign_role(path: str, folders: list[str], text: bytes, declared: DeclaredRoles) -> RoleDecision | None:
    """The decision for a vendored or generated file; None for other files."""
    if declared.vendored:
        return RoleDecision("vendored", declared.reason or "linguist-vendored in .gitattributes")
    if declared.vendored is None and (reason := vendored_reason(path, text)):
        return RoleDecision("vendored", reason)
    if declared.generated:
        return RoleDecision("generated", "linguist-generated in .gitattributes")
    if declared.generated is not None:
        return None
    if not _BUILD_OUTPUT_FOLDERS.isdisjoint(_folders_above_src(folders)):
        return RoleDecision("generated", "a folder of build outputs")
    reason = generated_reason(path, text)
    return RoleDecision("generated", reason) if reason else None


def _folders_above_src(folders: list[str]) -> list[str]:
    return folders[: folders.index("src")] if "src" in folders else folders


def _is_docs(path: str, folders: list[str], name: str, *, is_code: bool) -> bool:
    if not _DOCS_FOLDERS.isdisjoint(folders[:1]):
        return True
    if not is_code:
        return _DOCS_NAME.fullmatch(name) is not None or bool(documentation_reason(path))
    return "src" not in folders and bool(documentation_reason(path[: path.rfind("/") + 1]))
