"""Reads the changes of the history (→ Change), as a part of the step read.

`git_starcoder.git.changes` chooses the changes. Their texts before and after are read, decoded and redacted like those
of files, and compared in worker processes. A change is dropped if one of its texts would be dropped as a file (for the
same reason, but `binary_change` for `binary`), and for these reasons:

- `same_text`: only line ends, encoding or byte order mark differ
- `own_output`: it is our own output, by its content or by the files beside it
- `generated`, `vendored`: the role of the file, by its path and the head of its text
- `too_many_hunks`: the change is all over the file, as those made by tools are
- `large_edit`: none of its hunks is small enough for a row
- `not_compared`: too many lines differ
"""

from __future__ import annotations

from collections import Counter
from itertools import chain, groupby
from typing import TYPE_CHECKING, NamedTuple, cast

from git_starcoder.build_state import FAULTS
from git_starcoder.git.changes import select_changes
from git_starcoder.git.objects import Unreadable
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.parse import own_output
from git_starcoder.parse.language import detect_language
from git_starcoder.parse.own_output import OwnOutput
from git_starcoder.parse.role import decide_role, foreign_role_filter
from git_starcoder.parse.structure import text_difficulty
from git_starcoder.protocols import Failure
from git_starcoder.records import (
    FOREIGN_ROLES,
    NO_DECLARED_ROLES,
    Change,
    DeclaredRoles,
    Edit,
    Role,
    Span,
    content_id,
)
from git_starcoder.text.clean import CleanText, clean_file, clean_message, decode_message, find_refusal, max_file_bytes
from git_starcoder.text.diff import Hunk, find_hunks
from git_starcoder.text.encoding import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.attributes import GitAttributes
    from git_starcoder.git.changes import FileChange
    from git_starcoder.git.history import LastChange
    from git_starcoder.git.objects import Repo
    from git_starcoder.memo import Inputs
    from git_starcoder.recipe import ReadOptions

DIFF_TASK_BYTES = 1 << 20
"""Bytes of text in one task, approximately."""
DIFF_TIMEOUT_SECONDS = 60.0
"""Time limit of a task. All work is limited by counts; this catches what the counts miss."""
MAX_EDIT_BYTES = 16_384
"""Bytes of a hunk, before or after, that a row can hold: about 4,096 tokens."""
MAX_HUNKS_PER_CHANGE = 64
"""Hunks of a change; more are the work of a tool rather than a person."""
CHANGES_PER_CACHE_ENTRY = 8
"""Changes of one file whose results are one entry of the cache, which saves space."""
ENTRIES_PER_CACHE_QUERY = 256
"""Cache entries that are looked up together."""
FIGURE_NAMES = {"notebooks": "changes_of_notebooks"}
"""Names in the manifest of what is skipped in notebooks, where they are not `changes_` and the kind."""
NO_TEXT = CleanText(b"", (), Counter(), 0.0, Counter())
"""The text before a change that adds a file."""
REPLACEMENT_CHARACTER = "\ufffd".encode()
"""Stands for the bytes of a message that are not valid in its encoding."""


class SizedChange(NamedTuple):
    """A change that can be read, and the bytes of its texts."""

    change: FileChange
    size: int

    @property
    def file(self) -> str:
        """What identifies its file through renames: its path now, or its last path if it is gone."""
        return self.change.current_path or self.change.path


class DiffPair(NamedTuple):
    """The texts before and after one change, as indexes into the blobs of its task; -1 for no text."""

    path: str
    declared_roles: DeclaredRoles
    before: int
    after: int


class DiffTask(NamedTuple):
    """Blobs, each once, and the pairs of them to compare."""

    blobs: list[bytes | Unreadable]
    pairs: list[DiffPair]
    options: ReadOptions


class ChangeDiff(NamedTuple):
    """What a change did to a text."""

    hunks: list[Hunk]
    large_hunks: int
    """Hunks that are left out because they are too large."""
    is_whole_file: bool
    language: str
    role: Role
    difficulty: float
    secrets: frozenset[str]
    """Kinds of secrets that were redacted on either side."""
    skipped: dict[str, int]
    """What is left out of a notebook, on the side after; see `notebook.Text`."""


class DiffResult(NamedTuple):
    """A diff or a refusal, in the form that the cache stores."""

    diff: ChangeDiff | None
    refusal: Refusal | None


