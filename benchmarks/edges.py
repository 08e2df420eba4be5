"""Is the import graph right? Prints samples of it for a person to judge.

    python benchmarks/edges.py REPOSITORY [--edges 100] [--statements 120] [--seed 0]

Edges: file, line and text of each statement that gave the edge, and the target. Wrong ones over all is the error of
the graph. Statements: what a regular expression finds in the text, so that it does not depend on our grammars, with
what each name came to, `-` for nothing. Those that a reader would resolve to a file of the repository and that came to
nothing are what the graph misses. A go.mod package is all of its files: judge the folder.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from git_starcoder.build_state import BuildState
from git_starcoder.engine.local import LocalEngine
from git_starcoder.git.objects import Repo
from git_starcoder.parse.imports import DECLARATION_KINDS, Import, RepositoryFiles, extract_imports
from git_starcoder.parse.language import PLAIN_TEXT, language_table
from git_starcoder.parse.tree import parse, run_queries
from git_starcoder.recipe import AnalyseOptions, ReadOptions
from git_starcoder.stages import analyse, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.records import Unit

JAVASCRIPT = (
    r"""^[ \t]*(?:import\b(?:[^;'"]*?\bfrom\b)?|export\b[^;'"]*?\bfrom\b)\s*['"][^'"\n]+['"]"""
    r"""|\b(?:require|import)\(\s*['"][^'"\n]+['"]\s*\)"""
)
INCLUDE = r"""^[ \t]*#[ \t]*include[ \t]*[<"][^>"\n]+[>"]"""
STATEMENTS = {
    "rust": r"^[ \t]*(?:#\[path[^\n]*\n[ \t]*)?(?:pub(?:\([^)]*\))?\s+)?(?:use\s[^;]*;|extern\s+crate\s[^;]*;|mod\s+\w+\s*;)",
    "python": r"^[ \t]*(?:from\s+[\w.]+\s+import\s*(?:\([^)]*\)|[^\n]+)|import\s+[^\n]+)",
    "go": r'^(?:import\s+|\t)(?:[\w.]+\s+)?"[^"\n]+"[ \t]*$',
    "java": r"^import\s[^;]*;",
    "javascript": JAVASCRIPT, "typescript": JAVASCRIPT, "tsx": JAVASCRIPT,
    "c": INCLUDE, "cpp": INCLUDE,
}  # fmt: skip


class Graph:
    """The imports of a repository, and what they come to."""

    def __init__(self, run: BuildState, units: list[Unit], paths: frozenset[str]) -> None:
        self.units = {unit.path: unit for unit in units if unit.language != PLAIN_TEXT}
        self.text = {path: run.texts.get(unit.source.text).decode() for path, unit in self.units.items()}
        self.imports = {path: self.of_text(unit.language, self.text[path]) for path, unit in self.units.items()}
        texts = {unit.path: unit.source.text for unit in units}
        families: dict[str, dict[str, tuple[Import, ...]]] = {}
        for path, unit in self.units.items():
            families.setdefault(language_table(unit.language)["imports"]["resolver"], {})[path] = self.imports[path]
        self.find = {
            name: import_module(f"git_starcoder.parse.imports.{name}").create_resolver(
                RepositoryFiles(lambda path: run.texts.get(texts[path]) if path in texts else b"", paths, files)
            )
            for name, files in families.items()
        }

    @staticmethod
    def of_text(language: str, text: str) -> tuple[Import, ...]:
        """The imports in a text."""
        code = parse(text.encode(), language)
        return () if code.root is None else extract_imports(code, run_queries(code, "imports"))

    def targets(self, path: str, what: Import) -> tuple[str, ...]:
        """What an import of a file comes to."""
        return self.find[language_table(self.units[path].language)["imports"]["resolver"]](path, what) or ()

    def doubt(self, names: list[str], target: str) -> str:
        """A mark for the reader where the target has none of the words that the names end with."""
        last = {re.split(r"\W+", name.removesuffix("::self").removesuffix("::*").rstrip("/"))[-1] for name in names}
        stem = Path(target).stem
        return (
            "" if any(re.search(rf"\b{word}\b", self.text.get(target, "")) or word == stem for word in last) else " ?"
        )

    def statements(self, path: str) -> Iterator[tuple[int, str, list[tuple[str, tuple[str, ...]]]]]:
        """Line, text, and each name with its targets, of all that looks like an import of a file."""
        language = self.units[path].language
        for match in re.finditer(STATEMENTS[language], self.text[path], re.MULTILINE):
            said = " ".join(match[0].split())
            whole = f"import {said}" if language == "go" and not said.startswith("import") else match[0]
            alone = {(what.kind, what.name) for what in self.of_text(language, whole)}
            found = [
                what
                for what in self.imports[path]
                if (what.kind, what.name) in alone and what.kind not in DECLARATION_KINDS
            ]
            begun = match.start() + len(match[0]) - len(match[0].lstrip())
            line = self.text[path].count("\n", 0, begun) + 1
            yield line, said, [("::".join((*what.names, what.name)), self.targets(path, what)) for what in found]


def main() -> None:
    """Print both samples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository")
    parser.add_argument("--edges", type=int, default=100)
    parser.add_argument("--statements", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    repo = Repo.open(arguments.repository)
    with tempfile.TemporaryDirectory() as folder, LocalEngine() as engine, BuildState(Path(folder), 0, engine) as run:
        sources, _ = read.read_repository(run, ReadOptions(), repo)
        units = analyse.analyse_sources(run, AnalyseOptions(), sources)
        graph = Graph(run, units, frozenset(source.path for source in sources))
        edges = sorted((unit.path, target) for unit in units for target in unit.imports)
        print(f"{repo.name}: {len(edges)} edges; {run.steps[1].figures}")
        for number, (path, target) in enumerate(chance.sample(edges, min(arguments.edges, len(edges))), 1):
            print(f"\nedge {number}: {path} -> {target}")
            gave = [one for one in graph.statements(path) if any(target in targets for _, targets in one[2])]
            for line, said, names in gave:
                taken = [name for name, targets in names if target in targets]
                print(f"    {line}: {said[:160]}    [{', '.join(taken)[:160]}]{graph.doubt(taken, target)}")
            if not gave:
                print(f"    {[what for what in graph.imports[path] if target in graph.targets(path, what)]}")
        places = [(path, one) for path in sorted(graph.units) for one in graph.statements(path)]
        print(f"\n{len(places)} statements")
        drawn = chance.sample(places, min(arguments.statements, len(places)))
        for number, (path, (line, said, names)) in enumerate(drawn, 1):
            print(f"\nstatement {number}: {path}:{line}: {said[:200]}")
            for name, targets in names:
                print(f"    {name} -> {' '.join(targets[:4]) or '-'}")
            if not names:
                print("    not seen")


if __name__ == "__main__":
    main()
