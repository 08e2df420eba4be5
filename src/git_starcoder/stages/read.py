"""The read step: reads the files of the commit (tree entry → Source) and the changes of its history (→ Change).

Links, submodules, pointers, binary, huge and undecodable files are dropped, and so is our own output that somebody
committed; each is counted with its reason. The size of a file is asked first, so a huge one is never read. Secrets are
redacted before a text is stored anywhere.

The changes are read by `read_changes`.

If what the newest commits added is held out, training sees an earlier commit, and of the newest one the files are read
that differ. Such a file is dropped for these reasons, too:

- `past_unread`: it existed, and its past version was dropped, so it is unknown what is new
- `not_compared`: too many lines differ
- `nothing_added`: no line is new, as after a rename
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from git_starcoder.errors import RepositoryError
from git_starcoder.git.attributes import read_attributes
from git_starcoder.git.history import LastChange
from git_starcoder.git.objects import FILE_MODE, MODE_TYPE_MASK, SUBMODULE_MODE, SYMLINK_MODE, Unreadable
from git_starcoder.memo import Memo
from git_starcoder.parse import own_output
from git_starcoder.parse.language import detect_language
from git_starcoder.records import (
    NO_DECLARED_ROLES,
    Change,
    Source,
    Span,
    content_id,
    printable_path,
)
from git_starcoder.stages.read_changes import NO_TEXT, cleaning_settings, read_changes
from git_starcoder.text.clean import CleanText, clean_file, find_refusal, max_file_bytes
from git_starcoder.text.diff import find_added_lines
from git_starcoder.text.encoding import Refusal
from git_starcoder.text.secrets import secret_file_reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.git.attributes import GitAttributes
    from git_starcoder.git.objects import Repo, TreeEntry
    from git_starcoder.memo import Inputs
    from git_starcoder.parse.own_output import OwnOutput
    from git_starcoder.recipe import ReadOptions


def read_repository(
    build: BuildState, options: ReadOptions, repo: Repo, newest: Repo | None = None
) -> tuple[list[Source], list[Change]]:
    """Every text file at the commit, sorted by the bytes of its path, and the changes of the history, newest first.

    If `newest` is given, a later commit of the same repository, the files follow that it added or changed
    (`Source.added`).

    Raises:
        RepositoryError: no file can be used.

    """
    entries = repo.entries()
    new_entries = [] if newest is None else find_new_entries(repo, newest)
    attributes = read_attributes(repo)
    with build.count_step("read", None if options.changes else len(entries) + len(new_entries)) as step:
        last_changes, changes = (
            read_changes(build, step, options, repo, attributes) if options.changes else (repo.last_changes(), [])
        )
        drops_of_history = step.dropped.copy()
        secrets: Counter[str] = Counter()
        skipped: Counter[str] = Counter()
        sources: list[Source] = []
        for source, text in _read_files(build, step, options, repo, entries, last_changes, attributes):
            sources.append(source)
            secrets.update(text.secret_counts)
            skipped.update(text.notebook_counts)
            step.keep()
        if newest is not None:
            files = _read_files(
                build, step, options, newest, new_entries, newest.last_changes(), read_attributes(newest)
            )
            past = PastFiles({entry.path for entry in entries}, {source.path: source for source in sources})
            for source, text in files:
                added = past.find_added(build, source)
                if isinstance(added, Refusal):
                    step.drop(source.path, added.reason, added.detail)
                    continue
                sources.append(replace(source, added=added))
                secrets.update(text.secret_counts)
                skipped.update(text.notebook_counts)
                step.keep()
        step.figures["entries"] = len(entries) + len(new_entries)
        step.figures["bytes"] = sum(source.text.stop - source.text.start for source in sources)
        if marked := sum(source.declared_roles != NO_DECLARED_ROLES for source in sources):
            step.figures["marked"] = marked
        step.figures["renamed"] = sum(bool(source.former_paths) for source in sources)
        step.figures.update({f"secrets_{kind.lower()}": count for kind, count in sorted(secrets.items())})
        step.figures.update(sorted(skipped.items()))
    build.has_faults |= any(each.has_faulty_history for each in (repo, newest) if each)
    for note in (newest or repo).notes:
        build.progress.note(note)
    if not any(source.added is None for source in sources):
        drops = sorted((step.dropped - drops_of_history).items())
        reasons = ", ".join(f"{count} {reason}" for reason, count in drops)
        raise RepositoryError(
            f"no file in '{repo.path}' can be used: a dataset needs at least one text file",
            where=f"commit {repo.commit}",
            hint=f"of {len(entries)} files: {reasons}" if entries else "the commit has no files",
        )
    return sources, changes


class PastFiles(NamedTuple):
    """The files of the commit that training sees, to compare those of a later commit with."""

    paths: set[str]
    """All their paths."""
    sources: dict[str, Source]
    """Those that are read, by path."""

    def find_added(self, build: BuildState, source: Source) -> tuple[Span, ...] | Refusal:
        """The byte spans of the lines that a later file has and its past version has not; all if there is none."""
        past_path = next((path for path in (source.path, *source.former_paths) if path in self.paths), None)
        before = b""
        if past_path is not None:
            if past_path not in self.sources:
                return Refusal("past_unread", f"its past version, {printable_path(past_path)}, is not read")
            before = build.texts.get(self.sources[past_path].text)
        added = find_added_lines(before, build.texts.get(source.text))
        if added is None:
            return Refusal("not_compared")
        return added or Refusal("nothing_added")


def find_new_entries(past: Repo, newest: Repo) -> list[TreeEntry]:
    """The entries of the newest commit with another path or another content than those of the past commit."""
    known = {(entry.path, entry.blob) for entry in past.entries()}
    return [entry for entry in newest.entries() if (entry.path, entry.blob) not in known]


def _read_files(
    build: BuildState, step: StepCounts, options: ReadOptions, repo: Repo, entries: list[TreeEntry],
    last_changes: dict[str, LastChange], attributes: GitAttributes,
) -> Iterator[tuple[Source, CleanText]]:  # fmt: skip
    """Each of some entries of a commit that is text, and what was found in it. The others are dropped."""
    refusals = _refuse_unread(entries, options, repo)
    # Equal files share one text: a million names for one file do not fill the disk.
    wanted = dict.fromkeys(entry.blob for entry, refusal in zip(entries, refusals, strict=True) if refusal is None)
    texts, own = _read_texts(build, options, repo, list(wanted))
    own_paths = {entry.path: own[entry.blob] for entry in entries if entry.blob in own}
    parts_of_own = own_output.find_companions(own_paths, ((entry.path, entry.size) for entry in repo.entries()))
    for entry, refusal in zip(entries, refusals, strict=True):
        found = refusal or texts[entry.blob]
        if entry.path in parts_of_own:
            found = Unreadable(own_output.DROP_REASON, "belongs to output of ours beside it")
        if isinstance(found, (Unreadable, Refusal)):
            step.drop(entry.path, found.reason, found.detail)
            continue
        span, text = found[0], found[1]._replace(text=build.texts.get(found[0]))
        if problem := find_refusal(entry.path, text, options):
            step.drop(entry.path, problem.reason, problem.detail)
            continue
        last_change = last_changes.get(entry.path) or LastChange("", repo.committed_at)
        source = Source(
            id=content_id(entry.blob, entry.path),
            path=entry.path,
            blob=entry.blob,
            commit=last_change.commit,
            changed_at=last_change.committed_at,
            former_paths=last_change.former_paths,
            language=detect_language(entry.path, text.text),
            text=span,
            decoding_changes=text.changed,
            declared_roles=attributes.declared_roles(entry.path),
        )
        yield source, text


def _read_texts(
    build: BuildState, options: ReadOptions, repo: Repo, blobs: Sequence[str]
) -> tuple[dict[str, tuple[Span, CleanText] | Unreadable | Refusal], dict[str, OwnOutput]]:
    """The text of each blob, or why there is none; and what each blob is that is our own output.

    A text is in the text store, at the span beside it. A blob that an earlier build found to be its own text, with
    nothing to decode or redact, is not cleaned again.
    """
    memo: Memo[bool] = Memo(build.cache, "clean", bool)
    settings = cleaning_settings(options)
    cached = memo.get((blob, settings) for blob in blobs)
    new: list[tuple[Inputs, bool]] = []
    texts: dict[str, tuple[Span, CleanText] | Unreadable | Refusal] = {}
    own: dict[str, OwnOutput] = {}
    for is_clean, (blob, data) in zip(cached, repo.read_blobs(blobs), strict=True):
        text: CleanText | Unreadable | Refusal
        if isinstance(data, Unreadable):
            text = data
        elif found := own_output.recognise_own_output(data):
            own[blob] = found
            text = Unreadable(own_output.DROP_REASON, found.description)
        elif is_clean:
            text = NO_TEXT._replace(text=data)
        else:
            text = clean_file(data, options)
            new.append(((blob, settings), isinstance(text, CleanText) and text.text == data and not text.changed))
        texts[blob] = (build.texts.put(text.text), text._replace(text=b"")) if isinstance(text, CleanText) else text
    memo.put(new)
    return texts, own


def _refuse_unread(entries: list[TreeEntry], options: ReadOptions, repo: Repo) -> list[Unreadable | None]:
    refusals = [_refuse_entry(entry, options, repo) for entry in entries]
    for index in range(1, len(entries)):
        if entries[index].path == entries[index - 1].path:
            refusals[index] = Unreadable("repeated", "the same path is listed twice")
    return refusals


def _refuse_entry(entry: TreeEntry, options: ReadOptions, repo: Repo) -> Unreadable | None:
    kind = entry.mode & MODE_TYPE_MASK
    if entry.unreadable is not None:
        return entry.unreadable
    if kind == SYMLINK_MODE:
        return Unreadable("symlink")
    if kind == SUBMODULE_MODE:
        return Unreadable("submodule", f"commit {entry.blob} of another repository")
    if kind != FILE_MODE:
        return Unreadable("odd_mode", f"{entry.mode:o}")
    if options.secrets != "off" and (what := secret_file_reason(entry.path)):
        return Unreadable("secret_file", what)
    if entry.size is None:
        return repo.explain_unreadable(entry.blob)
    if entry.size > max_file_bytes(entry.path, options):
        return Unreadable("too_large", f"{entry.size} bytes")
    return None