def read_changes(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, attributes: GitAttributes
) -> tuple[dict[str, LastChange], list[Change]]:
    """The last change of each file at the commit, and the changes of the history, newest first."""
    found = select_changes(repo, options.changes, options.commit_files, foreign_role_filter(attributes.declared_roles))
    for rejected in found.rejected:
        many = f"{rejected.change_count} files of " if rejected.change_count > 1 else ""
        older = " and older ones" if rejected.reason == "over_budget" and not rejected.path else ""
        detail = f"{many}commit {rejected.commit}{older}"
        step.drop(rejected.path or rejected.commit, rejected.reason, detail, rejected.change_count)
    messages = _store_messages(build, step, options, repo, found.selected)
    readable = _find_readable(step, options, repo, found.selected, messages)
    kept: list[tuple[FileChange, Change, ChangeDiff]] = []

    def keep(change: FileChange, diff: ChangeDiff) -> None:
        stored = _store_change(build, change, diff, messages[change.commit])
        kept.append((change, stored, diff._replace(hunks=[])))  # the hunks are in the text store now
        step.keep()

    undecided: list[tuple[FileChange, ChangeDiff]] = []
    own: dict[str, OwnOutput] = {}
    for change, result in _diff_changes(build, options, repo, attributes, readable):
        if isinstance(result, Refusal):
            if result.reason == own_output.DROP_REASON:
                own[change.path] = OwnOutput(result.detail)
            step.drop(change.path, result.reason, f"commit {change.commit} {result.detail}".rstrip())
        elif own_output.could_be_companion(change.path):  # decided below, when all our own output is known
            undecided.append((change, result))
        else:
            keep(change, result)
    parts_of_own = own_output.find_companions_by_name(own, {change.path for change, _ in undecided})
    for change, diff in undecided:
        if change.path in parts_of_own:
            detail = f"commit {change.commit} belongs to output of ours beside it"
            step.drop(change.path, own_output.DROP_REASON, detail)
        else:
            keep(change, diff)
    # By commit, newest first, then by the bytes of the path.
    kept.sort(key=lambda entry: (entry[0].walk_index, entry[0].path.encode("utf-8", "surrogateescape")))
    changes = [change for _, change, _ in kept]
    diffs = [diff for *_, diff in kept]
    figures = step.figures
    figures["commits"] = found.commit_count
    figures["changes"] = len(changes)
    figures["changes_added"] = sum(not change.blob_before for change in changes)
    figures["changes_renamed"] = sum(bool(change.former_path) for change in changes)
    figures["changes_whole"] = sum(change.is_whole_file for change in changes)
    figures["edits"] = sum(len(change.edits) for change in changes)
    figures["edits_too_large"] = sum(diff.large_hunks for diff in diffs)
    secrets = Counter(chain.from_iterable(diff.secrets for diff in diffs))
    figures.update({f"changes_with_{kind.lower()}": count for kind, count in sorted(secrets.items())})
    if marked := sum(attributes.declared_roles(change.path) != NO_DECLARED_ROLES for change in changes):
        figures["changes_marked"] = marked
    skipped: Counter[str] = Counter()
    for diff in diffs:
        skipped.update(diff.skipped)
    figures.update((FIGURE_NAMES.get(kind, f"changes_{kind}"), count) for kind, count in sorted(skipped.items()))
    return found.last_changes, changes


def _store_messages(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, changes: Sequence[FileChange]
) -> dict[str, Span]:
    messages: dict[str, Span] = {}
    undecodable = 0
    for name, data in repo.read_commits(dict.fromkeys(change.commit for change in changes)):
        if not isinstance(data, Unreadable):
            message = clean_message(data, redacted=options.secrets != "off")
            undecodable += REPLACEMENT_CHARACTER in message and not decode_message(data)[1]
            messages[name] = build.texts.put(message)
    if undecodable:
        step.figures["messages_undecodable"] = undecodable
    return messages


