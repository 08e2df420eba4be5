"""Unit, Change → Sample: each text as it is, its variations, and texts behind heads of context.

Nothing is kept that its own `verify` does not pass. What an augmentation is applied to is drawn from content, so a file
has the same variations whatever else is in the repository, and whatever order files come in. A file to learn from is
shown only other files to learn from; a held-out one is shown those of its own split, too.
"""

from __future__ import annotations

import random
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from git_starcoder import augmentations
from git_starcoder.augmentations import Around, Frame, Shown, Variant
from git_starcoder.memo import Memo
from git_starcoder.parse.starts import starts
from git_starcoder.parse.tree import Code, parse
from git_starcoder.protocols import Failure
from git_starcoder.records import Change, ContextPart, Sample, Span, Unit, content_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from git_starcoder.build_state import BuildState, StepCounts
    from git_starcoder.recipe import AugmentationOptions
    from git_starcoder.records import Symbol

BASE = "base"
LIMIT = 60.0
"""Seconds that all variations of one file may take."""
AT_ONCE = 128
"""Files whose variations the cache is asked for together."""
LATEST = 8
"""Changes of a file that are offered as its history, the newest first."""


class Rejected(NamedTuple):
    """Why there is no variation."""

    reason: str
    because: str = ""


class Made(NamedTuple):
    """A verified variation."""

    variant: Variant
    starts: bytes
    """See `Sample.starts`."""


class Answer(NamedTuple):
    """Either of the two, as it travels between processes and is kept between builds."""

    text: bytes | None
    holes: tuple[Span, ...]
    starts: bytes
    reason: str
    because: str

    def made(self) -> Made | Rejected:
        """Which of the two it is."""
        if self.text is None:
            return Rejected(self.reason, self.because)
        return Made(Variant(self.text, self.holes), self.starts)


class Framed(NamedTuple):
    """Either of the two, as it is kept between builds."""

    frames: list[Frame] | None
    rejected: Rejected | None


class Drawn(NamedTuple):
    """A variation to be made of one file."""

    key: str
    """Of the augmentation."""
    seed: int
    """Of its randomness."""


class Task(NamedTuple):
    """Variations to be made of one file."""

    text: bytes
    language: str
    drawn: list[Drawn]


def make_samples(
    build: BuildState, options: Mapping[str, AugmentationOptions], units: Sequence[Unit], changes: Sequence[Change]
) -> list[Sample]:
    """Every unit as it is, and every variation and frame that was drawn, could be made and was verified.

    Samples come in the order of the units, `base` first and the others in the order of `options`, and then those of the
    changes. A thing seen is a unit with `base` or with a copy of one of the `options` for files, or a change with one
    of those for changes.
    """
    for_files = {key: option for key, option in options.items() if augmentations.needs(key) != "change"}
    for_changes = {key: option for key, option in options.items() if augmentations.needs(key) == "change"}
    total = len(units) * (1 + sum(option.copies for option in for_files.values())) + len(changes) * len(for_changes)
    samples: list[Sample] = []
    with build.count_step("augment", total) as step:
        surroundings = _Surroundings(build, units, changes)
        for unit, drawn, results in _varied(build, units, for_files):
            samples.append(
                Sample(content_id(unit.id, BASE), unit, BASE, unit.source.text, window_starts=unit.window_starts)
            )
            step.keep()
            for key, option in for_files.items():
                here = [one for one in drawn if one.key == key]
                if augmentations.needs(key) in {"text", "tree"}:
                    missing = [Rejected("not_drawn")] * (option.copies - len(here))
                    _take(build, step, samples, unit, key, [results[one] for one in here] + missing)
                else:
                    frames = surroundings.frames(unit, key) if here else Rejected("not_drawn")
                    _take_frames(build, step, samples, unit, key, frames)
        for key, option in for_changes.items():
            for change in changes:
                frames: list[Frame] | Rejected = Rejected("not_drawn")
                if build.uniform("augment", key, change.id) < option.share:
                    frames = _frames(key, Around(change.path, b"", changes=(_shown(build, change),)))
                _take_frames(build, step, samples, change, key, frames)
        for key in options:
            step.figures[key] = sum(sample.technique == key for sample in samples)
    return samples


def vary(task: Task) -> list[Answer]:
    """Make and verify the variations of one file. For worker processes."""
    before = parse(task.text, task.language)
    return [_answer(_vary(before, drawn)) for drawn in task.drawn]


