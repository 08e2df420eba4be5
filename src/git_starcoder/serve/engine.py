r"""The engine: one model that completes code at a cursor, fast enough to be asked after each keystroke.

    with Engine.open("model_natural", repository=Path(".")) as engine:
        suggestion = engine.complete(Cursor(prefix="def add(a, b):\n    ret", path="src/math.py"))
        print(suggestion.text, suggestion.explain())

What is computed is kept between requests: the keys and values of the prompt's tokens, and what the memory has read of
the text. A request reads only what is different. That is kept for the texts that were completed last, so that several
editors may ask in turns. The memory drafts several tokens, which the network verifies in one pass. All methods may be
called from any thread; one completion is computed at a time.
"""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from git_starcoder.memory.repository_memory import MemoryReader
from git_starcoder.model.base_model import find_base_folder
from git_starcoder.model.base_weights import load_base_network
from git_starcoder.model.complete import Model
from git_starcoder.model.generation import write_with_drafts
from git_starcoder.model.lean_network import LeanNetwork
from git_starcoder.model.loading import TRAINING_RECORD, knows_suffix_first
from git_starcoder.model.with_context import NetworkWithContext
from git_starcoder.model.with_memory import texts_of_prompt
from git_starcoder.serve.confidence import DEFAULT_THRESHOLD, open_model
from git_starcoder.serve.cursor import DEFAULT_WISHES, CancelledError, Suggestion, Wishes
from git_starcoder.serve.ending import EndingRules
from git_starcoder.serve.follow import Follower
from git_starcoder.serve.healing import TokenTable
from git_starcoder.serve.prompt import MAX_EXCERPT_TOKENS, make_prompt, plain_text, text_tokens
from git_starcoder.serve.writer import SuggestionWriter
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.visible import escape_surrogates
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from git_starcoder.memory.repository_memory import RepositoryMemory
    from git_starcoder.model.generation import Passes
    from git_starcoder.model.loading import AnyNetwork
    from git_starcoder.serve.cursor import Cursor
    from git_starcoder.serve.prompt import Prompt

    Tokens = Any

MODEL_OF_RUN = "model"
"""The name of the folder of a model in that of a run."""
KEPT_TEXTS = 4
"""Texts for which what was computed is kept."""
SMALL_PASS_TOKENS = 64
"""A pass of fewer tokens uses one thread. A second one hardly makes it faster, and slower if the machine is busy: after
each operation, the threads wait for each other."""
PASS_TOKENS = 512
"""Tokens of a prompt that are read in one pass; between two passes a completion can be cancelled."""
MIN_SHARED = 1 / 2
"""Two texts without a path are versions of one if more than this share of the shorter one is their beginning."""
MIN_KEPT_TOKENS = 8
"""A prompt that shares fewer tokens with the one before is read from its beginning."""


class EngineParts(NamedTuple):
    """What can be switched off, to measure what it is worth."""

    drafts: bool = True
    cache: bool = True


ALL_PARTS = EngineParts()


class _Reading(NamedTuple):
    """A reader of the memory and what it has read."""

    reader: MemoryReader
    others: tuple[bytes, ...]
    current: Tokens


@dataclass(slots=True)
class _Text:
    """A text that was completed, and what was computed for it."""

    asked_path: str
    """The path that the client gave."""
    before: Tokens
    """The tokens before the newest cursor."""
    start: int = 0
    """Where the newest prompt begins in the text, in tokens."""
    found_path: str = ""
    """The path that was found for the newest cursor without one."""
    passes: Passes | None = None
    reading: _Reading | None = None