def _find_readable(
    step: StepCounts, options: ReadOptions, repo: Repo, changes: Sequence[FileChange], messages: dict[str, Span]
) -> list[SizedChange]:
    """The changes that can be read, those of one file together: the text after one is the text before the next."""
    sizes = repo.blob_sizes(blob for change in changes for blob in (change.blob_before, change.blob_after) if blob)
    readable: list[SizedChange] = []
    for change in changes:
        blobs = [blob for blob in (change.blob_before, change.blob_after) if blob]
        missing = next((blob for blob in blobs if blob not in sizes), "")
        size = max(sizes.get(blob, 0) for blob in blobs)
        if change.commit not in messages:
            step.drop(change.path, "corrupt", f"commit {change.commit} cannot be read")
        elif missing:
            fault = repo.explain_unreadable(missing)
            step.drop(change.path, fault.reason, f"commit {change.commit}: {fault.detail}")
        elif size > max_file_bytes(change.path, options):
            step.drop(change.path, "too_large", f"commit {change.commit}: {size} bytes")
        else:
            readable.append(SizedChange(change, sum(sizes[blob] for blob in blobs)))
    return sorted(readable, key=lambda sized: (sized.file, sized.change.walk_index))


def _diff_changes(
    build: BuildState, options: ReadOptions, repo: Repo, attributes: GitAttributes, changes: Sequence[SizedChange]
) -> Iterator[tuple[FileChange, ChangeDiff | Refusal]]:
    """Each change with its diff, in the same order: from the cache or from a worker."""
    memo: Memo[list[DiffResult]] = Memo(build.cache, "changes", list[DiffResult])
    settings = cleaning_settings(options)

    def key(entry: list[SizedChange]) -> Inputs:
        inputs = [settings]
        for change, _ in entry:
            declared = attributes.declared_roles(change.path)
            inputs += change.path, change.blob_before, change.blob_after
            inputs += [repr(declared)] if declared != NO_DECLARED_ROLES else []
        return tuple(inputs)

    def compute(entries: list[list[SizedChange]]) -> Iterator[list[DiffResult]]:
        results = _run_diff_tasks(build, options, repo, attributes, list(chain(*entries)))
        return ([next(results) for _ in entry] for entry in entries)

    def is_final(_: list[SizedChange], results: list[DiffResult]) -> bool:
        """Whether another build would find the same."""
        return not any(result.refusal and result.refusal.reason in FAULTS for result in results)

    for entries in batch_by_size(_cache_entries(changes), lambda _: 1, ENTRIES_PER_CACHE_QUERY):
        for entry, results in zip(entries, memo.map(entries, key, compute, is_final), strict=True):
            for (change, _), result in zip(entry, results, strict=True):
                yield change, cast("ChangeDiff | Refusal", result.diff or result.refusal)


def cleaning_settings(options: ReadOptions) -> str:
    """The settings that decide what becomes of a blob's bytes, as part of a cache key."""
    return repr((options.max_bytes, options.max_line, options.mean_line, options.secrets))


def _cache_entries(changes: Sequence[SizedChange]) -> Iterator[list[SizedChange]]:
    """The changes of each file in cache entries. They are counted from the oldest, so that a new one alters few.

    For example, 10 changes of a file, newest first, are entries of 2 and 8.
    """
    for _, group in groupby(changes, key=lambda sized: sized.file):
        of_file = list(group)
        first_size = len(of_file) % CHANGES_PER_CACHE_ENTRY or CHANGES_PER_CACHE_ENTRY
        for stop in range(first_size, len(of_file) + 1, CHANGES_PER_CACHE_ENTRY):
            yield of_file[max(0, stop - CHANGES_PER_CACHE_ENTRY) : stop]