def _answer(made: Made | Rejected) -> Answer:
    if isinstance(made, Rejected):
        return Answer(None, (), b"", *made)
    return Answer(made.variant.text, made.variant.holes, made.starts, "", "")


def _vary(before: Code, drawn: Drawn) -> Made | Rejected:
    augmentation = augmentations.variation(drawn.key)
    if augmentation.NEEDS == "tree" and not before.clean:
        return Rejected("not_clean")
    if not augmentations.applies(drawn.key, before.language):
        return Rejected(augmentations.NOTHING)
    variant = augmentation.vary(before, random.Random(drawn.seed))  # noqa: S311 - not for secrets
    if isinstance(variant, str):
        return Rejected(variant)
    if variant.text == before.data and not variant.holes:
        return Rejected("same_text")
    after = before
    if augmentation.NEEDS == "tree" and before.language is not None:
        after = parse(variant.text, before.language.key)
        if not after.clean:
            return Rejected("unverified", "it does not parse")
    wrong = augmentation.verify(before, variant, after)
    return Rejected("unverified", wrong) if wrong else Made(variant, starts(after))


def draw(build: BuildState, options: Mapping[str, AugmentationOptions], unit: Unit) -> list[Drawn]:
    """The variations that this unit gets, in the order of `options`; none of those for changes."""
    drawn: list[Drawn] = []
    for key, option in options.items():
        if augmentations.needs(key) == "change":
            continue
        if build.uniform("augment", key, unit.id) < option.share:
            randomness = build.rng("augment", key, unit.id)
            drawn += [Drawn(key, randomness.getrandbits(64)) for _ in range(option.copies)]
    return drawn


def _far(unit: Unit, drawn: list[Drawn]) -> list[Drawn]:
    """What is made in a worker: whatever needs a tree, where there is one without errors."""
    if unit.parse_status != "clean":
        return []
    return [one for one in drawn if augmentations.needs(one.key) == "tree"]


def _varied(
    run: BuildState, units: Sequence[Unit], options: Mapping[str, AugmentationOptions]
) -> Iterator[tuple[Unit, list[Drawn], dict[Drawn, Made | Rejected]]]:
    """For each unit what was drawn, and what came of its variations."""
    memo: Memo[list[Answer]] = Memo(run.cache, "variations", list[Answer])
    for first in range(0, len(units), AT_ONCE):
        some = units[first : first + AT_ONCE]
        planned = [draw(run, options, unit) for unit in some]
        tasks = {at: Task(run.texts.get(unit.source.text), unit.language, far)
                 for at, (unit, drawn) in enumerate(zip(some, planned, strict=True))
                 if (far := _far(unit, drawn))}  # fmt: skip
        inputs = {at: (task.language, task.text, repr(task.drawn)) for at, task in tasks.items()}
        known = dict(zip(inputs, memo.get(list(inputs.values())), strict=True))
        made = run.engine.map(vary, (tasks[at] for at, answers in known.items() if answers is None), limit=LIMIT)
        for at, (unit, drawn) in enumerate(zip(some, planned, strict=True)):
            results = _near(run, unit, drawn)
            if at in tasks:
                answers = known[at] or next(made)
                if isinstance(answers, Failure):
                    answers = [Answer(None, (), b"", f"parser_{answers.kind}", answers.detail)] * len(tasks[at].drawn)
                elif known[at] is None:
                    memo.put([(inputs[at], answers)])
                results |= {one: answer.made() for one, answer in zip(tasks[at].drawn, answers, strict=True)}
            yield unit, drawn, results


def _near(build: BuildState, unit: Unit, drawn: list[Drawn]) -> dict[Drawn, Made | Rejected]:
    """What is made here: variations of plain text, and the reasons why there is no tree."""
    reason = Rejected("no_tree" if unit.parse_status == "none" else "not_clean")
    results: dict[Drawn, Made | Rejected] = {}
    for one in drawn:
        if augmentations.needs(one.key) == "text":
            text = Code(build.texts.get(unit.source.text), None, None, clean=False)
            results[one] = _vary(text, one)
        elif augmentations.needs(one.key) == "tree" and unit.parse_status != "clean":
            results[one] = reason
    return results


