"""analyse: Source → Unit, with symbols, imports, role and difficulty.

Parsing happens in supervised workers, some 200 KB to a message. When one fails, its files are tried again one by one,
so that only the file at fault is used as plain text. Imports are resolved here, when all are known.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.memo import Memo
from git_starcoder.parse import difficulty
from git_starcoder.parse.imports import Resolved, imports_of, resolve
from git_starcoder.parse.language import TEXT, load
from git_starcoder.parse.resolve import Import  # noqa: TC001 - the memo of facts looks at their types
from git_starcoder.parse.role import judge
from git_starcoder.parse.starts import starts
from git_starcoder.parse.symbols import symbols_of
from git_starcoder.parse.tree import captures, parse
from git_starcoder.protocols import Failure
from git_starcoder.records import ParseStatus, Role, Source, Span, Symbol, Unit, content_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.recipe import AnalyseOptions

BATCH = 200_000
"""Bytes of text in a message to a worker, about."""
GROUP = 16
"""Messages that go out together, and failures after which no more do."""
SECONDS = 20.0
"""For a message, or for a file alone. A parse is bounded by counts; this is for what the counts do not see."""
TABLES = ("symbols", "imports", "difficulty", "types", "errors")
"""Tables of a language whose queries are run, in one walk over the tree."""

NOTES = 5
"""Failures that are told one by one."""

Key = tuple[str, Span]
"""A language and where a text is."""


class Facts(NamedTuple):
    """What a worker finds in one text."""

    tree: ParseStatus
    difficulty: float
    symbols: tuple[Symbol, ...] = ()
    imports: tuple[Import, ...] = ()
    type_density: float = 0.0
    error_patterns: int = 0
    starts: bytes = b""
    """See `Sample.starts`."""
    refused: str = ""
    """The limit that the text met, if it has no tree for that."""


def analyse_sources(build: BuildState, options: AnalyseOptions, sources: list[Source]) -> list[Unit]:
    """Each source, understood, in the same order; less those whose role is to be skipped."""
    with build.count_step("analyse", len(sources)) as step:
        kept: list[tuple[Source, Role]] = []
        for source in sources:
            role, rule = judge(source.path, source.language, build.texts.get(source.text), source.declared_roles)
            if role in options.skip:
                step.drop(source.path, role, rule)
            else:
                kept.append((source, role))
        facts = _all_facts(build, step, [source for source, _ in kept])
        known = {source.path: source.text for source in sources}
        imports = {source.path: (source.language, fact.imports) for (source, _), fact in zip(kept, facts, strict=True)}
        resolved = resolve(imports, frozenset(known), lambda path: build.texts.get(known[path]))
        units = [
            Unit(
                source=source,
                parse_status=fact.tree,
                role=role,
                difficulty=fact.difficulty,
                symbols=fact.symbols,
                imports=resolved[source.path].targets if source.path in resolved else (),
                type_density=fact.type_density,
                error_patterns=fact.error_patterns,
                window_starts=build.texts.put(fact.starts),
            )
            for (source, role), fact in zip(kept, facts, strict=True)
        ]
        _tell(step, units, resolved)
    return units


def _all_facts(build: BuildState, step: StepCounts, sources: Sequence[Source]) -> list[Facts]:
    """The facts of each source. Equal texts of one language are looked at once."""
    copies = Counter((source.language, source.text) for source in sources)
    found: dict[Key, Facts] = {}
    failed: dict[Key, Failure] = {}

    def learn(key: Key, facts: Facts) -> None:
        found[key] = facts
        step.keep(copies[key])

    for key in copies:
        if key[0] == TEXT:
            learn(key, _plain(build.texts.get(key[1])))
    memo: Memo[Facts] = Memo(build.cache, "facts", Facts)
    inputs = {key: (key[0], content_id(build.texts.get(key[1]))) for key in copies if key[0] != TEXT}
    for key, facts in zip(inputs, memo.get(list(inputs.values())), strict=True):
        if facts is not None:
            learn(key, facts)
    again: list[list[Key]] = []
    for batch, answers in _ask(build, list(_batches([key for key in inputs if key not in found]))):
        if isinstance(answers, Failure):
            again += [[key] for key in batch]
        else:
            memo.put([(inputs[key], facts) for key, facts in zip(batch, answers, strict=True)])
            for key, facts in zip(batch, answers, strict=True):
                learn(key, facts)
    for (key,), answers in _ask(build, again):
        if isinstance(answers, Failure):
            failed[key] = answers
            learn(key, _plain(build.texts.get(key[1])))
        else:
            learn(key, answers[0])
    _tell_failed(build, step, sources, failed)
    for refused, count in sorted(Counter(facts.refused for facts in found.values() if facts.refused).items()):
        step.figures[f"not_parsed_{refused}"] = count
    return [found[source.language, source.text] for source in sources]


def _ask(build: BuildState, batches: Sequence[list[Key]]) -> Iterator[tuple[list[Key], list[Facts] | Failure]]:
    """The answer of a worker to each batch.

    A hostile repository may have any number of files over which workers die, and each may take all its seconds. So
    batches go out in groups, and after a group's worth of failures nobody asks any more: in groups, so that who is
    still asked does not depend on the number of workers.
    """
    failures = 0
    for first in range(0, len(batches), GROUP):
        group = batches[first : first + GROUP]
        if failures >= GROUP:
            yield from ((batch, Failure("given_up")) for batch in group)
            continue
        tasks = ([(language, build.texts.get(span)) for language, span in batch] for batch in group)
        for batch, answer in zip(group, build.engine.map(facts_of, tasks, limit=SECONDS), strict=True):
            failures += isinstance(answer, Failure)
            yield batch, answer


def _batches(keys: Sequence[Key]) -> Iterator[list[Key]]:
    batch: list[Key] = []
    size = 0
    for key in keys:
        batch.append(key)
        size += key[1].stop - key[1].start
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def facts_of(texts: list[tuple[str, bytes]]) -> list[Facts]:
    """What there is to know about each text of a language, from its tree. Runs in a worker."""
    return [_facts(language, data) for language, data in texts]


def _facts(key: str, data: bytes) -> Facts:
    code = parse(data, key)
    if code.root is None:
        return _plain(data)._replace(refused=code.refused)
    found = captures(code, *(table for table in TABLES if table in load(key).table))
    lines = difficulty.lines_of(data)
    return Facts(
        tree="clean" if code.clean else "errors",
        difficulty=difficulty.of_code(found, lines),
        symbols=symbols_of(code, found),
        imports=imports_of(code, found),
        type_density=round(len(found.get("type", ())) / max(1, lines), 6),
        error_patterns=len(found.get("error", ())),
        starts=starts(code),
    )


def _plain(data: bytes) -> Facts:
    return Facts("none", difficulty.of_text(data))


def _tell_failed(build: BuildState, step: StepCounts, sources: Sequence[Source], failed: dict[Key, Failure]) -> None:
    """A line for the user about each file whose parser failed, as long as they are few."""
    lost = [(source.path, failed[key]) for source in sources if (key := (source.language, source.text)) in failed]
    for path, failure in lost[:NOTES]:
        build.progress.note(f"{path!a} is used as plain text: parser {failure.kind} {failure.detail}".rstrip())
    if len(lost) > NOTES:
        build.progress.note(f"so are {len(lost) - NOTES} more files")
    for kind, count in sorted(Counter(failure.kind for _, failure in lost).items()):
        step.figures[f"parser_{kind}"] = count


def _tell(step: StepCounts, units: Sequence[Unit], resolved: dict[str, Resolved]) -> None:
    """Figures for the manifest."""
    graph = {path for unit in units for path in (unit.source.path, *unit.imports) if unit.imports}
    step.figures["functions"] = sum(symbol.kind == "function" for unit in units for symbol in unit.symbols)
    step.figures["imports_resolved"] = sum(one.resolved for one in resolved.values())
    step.figures["imports_unresolved"] = sum(one.unresolved for one in resolved.values())
    step.figures["graph_edges"] = sum(len(unit.imports) for unit in units)
    step.figures["graph_nodes"] = len(graph)
    for tree, count in sorted(Counter(unit.parse_status for unit in units).items()):
        step.figures[f"trees_{tree}"] = count
    for language, count in sorted(Counter(unit.source.language for unit in units).items()):
        step.figures[f"files_{language}"] = count
    for role, count in sorted(Counter(unit.role for unit in units).items()):
        step.figures[f"role_{role}"] = count