class Engine:
    """A model, what it knows of a repository, and what it has computed for the newest prompt."""

    def __init__(
        self, model: Model, *, repository: Path | None = None, threshold: float = 0.0, name: str = "",
        parts: EngineParts = ALL_PARTS,
    ) -> None:  # fmt: skip
        """Use a model that is loaded. See `open`."""
        reader = model.network
        self.model = model
        self.name = name
        """The name of the model, for users. It can be written as UTF-8."""
        self.network: AnyNetwork = reader.network if isinstance(reader, NetworkWithContext) else reader
        self.threshold = threshold
        """The confidence from which a completion is shown."""
        self._budget = reader.budget if isinstance(reader, NetworkWithContext) else 0
        self._table = TokenTable(model.tokenizer)
        self._parts = parts
        self._composer = reader.composer if isinstance(reader, NetworkWithContext) else None
        self.follower = Follower(model.tokenizer, model.memory, self._composer, repository)
        """What is known of the repository."""
        self._lock = Lock()
        self._texts: list[_Text] = []
        """The newest is last."""

    @classmethod
    def open(cls, name: str | Path, *, repository: Path | None = None, parts: EngineParts = ALL_PARTS) -> Self:
        """Load a model, and follow the files of a repository if it has a memory.

        Args:
            name: The folder of a model, the name of a base, or a Hugging Face id of a causal language model.
            repository: A folder in the work tree that is edited.
            parts: What is switched on.

        Raises:
            DatasetError: The folder of the model is damaged.
            UsageError: There is no such model, or it cannot be run.
            RepositoryError: `repository` is in no work tree.
            MissingExtraError: torch, transformers or watchfiles is not installed.
        """
        folder = expand_user(name)
        model_name = escape_surrogates(_name_of(folder) if folder.exists() else str(name))
        threshold = DEFAULT_THRESHOLD
        if (folder / TRAINING_RECORD).is_file():
            model, threshold = open_model(folder)
        else:
            folder = find_base_folder(str(name))
            tokenizer = tokenizers.load_tokenizer(folder)
            suffix_first = knows_suffix_first({"base": str(name)})
            network = LeanNetwork.open(folder, tokenizer) or load_base_network(str(name), tokenizer)
            model = Model(network, tokenizer, suffix_first=suffix_first)
        return cls(model, repository=repository, threshold=threshold, name=model_name, parts=parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def follow(self, repository: Path) -> None:
        """Follow the files of another repository from now on.

        Raises:
            RepositoryError: `repository` is in no work tree.
        """
        before, follower = self.follower, Follower(self.model.tokenizer, self.model.memory, self._composer, repository)
        with self._lock:
            self.follower = follower
        before.close()

    def close(self) -> None:
        """Stop following the repository."""
        self.follower.close()

    def complete(
        self, cursor: Cursor, wishes: Wishes = DEFAULT_WISHES, *, is_cancelled: Callable[[], bool] | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Suggestion:  # fmt: skip
        """Say what may stand at a cursor.

        Args:
            cursor: The text around it.
            wishes: What the client may choose.
            is_cancelled: Is asked before each pass through the network, some hundred times a second.
            on_text: Is called with each part of the completion that is certain to be shown, as soon as it is. The parts
                together are the text of the suggestion.

        Raises:
            CancelledError: `is_cancelled` returned true.
        """
        start = perf_counter()
        with self._lock, self.network.without_gradient():
            if is_cancelled is not None and is_cancelled():
                raise CancelledError
            return self._complete(cursor, wishes, start, is_cancelled, on_text)

    def open_passes(self) -> Passes:
        """Begin passes of a text of its own through the network."""
        return self.network.open_passes()

    def _complete(
        self, cursor: Cursor, wishes: Wishes, start: float, is_cancelled: Callable[[], bool] | None,
        on_text: Callable[[str], None] | None,
    ) -> Suggestion:  # fmt: skip
        texts = text_tokens(self.model, cursor)
        text = self._take_text(cursor.path, texts[0])
        path = cursor.path or self._find_path(text, texts)
        text.before = texts[0]
        memory, composer = self.follower.knowledge(path, cursor.open_texts)
        for kept in self._texts:  # a reader holds its memory
            if kept.reading is not None and not self.follower.keeps(kept.reading.reader.memory):
                kept.reading = None
        prompt = make_prompt(
            self.model, texts, path, composer, self._budget, self._table, wishes.max_tokens, self.network.context,
            text.start,
        )  # fmt: skip
        text.start = prompt.start
        reader = self._read_along(text, memory, prompt, cursor.excerpts)
        threshold = wishes.min_confidence
        if threshold is None:
            threshold = 0.0 if wishes.ending == "none" else self.threshold
        writer = SuggestionWriter(
            prompt, self.model.tokenizer, self._table, wishes, EndingRules.at(cursor, wishes.ending, wishes.stop),
            threshold=threshold, reader=reader, has_drafts=self._parts.drafts, deadline=start + wishes.seconds,
            is_cancelled=is_cancelled, on_text=on_text,
        )  # fmt: skip
        try:
            tokens = self.network.add_first_token(prompt.tokens)
            passes, cached, probabilities = self._read_prompt(text, tokens, is_cancelled)
            prompt_seconds = perf_counter() - start
            with self.network.limit_threads(1):
                write_with_drafts(passes, writer, probabilities)
        except BaseException:
            text.passes = None  # it may have stopped in the middle of a pass
            raise
        finally:
            if reader is not None:
                reader.forget(len(writer.written))
        written, reason = writer.finish()
        return Suggestion(
            written, reason, writer.confidence, threshold, path, len(tokens), cached, tuple(writer.choices),
            tuple(writer.ends), writer.drafted, perf_counter() - start,
            prompt_seconds,
        )  # fmt: skip

    def _take_text(self, asked_path: str, before: Tokens) -> _Text:
        """Return what was computed for the text before a cursor: that with the longest shared beginning, or nothing.

        Two files may begin alike, for example with a licence. So most of the text must be shared if there is no path.
        """
        shared = [_shared_length(each.before, before) if each.asked_path == asked_path else -1 for each in self._texts]
        best = max(range(len(shared)), key=shared.__getitem__, default=-1)
        is_same = best >= 0 and shared[best] >= 0
        if is_same and not asked_path:
            is_same = shared[best] > MIN_SHARED * min(len(before), len(self._texts[best].before))
        text = self._texts.pop(best) if is_same else _Text(asked_path, before[:0])
        self._texts = [*self._texts[1 - KEPT_TEXTS :], text]
        return text

    def _find_path(self, text: _Text, texts: tuple[Tokens, Tokens, Tokens]) -> str:
        """Find the file of a cursor whose client does not tell it. What was found last stays if nothing is found."""
        before, after, _ = texts
        if found := self.follower.find_path(before, after):
            text.found_path = found
        elif _shared_length(text.before, before) < len(before) // 2:
            text.found_path = ""
        return text.found_path

    def _read_prompt(
        self, text: _Text, tokens: Tokens, is_cancelled: Callable[[], bool] | None
    ) -> tuple[Passes, int, Any]:
        """Let the network read a prompt: what is different from what it has read.

        Returns the passes, the tokens that were not read again, and the probabilities of the next token.
        """
        passes, cached = text.passes, 0
        if passes is not None and passes.can_forget and self._parts.cache:
            known = passes.tokens()
            # The last token is always read: its prediction is needed.
            cached = min(_shared_length(known, tokens), len(tokens) - 1)
            if cached >= MIN_KEPT_TOKENS:
                passes.forget(len(known) - cached)
        if passes is None or cached < MIN_KEPT_TOKENS:
            passes, cached = self.open_passes(), 0
        text.passes = passes
        probabilities = None
        for first in range(cached, len(tokens), PASS_TOKENS):
            if is_cancelled is not None and is_cancelled():
                raise CancelledError
            part = tokens[first : first + PASS_TOKENS].tolist()
            with self.network.limit_threads(1) if len(part) < SMALL_PASS_TOKENS else nullcontext():
                probabilities = passes.read([part], is_prompt=True)[0]
        return passes, cached, probabilities

    def _read_along(
        self, text: _Text, memory: RepositoryMemory | None, prompt: Prompt, excerpts: Sequence[str]
    ) -> MemoryReader | None:
        """Return a reader of the memory that has read the texts of a prompt, the one of the last request if it can."""
        if memory is None:
            return None
        others, current = texts_of_prompt(prompt.remembered, self.model.tokenizer)
        if excerpts:
            shown = [plain_text(excerpt) for excerpt in excerpts]
            tokens, offsets = self.model.tokenizer.encode(shown)
            kept = tokens[-MAX_EXCERPT_TOKENS:].astype(np.int64)
            edges = offsets[1:-1] - (len(tokens) - len(kept))
            others = [part for part in np.split(kept, edges[edges > 0]) if len(part)] + others
        key = tuple(part.tobytes() for part in others)
        reading = text.reading
        if reading is None or reading.reader.memory is not memory or reading.others != key:
            reading = _Reading(MemoryReader(memory, others), key, current[:0])
        shared = _shared_length(reading.current, current)
        reading.reader.forget(len(reading.current) - shared)
        reading.reader.add(current[shared:].tolist())
        text.reading = reading._replace(current=current)
        return reading.reader


def _name_of(folder: Path) -> str:
    """The name of the model in a folder. The one that `run` writes is called `model`, like all others."""
    folder = folder.resolve()
    return f"{folder.parent.name}/{folder.name}" if folder.name == MODEL_OF_RUN else folder.name


def keep_collector_short() -> None:
    """Let Python's garbage collector skip what exists now: libraries and the model, which stay until the end.

    To look through all of them takes some tenths of a second, in the middle of a completion. For a process that serves
    one model.
    """
    gc.collect()
    gc.freeze()


def _shared_length(left: Tokens, right: Tokens) -> int:
    """The number of tokens with which both begin."""
    length = min(len(left), len(right))
    differs = np.flatnonzero(left[:length] != right[:length])
    return int(differs[0]) if len(differs) else length