def _run_diff_tasks(
    build: BuildState, options: ReadOptions, repo: Repo, attributes: GitAttributes, changes: Sequence[SizedChange]
) -> Iterator[DiffResult]:
    # Half of a change's size: its text before is usually the text after the next change, and in the same task.
    batches = [
        [sized.change for sized in batch]
        for batch in batch_by_size(changes, lambda sized: sized.size // 2, DIFF_TASK_BYTES)
    ]
    tasks = _diff_tasks(repo, options, attributes, batches)
    answers = build.engine.map(compare_texts, tasks, limit=DIFF_TIMEOUT_SECONDS)
    for batch, answer in zip(batches, answers, strict=True):
        if isinstance(answer, Failure):
            answer = [Refusal(f"worker_{answer.kind}", answer.detail)] * len(batch)
        for result in answer:
            yield DiffResult(None, result) if isinstance(result, Refusal) else DiffResult(result, None)


def _diff_tasks(
    repo: Repo, options: ReadOptions, attributes: GitAttributes, batches: Sequence[list[FileChange]]
) -> Iterator[DiffTask]:
    """The task of each batch. The blobs of at most two batches are in memory; what both need is read once."""
    blobs_of_batch = [
        dict.fromkeys(blob for change in batch for blob in (change.blob_before, change.blob_after) if blob)
        for batch in batches
    ]
    new_blobs = [
        [blob for blob in blobs if index == 0 or blob not in blobs_of_batch[index - 1]]
        for index, blobs in enumerate(blobs_of_batch)
    ]
    contents = repo.read_blobs(chain.from_iterable(new_blobs))
    loaded: dict[str, bytes | Unreadable] = {}
    for batch, blobs, new in zip(batches, blobs_of_batch, new_blobs, strict=True):
        for blob in new:
            loaded[blob] = next(contents)[1]
        loaded = {blob: loaded[blob] for blob in blobs}
        indexes = {blob: index for index, blob in enumerate(loaded)}
        pairs: list[DiffPair] = []
        for change in batch:
            before, after = indexes.get(change.blob_before, -1), indexes[change.blob_after]
            pairs.append(DiffPair(change.path, attributes.declared_roles(change.path), before, after))
        yield DiffTask(list(loaded.values()), pairs, options)


def compare_texts(task: DiffTask) -> list[ChangeDiff | Refusal]:
    """The diff of each pair. Runs in a worker."""
    texts = [_clean_side(data, task.options) for data in task.blobs]
    texts.append(NO_TEXT)  # at index -1
    return [_compare_pair(pair, texts[pair.before], texts[pair.after], task.options) for pair in task.pairs]


def _clean_side(data: bytes | Unreadable, options: ReadOptions) -> CleanText | Refusal:
    if isinstance(data, Unreadable):
        return Refusal(data.reason, data.detail)
    if own := own_output.recognise_own_output(data):
        return Refusal(own_output.DROP_REASON, own.description)
    text = clean_file(data, options)
    return text._replace(reason="binary_change") if isinstance(text, Refusal) and text.reason == "binary" else text


def _compare_pair(
    pair: DiffPair, before: CleanText | Refusal, after: CleanText | Refusal, options: ReadOptions
) -> ChangeDiff | Refusal:
    path = pair.path
    if isinstance(before, Refusal):
        if before.reason != "empty":
            return before
        before = NO_TEXT
    if isinstance(after, Refusal):
        return after
    if refusal := (before is not NO_TEXT and find_refusal(path, before, options)) or find_refusal(path, after, options):
        return refusal
    if before.text == after.text:
        return Refusal("same_text")
    language = detect_language(path, after.text)
    role, rule = decide_role(path, language, after.text, pair.declared_roles)
    if role in FOREIGN_ROLES:
        return Refusal(role, rule)
    found = find_hunks(before.text, after.text)
    if found is None:
        return Refusal("not_compared")
    if len(found) > MAX_HUNKS_PER_CHANGE:
        return Refusal("too_many_hunks", f"{len(found)} hunks")
    fitting = [hunk for hunk in found if max(len(hunk.before), len(hunk.after)) <= MAX_EDIT_BYTES]
    if not fitting:
        return Refusal("large_edit", f"{max(len(found[0].before), len(found[0].after))} bytes")
    return ChangeDiff(
        hunks=fitting,
        large_hunks=len(found) - len(fitting),
        is_whole_file=fitting == [Hunk(before.text, after.text, 1)],
        language=language,
        role=role,
        difficulty=text_difficulty(b"".join(hunk.after for hunk in fitting)),
        secrets=frozenset(before.secret_counts) | frozenset(after.secret_counts),
        skipped=dict(after.notebook_counts),
    )


def _store_change(build: BuildState, change: FileChange, diff: ChangeDiff, message: Span) -> Change:
    return Change(
        id=content_id(change.commit, change.path),
        path=change.path,
        former_path=change.former_path,
        current_path=change.current_path,
        commit=change.commit,
        changed_at=change.committed_at,
        authored_at=change.authored_at,
        message=message,
        blob_before=change.blob_before,
        blob_after=change.blob_after,
        language=diff.language,
        role=diff.role,
        difficulty=diff.difficulty,
        edits=tuple(Edit(build.texts.put(hunk.before), build.texts.put(hunk.after), hunk.line) for hunk in diff.hunks),
        is_whole_file=diff.is_whole_file,
    )
