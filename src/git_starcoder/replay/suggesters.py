"""What is asked for suggestions: the model as an editor uses it, the memory alone, and two baselines that count."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from itertools import pairwise
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from git_starcoder.memory.repository_memory import MemoryReader
from git_starcoder.model.with_memory import texts_of_prompt
from git_starcoder.replay.person import NO_ANSWER, Answer
from git_starcoder.serve.cursor import Cursor, Wishes
from git_starcoder.serve.ending import EndingRules
from git_starcoder.serve.engine import Engine
from git_starcoder.serve.healing import TokenTable
from git_starcoder.serve.prompt import make_prompt, text_tokens
from git_starcoder.serve.writer import SuggestionWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from git_starcoder.memory.repository_memory import Floats, RepositoryMemory
    from git_starcoder.model.complete import Model
    from git_starcoder.serve.follow import Follower

    Tokens = NDArray[np.integer]

UNLIMITED_TOKENS = 1 << 20
"""Tokens that a memory reads before a cursor: all that there are."""
WISHES = Wishes(min_confidence=0.0, seconds=inf)
"""Every suggestion is wanted, whatever its confidence, and no clock ends it. The thresholds are applied later."""
WORD_OR_SIGN = re.compile(r"\w+|[^\w\s]")


class Suggester(Protocol):
    """Answers at the pauses of a person."""

    name: str

    def learn(self, files: Mapping[str, str | None]) -> None:
        """Learn that files have other texts now: None if there is none any more."""
        ...

    def suggest(self, path: str, before: str, after: str) -> Answer:
        """Say what may come between two texts of a file."""
        ...


class EditorSuggester:
    """The model with its memory and its context, as an editor asks it."""

    name = "network and memory"

    def __init__(self, model: Model) -> None:
        self._engine = Engine(model)
        self.follower = self._engine.follower
        """What the model knows of the repository. As in an editor, the file that is typed is not in the memory."""
        if model.memory is None:
            self.name = "network"

    def learn(self, files: Mapping[str, str | None]) -> None:
        """Learn that files have other texts now: what the disk is in an editor."""
        self.follower.learn({path: None if text is None else text.encode() for path, text in files.items()})

    def suggest(self, path: str, before: str, after: str) -> Answer:
        """Ask the engine."""
        found = self._engine.complete(Cursor(before, after, path), WISHES)
        return Answer(found.text, found.confidence, found.seconds, found.ends)


class _LoneReader(MemoryReader):
    """A memory that is mixed into nothing."""

    def mix(self, prediction: Floats) -> Floats:
        """Return the memory's own probabilities."""
        del prediction
        return self.predict()


class _Reading(NamedTuple):
    """A reader and what it has read."""

    reader: _LoneReader
    others: tuple[bytes, ...]
    current: Tokens


class MemorySuggester:
    """The memory alone, with the same prompts and the same endings as the editor."""

    name = "memory alone"

    def __init__(self, model: Model, follower: Follower) -> None:
        """Ask the memory of a follower, which is that of the editor."""
        self._model, self._follower = model, follower
        self._table = TokenTable(model.tokenizer)
        self._uniform = np.full(model.tokenizer.vocab_size, 1 / model.tokenizer.vocab_size, dtype=np.float32)
        self._reading: _Reading | None = None

    def learn(self, files: Mapping[str, str | None]) -> None:
        """The follower learns them from the editor."""

    def suggest(self, path: str, before: str, after: str) -> Answer:
        """Let the memory write."""
        start = perf_counter()
        model, cursor = self._model, Cursor(before, after, path)
        memory = self._follower.knowledge(path, {}).memory
        if memory is None:
            return NO_ANSWER
        texts = text_tokens(model, cursor)
        prompt = make_prompt(model, texts, path, None, 0, self._table, WISHES.max_tokens, UNLIMITED_TOKENS)
        reader = self._read(memory, prompt.remembered)
        rules = EndingRules.at(cursor, WISHES.ending)
        writer = SuggestionWriter(
            prompt, model.tokenizer, self._table, WISHES, rules, threshold=0.0, reader=reader, has_drafts=False,
            deadline=inf, is_cancelled=None, on_text=None,
        )  # fmt: skip
        while not writer.is_done:
            writer.write(self._uniform)
        reader.forget(len(writer.written))
        return Answer(writer.finish()[0], writer.confidence, perf_counter() - start, tuple(writer.ends))

    def _read(self, memory: RepositoryMemory, prompt: Tokens) -> _LoneReader:
        """Return a reader that has read a prompt: that of the last one, if it only goes on."""
        others, current = texts_of_prompt(prompt, self._model.tokenizer)
        key = tuple(text.tobytes() for text in others)
        reading = self._reading
        if reading is None or reading.reader.memory is not memory or reading.others != key:
            reading = _Reading(_LoneReader(memory, others), key, current[:0])
        size = min(len(reading.current), len(current))
        differs = np.flatnonzero(reading.current[:size] != current[:size])
        shared = int(differs[0]) if len(differs) else size
        reading.reader.forget(len(reading.current) - shared)
        reading.reader.add(current[shared:].tolist())
        self._reading = reading._replace(current=current)
        return reading.reader


class FrequentLineSuggester:
    """The line that most often begins as the line of the cursor does, and follows a line like the one above.

    If no line does both, it is the most frequent of those that begin in this way. The lines are those of all files. The
    confidence is its share among them.
    """

    name = "most frequent line"

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._after: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._lines = Counter[str]()

    def learn(self, files: Mapping[str, str | None]) -> None:
        """Count the lines of files."""
        for path, text in files.items():
            for sign, lines in ((-1, self._files.pop(path, "")), (1, text or "")):
                above = ""
                for line in filter(None, map(str.strip, lines.split("\n"))):
                    self._after[above][line] += sign
                    self._lines[line] += sign
                    above = line
            if text is not None:
                self._files[path] = text

    def suggest(self, path: str, before: str, after: str) -> Answer:
        """Look for the line."""
        del path, after
        start = perf_counter()
        *above, line = before.split("\n")
        previous = next((text.strip() for text in reversed(above) if text.strip()), "")
        begun = line.lstrip()
        for counts in (self._after.get(previous, Counter[str]()), self._lines if begun else Counter[str]()):
            found = {each: count for each, count in counts.items() if count > 0 and each.startswith(begun)}
            found.pop(begun.rstrip(), None)
            if found:
                best = min(found, key=lambda each: (-found[each], each))
                return Answer(best[len(begun) :], found[best] / sum(found.values()), perf_counter() - start)
        return NO_ANSWER._replace(seconds=perf_counter() - start)


class BufferWordsSuggester:
    """The word or sign that most often follows the one before the cursor in the file. The confidence is its share."""

    name = "words of the buffer"

    def learn(self, files: Mapping[str, str | None]) -> None:
        """Nothing but the buffer is read."""

    def suggest(self, path: str, before: str, after: str) -> Answer:
        """Count what follows."""
        del path
        start = perf_counter()
        words = WORD_OR_SIGN.findall(before)
        if not words:
            return NO_ANSWER
        last, *_ = reversed(words)
        both = [*words, "\n", *WORD_OR_SIGN.findall(after)]
        counts = Counter(word for one, word in pairwise(both) if one == last and word[0].isalnum())
        seconds = perf_counter() - start
        if not counts:
            return NO_ANSWER._replace(seconds=seconds)
        best = min(counts, key=lambda word: (-counts[word], word))
        return Answer(best, counts[best] / counts.total(), seconds)