def _take(
    build: BuildState, step: StepCounts, samples: list[Sample], unit: Unit, key: str, results: list[Made | Rejected]
) -> None:
    taken: set[Variant] = set()
    for result in results:
        if isinstance(result, Rejected):
            step.drop(unit.path, result.reason, f"{key}: {result.because}" if result.because else key)
        elif result.variant in taken:
            step.drop(unit.path, "same_text", f"{key}: another copy came out the same")
        else:
            variant = result.variant
            taken.add(variant)
            span = unit.source.text if variant.holes else build.texts.put(variant.text)
            holes = (place for hole in variant.holes for place in hole)
            name = content_id(unit.id, key, variant.text, *holes)
            samples.append(Sample(name, unit, key, span, variant.holes, window_starts=build.texts.put(result.starts)))
            step.keep()


class _Surroundings:
    """What stands around files: what they import, and what changed in them."""

    def __init__(self, run: BuildState, units: Sequence[Unit], changes: Sequence[Change]) -> None:
        self._run = run
        self._units = {unit.path: unit for unit in units}
        self._changes: dict[str, list[Change]] = defaultdict(list)
        for change in changes:
            if len(self._changes[change.current_path]) < LATEST:
                self._changes[change.current_path].append(change)
        self._memo: Memo[Framed] = Memo(run.cache, "frames", Framed)
        self._encode = msgspec.msgpack.Encoder().encode
        self._declared: dict[str, str] = {}

    def frames(self, unit: Unit, key: str) -> list[Frame] | Rejected:
        """The frames of a file. What it uses of many others is looked for once; its latest changes are few."""
        around = self._of(unit, key)
        if augmentations.needs(key) == "history":
            return _frames(key, around)
        declared = ((around.path, around.symbols), *around.neighbours)
        inputs = (key, around.text, *(part for file in declared for part in (file[0], self._digest(*file))))
        [known] = self._memo.get([inputs])
        if known is None:
            made = _frames(key, around)
            known = Framed(None, made) if isinstance(made, Rejected) else Framed(made, None)
            self._memo.put([(inputs, known)])
        return known.rejected or known.frames or []

    def _digest(self, path: str, symbols: tuple[Symbol, ...]) -> str:
        """Of what a file declares."""
        if path not in self._declared:
            self._declared[path] = content_id(self._encode(symbols))
        return self._declared[path]

    def _of(self, unit: Unit, key: str) -> Around:
        """What an augmentation for files with their surroundings needs of a file."""
        text = self._run.texts.get(unit.source.text)
        if augmentations.needs(key) == "history":
            return Around(unit.path, text, changes=tuple(_shown(self._run, one) for one in self._changes[unit.path]))
        others = (self._units.get(path) for path in unit.imports)
        shown = [other for other in others if other is not None and other.split in {"train", unit.split}]
        return Around(unit.path, text, tuple((other.path, other.symbols) for other in shown), symbols=unit.symbols)


def _shown(build: BuildState, change: Change) -> Shown:
    edits = tuple((build.texts.get(edit.before), build.texts.get(edit.after)) for edit in change.edits)
    return Shown(change.path, build.texts.get(change.message), edits, change.is_whole_file)


def _frames(key: str, around: Around) -> list[Frame] | Rejected:
    """The frames of one file or change, or why one of them or all cannot be."""
    framing = augmentations.framing(key)
    frames = framing.frame(around)
    if isinstance(frames, str):
        return Rejected(frames)
    wrong = next(filter(None, (framing.verify(around, frame) for frame in frames)), "")
    return Rejected("unverified", wrong) if wrong else frames


def _take_frames(
    run: BuildState,
    step: StepCounts,
    samples: list[Sample],
    origin: Unit | Change,
    key: str,
    frames: list[Frame] | Rejected,
) -> None:
    """Samples of all frames of one thing."""
    if isinstance(frames, Rejected):
        name = origin.path if isinstance(origin, Unit) else f"{origin.path}@{origin.commit}"
        step.drop(name, frames.reason, f"{key}: {frames.because}" if frames.because else key)
        return
    step.keep()
    kept: dict[bytes, Span] = {}  # frames of one thing show the same texts again and again

    def put(text: bytes) -> Span:
        if text not in kept:
            kept[text] = run.texts.put(text)
        return kept[text]

    for frame in frames:
        head = tuple(ContextPart(mark, put(text)) for mark, text in frame.head)
        shown = b"\0".join((frame.text, *(part.text for part in frame.head)))
        name = content_id(origin.id, key, frame.kind, shown, *(part.mark for part in frame.head))
        if isinstance(origin, Unit):
            samples.append(Sample(name, origin, key, origin.source.text, (), head, frame.kind, origin.window_starts))
        else:
            samples.append(Sample(name, origin, key, put(frame.text), (), head, frame.kind))
