"""The second half of the read step: what commits did to files → Change.

What a change is and which are looked at: `git_starcoder.git.changes`. Here the texts before and after are read,
decoded and redacted as those of files are, and compared in worker processes. A change goes no further where one of its
sides is no such text (the reasons of files, with `binary_change` for `binary`), and for:

- `same_text`: only line ends, encoding or byte order mark are another
- `own_output`: it is output of ours, by what is in it or by the files beside it
- `generated`, `vendored`: the role of the file, by its path and by the head of its text
- `too_many_hunks`: the change is all over the file, as one that a tool makes
- `large_edit`: none of its hunks is small enough for a row
- `not_compared`: there are too many lines that differ
"""

from __future__ import annotations

from collections import Counter
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

from git_starcoder.git.changes import changes_of
from git_starcoder.git.objects import Fault
from git_starcoder.memo import Memo
from git_starcoder.parse import own_output
from git_starcoder.parse.difficulty import of_text
from git_starcoder.parse.language import language_of
from git_starcoder.parse.own_output import Own
from git_starcoder.parse.role import judge, unread_by_path
from git_starcoder.protocols import Failure
from git_starcoder.records import FOREIGN_ROLES, NO_DECLARED_ROLES, Change, DeclaredRoles, Edit, Role, content_id
from git_starcoder.text.clean import Clean, clean, most_bytes, unfit
from git_starcoder.text.encoding import Refusal
from git_starcoder.text.hunks import Hunk, hunks
from git_starcoder.text.message import decoded, message_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.attributes import Attributes
    from git_starcoder.git.changes import FileChange
    from git_starcoder.git.history import LastChange
    from git_starcoder.git.objects import Repo
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import ReadOptions
    from git_starcoder.records import Span

BATCH = 1 << 20
"""Bytes of texts in a message to a worker, about."""
SECONDS = 60.0
"""For a message. Everything is bounded by counts; this is for what the counts do not see."""
LARGEST_EDIT = 16_384
"""Bytes of a hunk, before or after, that a row can hold: about 4096 tokens."""
MOST_HUNKS = 64
"""In one file."""
TOGETHER = 8
"""Changes of one file whose answers are one entry of the cache."""
AT_ONCE = 256
"""Entries that it is asked for together."""
PASSING = {"missing", "corrupt", "worker_crash", "worker_timeout", "worker_error"}
"""Reasons that lie in this copy of the repository or in this run, and not in the change: they are not remembered."""
FIGURES = {"notebooks": "changes_of_notebooks"}
NOTHING = Clean(b"", (), Counter(), 0.0, Counter())
REPLACED = "\ufffd".encode()
"""What stands for bytes of a message that are no character."""


class Pair(NamedTuple):
    """The texts before and after of one change, as places in those of the task; -1 for none."""

    path: str
    said: DeclaredRoles
    before: int
    after: int


class Task(NamedTuple):
    """Texts, each once, and what to compare."""

    blobs: list[bytes | Fault]
    pairs: list[Pair]
    options: ReadOptions


class Compared(NamedTuple):
    """What a change does to a text."""

    hunks: list[Hunk]
    left_out: int
    """Hunks that are too large."""
    whole: bool
    language: str
    role: Role
    difficulty: float
    secrets: frozenset[str]
    """Kinds of secrets that were taken out of either side."""
    skipped: dict[str, int]
    """What of a notebook is left out of the side after; see `notebook.Text`."""


class Result(NamedTuple):
    """Either of the two, as it is kept between builds."""

    compared: Compared | None
    refusal: Refusal | None


def read_changes(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, attributes: Attributes
) -> tuple[dict[str, LastChange], list[Change]]:
    """The last change of each file at the commit, and the changes of the history, newest first."""
    found = changes_of(repo, options.changes, options.commit_files, unread_by_path(attributes.said))
    for one in found.refused:
        many = f"{one.changes} files of " if one.changes > 1 else ""
        older = " and older ones" if one.reason == "over_budget" and not one.path else ""
        step.drop(one.path or one.commit, one.reason, f"{many}commit {one.commit}{older}", one.changes)
    messages = _messages(build, step, options, repo, found.kept)
    readable = _readable(step, options, repo, found.kept, messages)
    made: list[tuple[FileChange, Change]] = []
    secrets: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    left_out = 0
    output: dict[str, Own] = {}
    undecided: list[tuple[FileChange, Compared]] = []

    def keep(change: FileChange, result: Compared) -> None:
        nonlocal left_out
        made.append((change, _kept(build, change, result, messages[change.commit])))
        secrets.update(result.secrets)
        skipped.update(result.skipped)
        left_out += result.left_out
        step.keep()

    for change, result in _compared(build, options, repo, attributes, readable):
        if isinstance(result, Refusal):
            if result.reason == own_output.REASON:
                output[change.path] = Own(result.because)
            step.drop(change.path, result.reason, f"commit {change.commit} {result.because}".rstrip())
        elif own_output.may_be_company(change.path):  # whether it is can be told when all output is known
            undecided.append((change, result))
        else:
            keep(change, result)
    beside = own_output.companions(output, {change.path for change, _ in undecided})
    for change, result in undecided:
        if change.path in beside:
            step.drop(change.path, own_output.REASON, f"commit {change.commit} belongs to output of ours beside it")
        else:
            keep(change, result)
    made.sort(key=lambda pair: (pair[0].number, pair[0].path.encode("utf-8", "surrogateescape")))
    changes = [change for _, change in made]
    _tell(step, found.commits, changes, left_out, secrets)
    if marked := sum(attributes.said(change.path) != NO_DECLARED_ROLES for change in changes):
        step.figures["changes_marked"] = marked
    step.figures.update((FIGURES.get(kind, f"changes_{kind}"), count) for kind, count in sorted(skipped.items()))
    return found.last, changes


