"""What a file is for, from its path and the head of its text.

The first rule that holds decides:

1. `vendored`: in a folder that is other people's by convention (`vendor/`, `third_party/`, `node_modules/`, …), or a
   well-known copied tool (`gradlew`, jQuery).
2. `generated`: a build output, lock file, minified file or compiled schema by path, or a comment near the top that
   says so (`Code generated … DO NOT EDIT`, `@generated`, …).
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
from typing import TYPE_CHECKING

from git_starcoder.parse.language import TEXT

if TYPE_CHECKING:
    from git_starcoder.rows import Role

HEAD = 2_048
"""Bytes of a text that are looked at."""
LONGEST = 255
"""Characters of a name that are looked at; a repository may hold longer ones, a file system may not."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VENDORED = _words(
    "vendor vendored third_party third-party thirdparty 3rdparty node_modules bower_components _vendor "
    "godeps carthage pods"
)
_VENDORED_NAME = re.compile(
    r"gradlew(\.bat)?|mvnw(\.cmd)?|jquery[-.\d]*(\.slim)?\.js|bootstrap[-.\d]*\.(js|css)|d3(\.v\d+)?\.js"
)
_GENERATED = _words("target dist __pycache__ .next .nuxt .gradle .tox .fingerprint htmlcov")
_GENERATED_NAME = re.compile(
    r".*\.min\.(js|css|mjs)|.*\.(js|css)\.map|.*\.pb\.(go|cc|h)|.*_pb2(_grpc)?\.pyi?|.*_pb\.(js|d\.ts)|.*\.g\.dart"
    r"|.*[._]generated\.\w+|zz_generated.*|.*\.designer\.cs|.*\.lock|package-lock\.json|npm-shrinkwrap\.json"
    r"|pnpm-lock\.yaml|go\.sum|gopkg\.lock|.*\.snap"
)
_GENERATED_HEAD = re.compile(
    rb"^[ \t]*(?://|#|/?\*|--|;|%|<!--|\"\"\").{0,200}?"
    rb"(?:@generated\b|\bgenerated\b.*\bdo not (?:edit|modify)\b|\bdo not (?:edit|modify)\b.*\bgenerated\b"
    rb"|\bthis (?:file|code) (?:is|was|has been) (?:auto-?|automatically )?generated\b)"
    rb"|<!--[^>]{0,80}\bgenerated (?:by|using|with)\b|<meta name=\"generator\"",
    re.IGNORECASE | re.MULTILINE,
)
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


def role_of(path: str, language: str, head: bytes) -> Role:
    """The role of a file; `head` is the beginning of its text."""
    *names, file = path.split("/")
    file = file[-LONGEST:]
    lower, small = [name.lower() for name in names], file.lower()
    if not _VENDORED.isdisjoint(lower) or _VENDORED_NAME.fullmatch(small):
        return "vendored"
    if _is_generated(lower, small, head[:HEAD]):
        return "generated"
    if not _TEST.isdisjoint(lower) or _TEST_NAME.fullmatch(small) or _TEST_CLASS.fullmatch(file):
        return "test"
    code = language != TEXT or posixpath.splitext(small)[1] in _CODE
    if not _DOCS.isdisjoint(lower[:1]) or (not code and _DOCS_NAME.fullmatch(small)):
        return "docs"
    if _CONFIGURATION_NAME.fullmatch(small) and (not code or ".config." in small):
        return "configuration"
    return _core_or_utility(lower, small, code=code)


def _is_generated(folders: list[str], file: str, head: bytes) -> bool:
    # Below a source folder, `target` and `dist` are words like any other.
    outside = folders[: folders.index("src")] if "src" in folders else folders
    if not _GENERATED.isdisjoint(outside) or _GENERATED_NAME.fullmatch(file):
        return True
    return b"generat" in head.lower() and _GENERATED_HEAD.search(head) is not None  # the word costs less than the form


def _core_or_utility(folders: list[str], file: str, *, code: bool) -> Role:
    outside = folders[: folders.index("src")] if "src" in folders else folders
    said = next((name for name in folders if name in _UTILITY or name in _CORE), "")
    if said in _UTILITY or not _ALWAYS_UTILITY.isdisjoint(outside) or _UTILITY_NAME.fullmatch(file):
        return "utility"
    if file.endswith((".sh", ".bash", ".zsh", ".fish", ".ps1", ".bat", ".cmd", ".awk")):
        return "utility"
    return "core" if code or said else "utility"
