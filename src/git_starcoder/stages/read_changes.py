"""The part of the read step that reads history: what commits did to files (→ Change).

`git_starcoder.git.changes` chooses the changes. Here their texts before and after are read, decoded and redacted like
those of files, and compared in worker processes. A change is dropped if one of its texts would be dropped as a file
(for the same reason, but `binary_change` for `binary`), and for these reasons:

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

from git_starcoder.git.changes import select_changes
from git_starcoder.git.objects import Unreadable
from git_starcoder.memo import Memo, batch_by_size
from git_starcoder.parse import own_output
from git_starcoder.parse.language import detect_language
from git_starcoder.parse.own_output import OwnOutput
from git_starcoder.parse.role import decide_role, foreign_role_filter
from git_starcoder.parse.structure import text_difficulty
from git_starcoder.protocols import Failure
from git_starcoder.records import FOREIGN_ROLES, NO_DECLARED_ROLES, Change, DeclaredRoles, Edit, Role, content_id
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
    from git_starcoder.records import Span

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
TRANSIENT_REASONS = {"missing", "corrupt", "worker_crash", "worker_timeout", "worker_error"}
"""Reasons that lie in this copy of the repository or this run, not in the change. Results with one are not cached."""
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
    """Either of the two, in the form that the cache stores."""

    diff: ChangeDiff | None
    refusal: Refusal | None


def cleaning_settings(options: ReadOptions) -> str:
    """The settings that decide what becomes of a blob's bytes, as part of a cache key."""
    return repr((options.max_bytes, options.max_line, options.mean_line, options.secrets))


class _KeptChanges:
    """The changes that are kept, and what the manifest says about them."""

    def __init__(self, build: BuildState, step: StepCounts, messages: dict[str, Span]) -> None:
        self._build = build
        self._step = step
        self._messages = messages
        self._changes: list[tuple[FileChange, Change]] = []
        self._secrets: Counter[str] = Counter()
        self._skipped: Counter[str] = Counter()
        self._large_hunks = 0

    def add(self, change: FileChange, diff: ChangeDiff) -> None:
        """Keep a change; its hunks go to the text store."""
        self._changes.append((change, _store_change(self._build, change, diff, self._messages[change.commit])))
        self._secrets.update(diff.secrets)
        self._skipped.update(diff.skipped)
        self._large_hunks += diff.large_hunks
        self._step.keep()

    def newest_first(self) -> list[Change]:
        """All kept changes: by commit, newest first, then by the bytes of the path."""
        self._changes.sort(key=lambda pair: (pair[0].walk_index, pair[0].path.encode("utf-8", "surrogateescape")))
        return [change for _, change in self._changes]

    def record_figures(self, commit_count: int, attributes: GitAttributes) -> None:
        """Add figures to the manifest."""
        changes = [change for _, change in self._changes]
        figures = self._step.figures
        figures["commits"] = commit_count
        figures["changes"] = len(changes)
        figures["changes_added"] = sum(not change.blob_before for change in changes)
        figures["changes_renamed"] = sum(bool(change.former_path) for change in changes)
        figures["changes_whole"] = sum(change.is_whole_file for change in changes)
        figures["edits"] = sum(len(change.edits) for change in changes)
        figures["edits_too_large"] = self._large_hunks
        figures.update({f"changes_with_{kind.lower()}": count for kind, count in sorted(self._secrets.items())})
        if marked := sum(attributes.declared_roles(change.path) != NO_DECLARED_ROLES for change in changes):
            figures["changes_marked"] = marked
        figures.update((FIGURE_NAMES.get(kind, f"changes_{kind}"), n) for kind, n in sorted(self._skipped.items()))


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
    kept = _KeptChanges(build, step, messages)
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
            kept.add(change, result)
    parts_of_own = own_output.find_companions_by_name(own, {change.path for change, _ in undecided})
    for change, diff in undecided:
        if change.path in parts_of_own:
            step.drop(
                change.path, own_output.DROP_REASON, f"commit {change.commit} belongs to output of ours beside it"
            )
        else:
            kept.add(change, diff)
    kept.record_figures(found.commit_count, attributes)
    return found.last_changes, kept.newest_first()


def _store_messages(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, changes: Sequence[FileChange]
) -> dict[str, Span]:
    """The message of each commit that can be read, in the text store."""
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
        return (settings, *(part for sized in entry for part in _diff_inputs(sized.change, attributes)))

    def compute(entries: list[list[SizedChange]]) -> Iterator[list[DiffResult]]:
        results = _run_diff_tasks(build, options, repo, attributes, [sized for entry in entries for sized in entry])
        return ([next(results) for _ in entry] for entry in entries)

    entries = list(_cache_entries(changes))
    for first in range(0, len(entries), ENTRIES_PER_CACHE_QUERY):
        entries_of_query = entries[first : first + ENTRIES_PER_CACHE_QUERY]
        found = memo.map(entries_of_query, key, compute, lambda _, results: _are_final(results))
        for entry, results in zip(entries_of_query, found, strict=True):
            for sized, result in zip(entry, results, strict=True):
                yield sized.change, cast("ChangeDiff | Refusal", result.diff or result.refusal)


def _diff_inputs(change: FileChange, attributes: GitAttributes) -> tuple[str, ...]:
    """What the diff of a change depends on, besides the settings."""
    declared = attributes.declared_roles(change.path)
    roles = (repr(declared),) if declared != NO_DECLARED_ROLES else ()
    return (change.path, change.blob_before, change.blob_after, *roles)


def _are_final(results: Sequence[DiffResult]) -> bool:
    """Whether another build would find the same."""
    return not any(result.refusal and result.refusal.reason in TRANSIENT_REASONS for result in results)


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
    """The diff of each change, from workers."""
    # Half of a change's size: its text before is usually the text after the next change, and in the same task.
    batches = [
        [sized.change for sized in batch]
        for batch in batch_by_size(changes, lambda sized: sized.size // 2, DIFF_TASK_BYTES)
    ]
    answers = build.engine.map(
        compare_texts, _diff_tasks(repo, options, attributes, batches), limit=DIFF_TIMEOUT_SECONDS
    )
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
        pairs = [
            DiffPair(
                change.path,
                attributes.declared_roles(change.path),
                indexes.get(change.blob_before, -1),
                indexes[change.blob_after],
            )
            for change in batch
        ]
        yield DiffTask(list(loaded.values()), pairs, options)


def compare_texts(task: DiffTask) -> list[ChangeDiff | Refusal]:
    """The diff of each pair. Runs in a worker."""
    texts = [_clean_side(data, task.options) for data in task.blobs]
    return [
        _compare_pair(pair, NO_TEXT if pair.before < 0 else texts[pair.before], texts[pair.after], task.options)
        for pair in task.pairs
    ]


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