def _messages(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, changes: Sequence[FileChange]
) -> dict[str, Span]:
    """The message of each commit that can be read, in the text store."""
    messages: dict[str, Span] = {}
    undecodable = 0
    for name, data in repo.commits(dict.fromkeys(change.commit for change in changes)):
        if not isinstance(data, Fault):
            message = message_of(data, redacted=options.secrets != "off")
            undecodable += REPLACED in message and not decoded(data)[1]
            messages[name] = build.texts.put(message)
    if undecodable:
        step.figures["messages_undecodable"] = undecodable
    return messages


def _readable(
    step: StepCounts, options: ReadOptions, repo: Repo, changes: Sequence[FileChange], messages: dict[str, Span]
) -> list[tuple[FileChange, int]]:
    """The changes that can be read, with the bytes of their texts, so that what one makes the next one finds."""
    sizes = repo.sizes(blob for change in changes for blob in (change.before, change.after) if blob)
    readable: list[tuple[FileChange, int]] = []
    for change in changes:
        blobs = [blob for blob in (change.before, change.after) if blob]
        lost = next((blob for blob in blobs if blob not in sizes), "")
        size = max(sizes.get(blob, 0) for blob in blobs)
        if change.commit not in messages:
            step.drop(change.path, "corrupt", f"commit {change.commit} cannot be read")
        elif lost:
            fault = repo.why_unread(lost)
            step.drop(change.path, fault.reason, f"commit {change.commit}: {fault.because}")
        elif size > most_bytes(change.path, options):
            step.drop(change.path, "too_large", f"commit {change.commit}: {size} bytes")
        else:
            readable.append((change, sum(sizes[blob] for blob in blobs)))
    return sorted(readable, key=lambda pair: (pair[0].lineage or pair[0].path, pair[0].number))


def _compared(
    run: BuildState, options: ReadOptions, repo: Repo, attributes: Attributes, changes: Sequence[tuple[FileChange, int]]
) -> Iterator[tuple[FileChange, Compared | Refusal]]:
    """What each change does, in the same order: as an earlier build found it, or as a worker does."""
    memo: Memo[list[Result]] = Memo(run.cache, "changes", list[Result])
    settings = repr((options.max_bytes, options.max_line, options.mean_line, options.secrets))
    groups = list(_together(changes))
    for first in range(0, len(groups), AT_ONCE):
        some = groups[first : first + AT_ONCE]
        inputs = [
            (settings, *(part for one, _ in group for part in _input(one, attributes.said(one.path)))) for group in some
        ]
        known = memo.get(inputs)
        unknown = [pair for group, results in zip(some, known, strict=True) if results is None for pair in group]
        batches = list(_batches(unknown))
        answers = run.engine.map(compare, _tasks(repo, options, attributes, batches), limit=SECONDS)
        fresh = chain.from_iterable(map(_answers, batches, answers))
        made: list[tuple[Inputs, list[Result]]] = []
        for group, key, old in zip(some, inputs, known, strict=True):
            results = [_result(next(fresh)) for _ in group] if old is None else old
            for (change, _), result in zip(group, results, strict=True):
                yield change, cast("Compared | Refusal", result.compared or result.refusal)
            if old is None and not any(one.refusal and one.refusal.reason in PASSING for one in results):
                made.append((key, results))
        memo.put(made)


def _input(change: FileChange, said: DeclaredRoles) -> tuple[str, ...]:
    """What the answer for a change depends on, but for the settings."""
    return (change.path, change.before, change.after, *((repr(said),) if said != NO_DECLARED_ROLES else ()))


def _together(changes: Sequence[tuple[FileChange, int]]) -> Iterator[list[tuple[FileChange, int]]]:
    """Changes of one file whose answers are kept together, counted from the oldest: so a new one moves few."""
    for _, group in groupby(changes, key=lambda pair: pair[0].lineage or pair[0].path):
        mine = list(group)
        for stop in range(len(mine) % TOGETHER or TOGETHER, len(mine) + 1, TOGETHER):
            yield mine[max(0, stop - TOGETHER) : stop]


def _answers(batch: Sequence[FileChange], answer: list[Compared | Refusal] | Failure) -> list[Compared | Refusal]:
    """The answer of a worker, or why it gave none."""
    return [Refusal(f"worker_{answer.kind}", answer.detail)] * len(batch) if isinstance(answer, Failure) else answer


