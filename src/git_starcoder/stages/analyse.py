"""The analyse step: parses each source and records its symbols, imports, role and difficulty (Source → Unit).

Parsing runs in supervised workers, about 200 KB of text per task. When a task fails, each of its files is parsed in a
task of its own, so that only the file at fault is used as plain text. Imports are resolved last, when those of all
files are known.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.parse import structure
from git_starcoder.parse.imports import Import, ResolvedImports, extract_imports, resolve_imports
from git_starcoder.parse.language import PLAIN_TEXT, load_language
from git_starcoder.parse.role import decide_role
from git_starcoder.parse.structure import extract_symbols, window_starts
from git_starcoder.parse.tree import parse, run_queries
from git_starcoder.protocols import Failure
from git_starcoder.records import ParseStatus, Role, Source, Span, Symbol, Unit, content_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import AnalyseOptions

PARSE_TASK_BYTES = 200_000
"""Bytes of text in one task, approximately: enough that sending it costs little beside parsing it."""
PARSE_TIMEOUT_SECONDS = 20.0
"""Time limit of a task. Parsing is limited by counts; this catches what the counts miss."""
TASKS_PER_ROUND = 16
"""Tasks that are sent to the workers together. After as many failed tasks, no further task is sent."""
QUERY_TABLES = ("symbols", "imports", "difficulty", "types", "errors")
"""Tables of a language file whose queries run over the syntax tree, all in one walk."""
MAX_FAILURE_NOTES = 5
"""Parser failures that get a line of their own for the user; the others are counted in one line."""

TextKey = tuple[str, Span]
"""The language of a text and its place in the text store."""


class TextFacts(NamedTuple):
    """What a worker finds out about one text."""

    parse_status: ParseStatus
    difficulty: float
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[Import, ...] = ()
    type_density: float = 0.0
    error_patterns: int = 0
    window_starts: bytes = b""
    """See `Sample.window_starts`."""
    limit_met: str = ""
    """The parser limit that the text exceeds, so that it has no tree; else empty."""


def analyse_sources(build: BuildState, options: AnalyseOptions, sources: list[Source]) -> list[Unit]:
    """The unit of each source, in the same order, without the sources whose role the recipe skips."""
    with build.count_step("analyse", len(sources)) as step:
        kept: list[tuple[Source, Role]] = []
        for source in sources:
            role, rule = decide_role(source.path, source.language, build.texts.get(source.text), source.declared_roles)
            if role in options.skip:
                step.drop(source.path, role, rule)
            else:
                kept.append((source, role))
        facts = _collect_facts(build, step, [source for source, _ in kept])
        resolved = _resolve(build, sources, [source for source, _ in kept], facts)
        units = [
            Unit(
                source=source,
                parse_status=found.parse_status,
                role=role,
                difficulty=found.difficulty,
                symbols=found.symbols,
                imports=resolved[source.id].targets if source.id in resolved else (),
                type_density=found.type_density,
                error_patterns=found.error_patterns,
                window_starts=build.texts.put(found.window_starts),
            )
            for (source, role), found in zip(kept, facts, strict=True)
        ]
        _record_figures(step, units, resolved)
    return units


def _resolve(
    build: BuildState, sources: Sequence[Source], kept: Sequence[Source], facts: Sequence[TextFacts]
) -> dict[str, ResolvedImports]:
    """The resolved imports of the sources that are kept, by id.

    What training sees of a past commit is resolved as if there were no later one.
    """
    resolved: dict[str, ResolvedImports] = {}
    for is_later in (False, True):
        files = [(file, found) for file, found in zip(kept, facts, strict=True) if (file.added is not None) == is_later]
        if files:
            # Of two versions of a path, the later one comes last.
            text_of = {source.path: source.text for source in sources if is_later or source.added is None}
            imports = {file.path: (file.language, found.imports) for file, found in files}
            found = resolve_imports(
                imports, frozenset(text_of), lambda path, texts=text_of: build.texts.get(texts[path])
            )
            resolved |= {file.id: found[file.path] for file, _ in files if file.path in found}
    return resolved


def _collect_facts(build: BuildState, step: StepCounts, sources: Sequence[Source]) -> list[TextFacts]:
    """The facts of each source. Equal texts of one language are parsed once."""
    copies = Counter((source.language, source.text) for source in sources)
    code = [key for key in copies if key[0] != PLAIN_TEXT]
    failures: dict[TextKey, Failure] = {}

    def parse_missing(missing: list[TextKey]) -> Iterator[TextFacts]:
        step.keep(len(sources) - sum(copies[key] for key in missing))
        found = _parse_in_workers(build, step, copies, missing, failures)
        return (found[key] for key in missing)

    def cache_key(key: TextKey) -> Inputs:
        return key[0], content_id(build.texts.get(key[1]))

    memo: Memo[TextFacts] = Memo(build.cache, "facts", TextFacts)
    results = memo.map(code, cache_key, parse_missing, lambda key, _: key not in failures)
    facts = dict(zip(code, results, strict=True))
    facts |= {key: _plain_text_facts(build.texts.get(key[1])) for key in copies if key[0] == PLAIN_TEXT}
    _report_failures(build, step, sources, failures)
    limits = Counter(found.limit_met for found in facts.values() if found.limit_met)
    step.figures.update({f"not_parsed_{limit}": count for limit, count in sorted(limits.items())})
    return [facts[source.language, source.text] for source in sources]


def _parse_in_workers(
    build: BuildState, step: StepCounts, copies: Counter[TextKey], keys: list[TextKey], failures: dict[TextKey, Failure]
) -> dict[TextKey, TextFacts]:
    """The facts of each text. The failure of a text that cannot be parsed even alone is added to `failures`."""
    found: dict[TextKey, TextFacts] = {}
    retries: list[list[TextKey]] = []
    batches = list(batch_by_size(keys, lambda key: key[1].stop - key[1].start, PARSE_TASK_BYTES))
    for batch, answer in _run_tasks(build, batches):
        if isinstance(answer, Failure):
            retries += [[key] for key in batch]
        else:
            found.update(zip(batch, answer, strict=True))
            step.keep(sum(copies[key] for key in batch))
    for (key,), answer in _run_tasks(build, retries):
        if isinstance(answer, Failure):
            failures[key] = answer
            answer = [_plain_text_facts(build.texts.get(key[1]))]
        found[key] = answer[0]
        step.keep(copies[key])
    return found


def _run_tasks(
    build: BuildState, batches: Sequence[list[TextKey]]
) -> Iterator[tuple[list[TextKey], list[TextFacts] | Failure]]:
    """Each batch with the answer of its worker.

    In a hostile repository any number of files may crash or stall a worker, so tasks stop after `TASKS_PER_ROUND`
    failures. They stop only between rounds, so that what is parsed does not depend on the number of workers.
    """
    failure_count = 0
    for first in range(0, len(batches), TASKS_PER_ROUND):
        batches_of_round = batches[first : first + TASKS_PER_ROUND]
        if failure_count >= TASKS_PER_ROUND:
            yield from ((batch, Failure("given_up")) for batch in batches_of_round)
            continue
        tasks = ([(language, build.texts.get(span)) for language, span in batch] for batch in batches_of_round)
        answers = build.engine.map(extract_facts, tasks, limit=PARSE_TIMEOUT_SECONDS)
        for batch, answer in zip(batches_of_round, answers, strict=True):
            failure_count += isinstance(answer, Failure)
            yield batch, answer


def extract_facts(texts: list[tuple[str, bytes]]) -> list[TextFacts]:
    """The facts of each text, which is given with its language. Runs in a worker."""
    return [_extract_facts(language, data) for language, data in texts]


def _extract_facts(language: str, data: bytes) -> TextFacts:
    code = parse(data, language)
    if code.root is None:
        return _plain_text_facts(data)._replace(limit_met=code.exceeded_limit)
    found = run_queries(code, *(table for table in QUERY_TABLES if table in load_language(language).table))
    line_count = structure.count_nonblank_lines(data)
    return TextFacts(
        parse_status="clean" if code.is_clean else "errors",
        difficulty=structure.code_difficulty(found, line_count),
        symbols=extract_symbols(code, found),
        imports=extract_imports(code, found),
        type_density=round(len(found.get("type", ())) / max(1, line_count), 6),
        error_patterns=len(found.get("error", ())),
        window_starts=window_starts(code),
    )


def _plain_text_facts(data: bytes) -> TextFacts:
    return TextFacts("none", structure.text_difficulty(data))


def _report_failures(
    build: BuildState, step: StepCounts, sources: Sequence[Source], failures: dict[TextKey, Failure]
) -> None:
    """Notes for the user about files whose parser failed, and their counts for the manifest."""
    failed = [(source.path, failures[key]) for source in sources if (key := (source.language, source.text)) in failures]
    for path, failure in failed[:MAX_FAILURE_NOTES]:
        build.progress.note(f"{path!a} is used as plain text: parser {failure.kind} {failure.detail}".rstrip())
    if len(failed) > MAX_FAILURE_NOTES:
        build.progress.note(f"{len(failed) - MAX_FAILURE_NOTES} more files are used as plain text: their parser failed")
    for kind, count in sorted(Counter(failure.kind for _, failure in failed).items()):
        step.figures[f"parser_{kind}"] = count


def _record_figures(step: StepCounts, units: Sequence[Unit], resolved: dict[str, ResolvedImports]) -> None:
    graph_paths = {path for unit in units if unit.imports for path in (unit.source.path, *unit.imports)}
    step.figures["functions"] = sum(symbol.kind == "function" for unit in units for symbol in unit.symbols)
    step.figures["imports_resolved"] = sum(imports.resolved_count for imports in resolved.values())
    step.figures["imports_unresolved"] = sum(imports.unresolved_count for imports in resolved.values())
    step.figures["graph_edges"] = sum(len(unit.imports) for unit in units)
    step.figures["graph_nodes"] = len(graph_paths)
    counts = {f"trees_{status}": n for status, n in sorted(Counter(unit.parse_status for unit in units).items())}
    counts |= {f"files_{language}": n for language, n in sorted(Counter(unit.language for unit in units).items())}
    counts |= {f"role_{role}": n for role, n in sorted(Counter(unit.role for unit in units).items())}
    step.figures.update(counts)
