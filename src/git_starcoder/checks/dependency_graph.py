"""The import graph names files of the dataset, in their splits, and rows say whether their file has imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.checks import Skip, objects, place
from git_starcoder.records import Finding, printable_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from git_starcoder.checks import Given, RowBlock
    from git_starcoder.git.objects import Repo
    from git_starcoder.records import Split

SEEDS = ("test_dependency_graph_built",)
FILE = "imports.jsonl"


class Check:
    """A finding for each edge or row that does not fit; the figure is nodes and edges, counted."""

    def __init__(self, given: Given) -> None:
        self._given, self._dataset, self._source = given, given.dataset, given.source
        self._split: dict[str, Split] = {}
        self._has: dict[str, tuple[bool, str]] = {}
        self.figure: str | Skip = ""

    def block(self, split: Split, block: RowBlock) -> Iterable[Finding]:
        """Remember each file's split, and whether it is said to import others."""
        for row, said in zip(block.rows, block.metadata, strict=True):
            path = said["source_file"]
            if path not in self._has and not said.get("is_evolution"):
                self._split[path] = split
                self._has[path] = said["has_dependencies"], place(self._dataset, split, row)
        return ()

    def end(self) -> Iterator[Finding]:
        """Read the edges, compare them with rows, metadata and commit."""
        edges: dict[tuple[str, str], int] = {}
        for number, edge in objects(self._dataset, FILE, ("from", "to", "from_split", "to_split")):
            if wrong := edge if isinstance(edge, str) else self._wrong(edge, edges):
                yield Finding("dependency_graph", f"{FILE}:{number}", wrong)
            if not isinstance(edge, str):
                edges[str(edge["from"]), str(edge["to"])] = number
        importing = {importer for importer, _ in edges}
        nodes = importing | {imported for _, imported in edges}
        for path, (has, where) in sorted(self._has.items()):
            if has != (path in importing):
                told = "has" if has else "has no"
                yield Finding("dependency_graph", where, f"{path} {told} dependencies, {FILE} says otherwise")
        for key, counted in (("dependency_graph_nodes", len(nodes)), ("dependency_graph_edges", len(edges))):
            if (said := self._dataset.metadata.get(key)) != counted:
                yield Finding("dependency_graph", "dataset_metadata.json", f"{key} is {said}, not {counted}")
        if self._source:
            yield from self._of_source(self._source, edges)
        self.figure = f"{len(nodes):,} files, {len(edges):,} imports between them"
        if not edges:
            self.figure = Skip("no file imports another of the repository")

    def _of_source(self, source: Repo, edges: Mapping[tuple[str, str], int]) -> Iterator[Finding]:
        there = {printable_path(entry.path) for entry in source.entries()}
        for (importer, imported), number in edges.items():
            for path in sorted({importer, imported} - there):
                if not path.startswith(self._given.unopened):
                    yield Finding("dependency_graph", f"{FILE}:{number}", f"{path} is no file of the commit")

    def _wrong(self, edge: Mapping[str, Any], before: Mapping[tuple[str, str], int]) -> str:
        """What is wrong with an edge, or ""."""
        ends = str(edge["from"]), str(edge["to"])
        if ends in before:
            return f"the same edge as line {before[ends]}: {' → '.join(ends)}"
        for path, split in zip(ends, (edge["from_split"], edge["to_split"]), strict=True):
            if split is not None and self._split.get(path, split) != split:
                return f"{path} is in {self._split[path]}, not in {split}"
        return ""
