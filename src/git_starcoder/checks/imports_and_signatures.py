"""Checks of the import graph and the signatures, and of the contexts that are made from them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from git_starcoder.checks.base import Check, read_json_lines
from git_starcoder.dataset.folder import path_in_repository
from git_starcoder.records import dataset_path, printable_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.dataset.samples import RebuiltSample
    from git_starcoder.records import Finding

IMPORT_GRAPH_FILE = "imports.jsonl"
SIGNATURE_LIST_FILE = "signatures.jsonl"
REQUIRED_SIGNATURE_KEYS = (
    "path", "line", "name", "owner", "kind", "signature", "visibility", "language", "role", "split",
)  # fmt: skip
SYMBOL_KINDS = ("function", "type", "constant")


class DependencyGraphCheck(Check):
    """Reports each import or row that does not fit the import graph. The figure is its numbers of files and imports."""

    name = "dependency_graph"
    promise = "The import graph contains only files of the dataset, and has_dependencies of rows agrees with it."

    def finish(self) -> Iterator[Finding]:
        """Compare the import graph with the rows, the metadata and the commit."""
        line_of_edge: dict[tuple[str, str], int] = {}
        for number, edge in read_json_lines(self.dataset, IMPORT_GRAPH_FILE, ("from", "to", "from_split", "to_split")):
            problem = edge if isinstance(edge, str) else self._edge_problem(edge, line_of_edge)
            if problem:
                yield self.finding(f"{IMPORT_GRAPH_FILE}:{number}", problem)
            if not isinstance(edge, str):
                line_of_edge[str(edge["from"]), str(edge["to"])] = number
        importers = {importer for importer, _ in line_of_edge}
        files = importers | {imported for _, imported in line_of_edge}
        for path, sample in sorted(self.context.first_sample_of_file.items()):
            has_imports = sample.metadata["has_dependencies"]
            if has_imports != (path in importers):
                has = "has" if has_imports else "has no"
                yield self.sample_finding(sample, f"{path} {has} dependencies, {IMPORT_GRAPH_FILE} says otherwise")
        counts = {"dependency_graph_nodes": len(files), "dependency_graph_edges": len(line_of_edge)}
        yield from self.metadata_findings(counts)
        if self.context.repository and self.context.training_repository:
            entries = (*self.context.repository.entries(), *self.context.training_repository.entries())
            existing_paths = {printable_path(entry.path) for entry in entries}
            for edge, number in line_of_edge.items():
                for path in sorted({*edge} - existing_paths):
                    if not path.startswith(self.context.unreadable_folders):
                        yield self.finding(f"{IMPORT_GRAPH_FILE}:{number}", f"{path} is no file of the commit")
        self.figure = f"{len(files):,} files, {len(line_of_edge):,} imports between them"
        if not line_of_edge:
            self.skip_reason = "no file imports another of the repository"

    def _edge_problem(self, edge: Mapping[str, Any], line_of_edge: Mapping[tuple[str, str], int]) -> str:
        """What is wrong with an edge, or ""; `line_of_edge` has the edges before it."""
        ends = str(edge["from"]), str(edge["to"])
        if ends in line_of_edge:
            return f"the same edge as line {line_of_edge[ends]}: {' → '.join(ends)}"
        for path, split in zip(ends, (edge["from_split"], edge["to_split"]), strict=True):
            sample = self.context.first_sample_of_file.get(path)
            if sample and split is not None and split != sample.split:
                return f"{path} is in {sample.split}, not in {split}"
        return ""


class SignaturesCheck(Check):
    """Reports each symbol that cannot be right. The figure is the number of symbols.

    With the repository, the name of a symbol must occur in its file.
    """

    name = "signatures"
    promise = "Every signature in signatures.jsonl is of a file of the dataset and contains the symbol's name."

    def finish(self) -> Iterator[Finding]:
        """Check each symbol."""
        function_count = symbol_count = 0
        names_of_file: dict[str, dict[str, int]] = defaultdict(dict)
        for number, symbol in read_json_lines(self.dataset, SIGNATURE_LIST_FILE, REQUIRED_SIGNATURE_KEYS):
            place = f"{SIGNATURE_LIST_FILE}:{number}"
            if isinstance(symbol, str):
                yield self.finding(place, f"not a symbol: {symbol}")
                continue
            symbol_count += 1
            function_count += symbol["kind"] == "function"
            name, path = str(symbol["name"]), str(symbol["path"])
            names_of_file[path].setdefault(name, number)
            if symbol["kind"] not in SYMBOL_KINDS:
                yield self.finding(place, f"kind is {symbol['kind']!r}")
            elif name not in str(symbol["signature"]):
                yield self.finding(place, f"the signature does not name {name}")
            about = symbol["split"], symbol["language"], symbol["role"]
            if sample := self.context.first_sample_of_file.get(path):
                in_rows = sample.split, sample.metadata["language"], sample.metadata["role"]
                if in_rows != about:
                    yield self.finding(place, f"{path} is {', '.join(in_rows)} in its rows, not {', '.join(about)}")
        yield from self.metadata_findings({"function_signatures": function_count})
        yield from self._compare_with_repository(names_of_file)
        others = f"{symbol_count - function_count:,} types and constants"
        self.figure = f"{function_count:,} functions, {others}, in {len(names_of_file):,} files"
        if not symbol_count:
            self.skip_reason = "no file declares anything that we read: see the languages shelf"

    def _compare_with_repository(self, names_of_file: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
        """Report names that do not occur in their file. Files with NUL are skipped: they may be UTF-16."""
        repository = self.context.repository
        if repository is None:
            return
        samples = self.context.first_sample_of_file
        blob_of_path = {path: samples[path].metadata.get("blob") for path in names_of_file if path in samples}
        path_of_blob = {blob: path for path, blob in blob_of_path.items() if blob}
        repository.blob_sizes(path_of_blob)
        for blob, data in repository.read_blobs(path_of_blob):
            path = path_of_blob[blob]
            if not isinstance(data, bytes) or b"\0" in data:
                continue
            for name, number in names_of_file[path].items():
                if name.isascii() and name.encode() not in data:
                    yield self.finding(f"{SIGNATURE_LIST_FILE}:{number}", f"{name} is not in {path}")


class ContextsCheck(Check):
    """Reports each context with a line that `signatures.jsonl` does not have for the file that it is shown under.

    The files of a context are those that `imports.jsonl` says; the last path is the row's own file. The figure is the
    number of lines. If the tokenizer has no `<file_sep>`, the files of a context cannot be told apart.
    """

    name = "contexts"
    promise = "A context prefix with signatures shows only declarations of files that the row's file imports."

    _line_count = 0

    def finish(self) -> Iterator[Finding]:
        """Check all contexts."""
        all_samples = self.samples.by_id.values()
        samples = [sample for sample in all_samples if sample.metadata["augmentation_type"] == "cross_file_context"]
        if not samples:
            self.skip_reason = "no row has such a context"
            return
        if "<file_sep>" not in self.samples.tokenizer.control_tokens.values():
            self.skip_reason = "the tokenizer has no <file_sep>"
            return
        declared = self._collect(SIGNATURE_LIST_FILE, "path", "signature")
        imported = self._collect(IMPORT_GRAPH_FILE, "from", "to")
        for sample in samples:
            for problem in self._context_problems(sample, declared, imported):
                yield self.sample_finding(sample, problem)
        self.figure = f"{self._line_count:,} lines of {len(samples):,} contexts"

    def _collect(self, file_name: str, key: str, value: str) -> dict[str, set[str]]:
        """The values of a JSONL file by key. Other checks report lines that are not objects."""
        values: dict[str, set[str]] = defaultdict(set)
        for _, line in read_json_lines(self.dataset, file_name, (key, value)):
            if isinstance(line, dict):
                values[str(line[key])].add(str(line[value]))
        return values

    def _context_problems(
        self, sample: RebuiltSample, declared: dict[str, set[str]], imported: dict[str, set[str]]
    ) -> Iterator[str]:
        repository, own_path = str(sample.metadata.get("repository", "")), path_in_repository(sample.metadata)
        names_of_imported = imported[dataset_path(repository, own_path)]
        *others, (_, last) = self.samples.context_parts(sample) or [("", b"")]
        if last.decode("utf-8", "replace") != f"{own_path}\n":
            yield "its file does not stand last"
        for _, part in others:
            text = part.decode("utf-8", "replace")
            # The path is the first line, unless an imported path has a newline in it.
            long_paths = [path for path in names_of_imported if "\n" in path and text.startswith(f"{path}\n")]
            path = max(long_paths, key=len, default=text.partition("\n")[0])
            lines = text[len(path) + 1 :].split("\n")
            self._line_count += len(lines)
            if dataset_path(repository, path) not in names_of_imported:
                yield f"{own_path} does not import {path}"
            elif any(line and line.strip() not in declared[dataset_path(repository, path)] for line in lines):
                yield f"{path} does not declare all that is shown of it"
