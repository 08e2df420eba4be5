"""Runs a replay and makes its table: what later commits added is typed, with each suggester beside the person."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.errors import RevisionError, UsageError
from git_starcoder.git.history import first_parent_commits
from git_starcoder.git.objects import UNSHALLOW, Repo
from git_starcoder.model.loading import read_training_record, require_model
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.replay.edit_metrics import delta_chrf, kept_rate
from git_starcoder.replay.person import TYPING_INTERVAL_SECONDS, Answer, Tally, find_pauses, type_text
from git_starcoder.replay.suggesters import (
    BufferWordsSuggester,
    EditorSuggester,
    FrequentLineSuggester,
    MemorySuggester,
    Suggester,
)
from git_starcoder.replay.typed_text import LaterText, read_later_text
from git_starcoder.serve.confidence import open_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder.replay.typed_text import Hunk

THRESHOLDS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Confidences from which suggestions are shown, in the table."""
DEFAULT_CHARACTERS = 10_000
"""Characters that are typed: about two thousand pauses."""
LIMITS = (
    "The lines of commits are not typing: people type other things first, in another order, and use what their editor",
    "offers. Nobody sees these suggestions, so it is unknown what they would change, and how long reading them takes.",
)
"""What a reader must know of the figures."""


class AnsweredHunk(NamedTuple):
    """A hunk and what a suggester answers at its pauses."""

    hunk: Hunk
    answers: Mapping[int, Answer]


@dataclass(frozen=True, slots=True)
class SuggesterResult:
    """What one suggester would have saved."""

    name: str
    threshold: float
    """From which confidence on suggestions count for `by_language`, `kept_rate` and `delta_chrf`."""
    by_threshold: dict[float, Tally]
    by_language: dict[str, Tally]
    kept_rate: float | None
    """The mean over shown suggestions, 0 to 1; None if none is shown."""
    delta_chrf: float | None
    """The mean over shown suggestions, 0 to 100."""
    median_seconds: float
    """Of all answers. Only this and `Tally.late` depend on the machine."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "threshold": self.threshold,
            "by_threshold": [
                {"from": threshold, **_tally_values(each)} for threshold, each in self.by_threshold.items()
            ],
            "by_language": {language: _tally_values(each) for language, each in self.by_language.items()},
            "kept_rate": self.kept_rate,
            "delta_chrf": self.delta_chrf,
            "median_seconds": self.median_seconds,
        }


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay."""

    since: str
    """The commit after which the text was written."""
    until: str
    commits: int
    """The number of commits with text that was typed."""
    hunks: int
    all_characters: int
    """The characters of all hunks; some of them are drawn."""
    skipped: dict[str, int]
    results: tuple[SuggesterResult, ...]

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "since": self.since, "until": self.until, "commits": self.commits, "hunks": self.hunks,
            "all_characters": self.all_characters, "skipped": self.skipped,
            "typing_interval_seconds": TYPING_INTERVAL_SECONDS,
            "results": [result.as_values() for result in self.results], "limits": " ".join(LIMITS),
        }  # fmt: skip


def replay(
    model: str | Path, repo: Repo, *, since: str | None = None, characters: int = DEFAULT_CHARACTERS,
    progress: Progress = NO_PROGRESS,
) -> Replay:  # fmt: skip
    """Type what the commits of a repository added after a model was trained, with suggestions beside the person.

    The memory and the context of the model are made anew from the files of the commit `since`, and follow the commits,
    as they follow the files on disk in an editor. So nothing is known before it was typed.

    Args:
        model: The folder of the model.
        repo: The repository, at the last commit to replay.
        since: The commit after which the text was written. By default, it is the one that the training saw.
        characters: About how many characters are typed. They are drawn from all commits.
        progress: Receives the hunks that are done.

    Raises:
        DatasetError: It is not a model folder.
        RevisionError: The repository does not have the commit.
        UsageError: The model does not say what it was trained from, or nothing was added since.
        MissingExtraError: torch or transformers is not installed.
    """
    folder = Path(model)
    require_model(folder)
    past = _open_past(repo, folder, since)
    whole = read_later_text(repo, past)
    text = whole.draw(characters)
    hunks = [hunk for each in text.commits for hunk in each.hunks]
    if not hunks:
        what = f"no text that can be typed was added between {past.commit[:12]} and {repo.commit[:12]}"
        raise UsageError(what, where=str(repo.path), hint="choose an earlier --since")
    opened, threshold = open_model(folder)
    editor = EditorSuggester(opened)
    suggesters: list[Suggester] = [editor]
    if opened.memory is not None:
        suggesters.append(MemorySuggester(opened, editor.follower))
    suggesters += [FrequentLineSuggester(), BufferWordsSuggester()]
    answered = _ask(text, suggesters, progress)
    results = [_summarize(each.name, found, threshold) for each, found in zip(suggesters, answered, strict=True)]
    return Replay(
        past.commit, repo.commit, sum(bool(each.hunks) for each in text.commits), len(hunks),
        sum(len(hunk.text) for each in whole.commits for hunk in each.hunks), dict(sorted(whole.skipped.items())),
        tuple(results),
    )  # fmt: skip