def _result(answer: Compared | Refusal) -> Result:
    return Result(None, answer) if isinstance(answer, Refusal) else Result(answer, None)


def _batches(changes: Sequence[tuple[FileChange, int]]) -> Iterator[list[FileChange]]:
    batch: list[FileChange] = []
    size = 0
    for change, both in changes:
        batch.append(change)
        size += both // 2  # the other half is a side of a neighbour
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tasks(
    repo: Repo, options: ReadOptions, attributes: Attributes, batches: Sequence[list[FileChange]]
) -> Iterator[Task]:
    """What the workers are to compare. No more than two batches are held; what both need is read once."""
    names = [
        dict.fromkeys(blob for change in batch for blob in (change.before, change.after) if blob) for batch in batches
    ]
    unread = [[blob for blob in here if at == 0 or blob not in names[at - 1]] for at, here in enumerate(names)]
    contents = repo.read(chain.from_iterable(unread))
    held: dict[str, bytes | Fault] = {}
    for batch, here, fresh in zip(batches, names, unread, strict=True):
        for blob in fresh:
            held[blob] = next(contents)[1]
        held = {blob: held[blob] for blob in here}
        places = {blob: at for at, blob in enumerate(held)}
        pairs = [
            Pair(change.path, attributes.said(change.path), places.get(change.before, -1), places[change.after])
            for change in batch
        ]
        yield Task(list(held.values()), pairs, options)


def compare(task: Task) -> list[Compared | Refusal]:
    """What each change does. For worker processes."""
    texts = [_side(data, task.options) for data in task.blobs]
    return [
        _compare(pair, NOTHING if pair.before < 0 else texts[pair.before], texts[pair.after], task.options)
        for pair in task.pairs
    ]


def _side(data: bytes | Fault, options: ReadOptions) -> Clean | Refusal:
    if isinstance(data, Fault):
        return Refusal(data.reason, data.because)
    if own := own_output.recognise(data):
        return Refusal(own_output.REASON, own.what)
    text = clean(data, options)
    return text._replace(reason="binary_change") if isinstance(text, Refusal) and text.reason == "binary" else text


def _compare(pair: Pair, before: Clean | Refusal, after: Clean | Refusal, options: ReadOptions) -> Compared | Refusal:
    path = pair.path
    if isinstance(before, Refusal):
        if before.reason != "empty":
            return before
        before = NOTHING
    if isinstance(after, Refusal):
        return after
    if refusal := (before is not NOTHING and unfit(path, before, options)) or unfit(path, after, options):
        return refusal
    if before.text == after.text:
        return Refusal("same_text")
    language = language_of(path, after.text)
    role, rule = judge(path, language, after.text, pair.said)
    if role in FOREIGN_ROLES:
        return Refusal(role, rule)
    found = hunks(before.text, after.text)
    if found is None:
        return Refusal("not_compared")
    if len(found) > MOST_HUNKS:
        return Refusal("too_many_hunks", f"{len(found)} hunks")
    kept = [hunk for hunk in found if max(len(hunk.before), len(hunk.after)) <= LARGEST_EDIT]
    if not kept:
        return Refusal("large_edit", f"{max(len(found[0].before), len(found[0].after))} bytes")
    return Compared(
        hunks=kept,
        left_out=len(found) - len(kept),
        whole=kept == [Hunk(before.text, after.text, 1)],
        language=language,
        role=role,
        difficulty=of_text(b"".join(hunk.after for hunk in kept)),
        secrets=frozenset(before.secrets) | frozenset(after.secrets),
        skipped=dict(after.skipped),
    )


def _kept(build: BuildState, change: FileChange, result: Compared, message: Span) -> Change:
    return Change(
        id=content_id(change.commit, change.path),
        path=change.path,
        former_path=change.former,
        current_path=change.lineage,
        commit=change.commit,
        changed_at=change.at,
        authored_at=change.authored_at,
        message=message,
        blob_before=change.before,
        blob_after=change.after,
        language=result.language,
        role=result.role,
        difficulty=result.difficulty,
        edits=tuple(
            Edit(build.texts.put(hunk.before), build.texts.put(hunk.after), hunk.line) for hunk in result.hunks
        ),
        is_whole_file=result.whole,
    )


def _tell(step: StepCounts, commits: int, changes: Sequence[Change], left_out: int, secrets: Counter[str]) -> None:
    """Figures for the manifest."""
    step.figures["commits"] = commits
    step.figures["changes"] = len(changes)
    step.figures["changes_added"] = sum(not change.blob_before for change in changes)
    step.figures["changes_renamed"] = sum(bool(change.former_path) for change in changes)
    step.figures["changes_whole"] = sum(change.is_whole_file for change in changes)
    step.figures["edits"] = sum(len(change.edits) for change in changes)
    step.figures["edits_too_large"] = left_out
    step.figures.update({f"changes_with_{kind.lower()}": count for kind, count in sorted(secrets.items())})