def _open_past(repo: Repo, folder: Path, since: str | None) -> Repo:
    """Open the commit after which the text was written. See `replay`."""
    commit = since or read_training_record(folder).get("commit")
    if not commit:
        what = "the model does not say from which commit it was trained"
        raise UsageError(what, where=str(folder), hint="give the commit with --since")
    try:
        past = Repo.open(repo.path, commit)
    except RevisionError as error:
        if since:
            raise
        what = f"'{repo.path}' does not have the commit {commit[:12]} from which the model was trained"
        hint = f"give the repository of the model; {UNSHALLOW}"
        raise RevisionError(what, where=str(repo.path), hint=hint) from error
    where = "--since" if since else str(repo.path)
    if past.commit == repo.commit:
        what = f"no commit came after {past.commit[:12]}"
        raise UsageError(what, where=where, hint="replay newer commits, or name an earlier one with --since")
    if past.commit not in first_parent_commits(repo):
        what = f"commit {past.commit[:12]} is not before {repo.commit[:12]} on the main line"
        raise UsageError(what, where=where, hint="name a commit of the main line with --since")
    return past


def _ask(text: LaterText, suggesters: Sequence[Suggester], progress: Progress) -> list[list[AnsweredHunk]]:
    """Ask each suggester at each pause of each hunk. At a pause, the text before the cursor is right in any case."""
    answered: list[list[AnsweredHunk]] = [[] for _ in suggesters]
    progress.begin("replay", sum(len(commit.hunks) for commit in text.commits))
    for learner in suggesters:
        learner.learn(text.start)
    for commit in text.commits:
        for hunk in commit.hunks:
            for suggester, found in zip(suggesters, answered, strict=True):
                answers = {
                    pause: suggester.suggest(hunk.path, hunk.before + hunk.text[:pause], hunk.after)
                    for pause in find_pauses(hunk.text)
                }
                found.append(AnsweredHunk(hunk, answers))
            progress.advance(1)
        for learner in suggesters:
            learner.learn(commit.files)
    return answered


def _summarize(name: str, answered: Sequence[AnsweredHunk], threshold: float) -> SuggesterResult:
    """Let the person type with each threshold, and compare the suggestions that are shown with what was written."""
    by_threshold = {each: _type_all(answered, each) for each in sorted({*THRESHOLDS, threshold})}
    languages = Counter[str]()
    for hunk, _ in answered:
        languages[hunk.language] += len(hunk.text)
    by_language = {
        language: _type_all([each for each in answered if each.hunk.language == language], threshold)
        for language, _ in languages.most_common()
    }
    kept: list[float] = []
    alike: list[float] = []
    for hunk, answers in answered:
        for pause, answer in answers.items():
            if (shown := answer.cut_at(threshold)).strip():
                texts = _edited_lines(hunk, pause, shown)
                kept.append(kept_rate(*texts))
                alike.append(delta_chrf(*texts))
    return SuggesterResult(
        name, threshold, by_threshold, by_language, fmean(kept) if kept else None, fmean(alike) if alike else None,
        median(answer.seconds for _, answers in answered for answer in answers.values()),
    )  # fmt: skip


def _edited_lines(hunk: Hunk, pause: int, suggestion: str) -> tuple[str, str, str]:
    """The lines around a cursor: as they are, with the suggestion, and with as many lines as were written there."""
    before = (hunk.before + hunk.text[:pause]).rpartition("\n")[2]
    lines = hunk.text[pause:].split("\n")
    written = "\n".join(lines[: suggestion.count("\n") + 1])
    after = "\n" + hunk.after.partition("\n")[0]
    return before + after, before + suggestion + after, before + written + after


def _type_all(answered: Sequence[AnsweredHunk], threshold: float) -> Tally:
    tally = Tally()
    for hunk, answers in answered:
        tally = tally.add(type_text(hunk.text, answers.__getitem__, threshold))
    return tally


def _tally_values(tally: Tally) -> dict[str, Any]:
    values = {"saved": round(tally.saved, 4), "precision": round(tally.precision, 4), "wrong": tally.wrong}
    return {**tally._asdict(), **values}


def format_replay(result: Replay) -> str:
    """Format a replay as a table in plain text."""
    first = result.results[0]
    typed = first.by_threshold[first.threshold]
    places = f"after {result.since[:12]} and up to {result.until[:12]}"
    lines = [
        f"typed {typed.characters:,} keystrokes of {result.hunks:,} hunks in {result.commits:,} commits, {places}",
        *(f"left out: {count:,} {reason}" for reason, count in result.skipped.items() if count),
        "",
        f"{f'shown from a confidence of {first.threshold:g}':28}" + _HEADER + "   kept  chrF  median",
    ]
    for each in result.results:
        rates = "   none  none" if each.kept_rate is None else f"{each.kept_rate:7.1%} {each.delta_chrf:5.1f}"
        row = _format_tally(each.by_threshold[each.threshold])
        lines.append(f"{each.name:28}{row}{rates} {1000 * each.median_seconds:4.0f} ms")
    lines += ["", f"{f'{first.name}, by confidence':28}{_HEADER}"]
    lines += [f"{f'from {threshold:g}':28}{_format_tally(each)}" for threshold, each in first.by_threshold.items()]
    lines += ["", f"{f'{first.name}, by language':28}{_HEADER}"]
    lines += [f"{language:28}{_format_tally(each)}" for language, each in first.by_language.items()]
    lines += [
        "",
        "saved: share of keystrokes; right: share of shown suggestions of which a word or more was accepted;",
        f"late: suggestions that took more than {1000 * TYPING_INTERVAL_SECONDS:.0f} ms; they count everywhere",
        *LIMITS,
    ]
    return "\n".join(lines)


_HEADER = f"{'saved':>7}{'asked':>8}{'shown':>8}{'right':>8}{'wrong':>8}{'whole':>8}{'late':>8}"


def _format_tally(tally: Tally) -> str:
    counts = f"{tally.wrong:8,}{tally.whole:8,}{tally.late:8,}"
    return f"{tally.saved:7.1%}{tally.pauses:8,}{tally.shown:8,}{tally.precision:8.1%}{counts}"
