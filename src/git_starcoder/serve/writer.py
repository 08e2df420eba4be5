"""Writes a completion token by token, judges it after each one, and stops as early as possible."""

from __future__ import annotations

import codecs
from math import exp, log
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.model.generation import Writer
from git_starcoder.serve.cursor import CancelledError, TokenChoice
from git_starcoder.serve.words import WORD, WordEnd, is_inside_word

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from git_starcoder.memory.repository_memory import MemoryReader
    from git_starcoder.serve.cursor import Reason, Wishes
    from git_starcoder.serve.ending import EndingRules
    from git_starcoder.serve.healing import TokenTable
    from git_starcoder.serve.prompt import Prompt
    from git_starcoder.text.tokenizer import Tokenizer


class SuggestionWriter(Writer):
    """A completion that is being written.

    Its confidence is the probability of its first line, the product of those of its tokens. The product only falls. So
    as soon as it is below the threshold, nothing more is computed, and the completion is what was written up to the
    last end of a word. Each further line of a block must pass the threshold as a whole.

    For example, the threshold is 0.3, and `return size(` has the probability 0.4, but with ` items` only 0.2. Then
    `return size(` is shown.
    """

    def __init__(
        self, prompt: Prompt, tokenizer: Tokenizer, table: TokenTable, wishes: Wishes, rules: EndingRules, *,
        threshold: float, reader: MemoryReader | None, has_drafts: bool, deadline: float,
        is_cancelled: Callable[[], bool] | None, on_text: Callable[[str], None] | None,
    ) -> None:  # fmt: skip
        """Begin after a prompt. See `Engine.complete` for the callbacks; `deadline` is one of `perf_counter`."""
        stop = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
        stop[[tokenizer.end_id, *tokenizer.control_tokens]] = True
        super().__init__(prompt.tokens, prompt.limit, stop, wishes.sampling, reader)
        self.choices: list[TokenChoice] = []
        self.ends: list[WordEnd] = []
        """The ends of words in the first line."""
        self.drafted = 0
        self._tokenizer = tokenizer
        self._table = table
        self._rest = prompt.healed
        self._healed_length = len(prompt.healed)
        self._rules = rules
        self._threshold = log(threshold) if threshold > 0 else -float("inf")
        self._has_drafts = has_drafts
        self._deadline = deadline
        self._line_seconds = wishes.line_seconds
        self._begun_at: float | None = None
        self._is_cancelled = is_cancelled
        self._on_text = on_text
        self._top_count = wishes.top_count
        self._probabilities: NDArray[np.float32] = np.zeros(0, dtype=np.float32)
        self._text = ""
        self._kept = self._settled = self._told = 0
        self._line_log = 0.0
        self._first_line_log: float | None = None
        self._reason: Reason | None = None

    @property
    def confidence(self) -> float:
        """The probability of the first line, as far as it was written."""
        return exp(self._line_log if self._first_line_log is None else self._first_line_log)

    def finish(self) -> tuple[str, Reason]:
        """Return the completion, and why it ended."""
        reason = self._reason
        if reason is None:
            verdict = self._rules.judge(self._text, is_over=True)
            self._kept = verdict.kept
            ended = bool(self.written) and bool(self._stop[self.written[-1]])
            if verdict.reason in {"suffix", "repetition", "stop"}:
                reason = verdict.reason
            else:
                reason = "end" if ended else "length"
                if not ended and self._rules.rule != "none":
                    # A line that the largest number of tokens cuts off is left out, unless it is the first one.
                    self._kept = self._settled or verdict.kept
        text = self._text[: self._kept]
        if not text.strip() and self._rules.rule != "none":
            return "", reason if reason in {"unsure", "suffix", "repetition", "stop", "time"} else "empty"
        self._tell(len(text))
        return text, reason

    def draft(self) -> list[int]:
        """Guess the tokens after the last one. This comes before each pass, so here the work can end."""
        if self._is_cancelled is not None and self._is_cancelled():
            raise CancelledError
        drafted = super().draft() if self._has_drafts else []
        self.drafted += len(drafted)
        return drafted

    def write(self, probabilities: NDArray[np.float32]) -> int:
        """Choose the next token and judge the text with it."""
        token = super().write(probabilities)
        probability = float(self._probabilities[token])
        text = self._tokenizer.decode([token])
        self.choices.append(TokenChoice(text, probability, self._most_likely()))
        if self._rest:
            self._rest = self._rest[len(text) :]
        before = WordEnd(len(self._text), self.confidence)
        self._line_log += log(max(probability, 1e-30))
        if not self._stop[token]:
            self._judge(before)
        elif self._first_line_log is None:
            self._note_end(before)
        if self._reason is None and self._line_log < self._threshold:
            self._give_up()
        if self._reason is None:
            self._look_at_clock()
        return token

    def _look_at_clock(self) -> None:
        now = perf_counter()
        if self._begun_at is None:
            self._begun_at = now
        if now > self._deadline:
            self._end("time", self._kept)
        elif now - self._begun_at > self._line_seconds and self._first_line_log is not None:
            self._end("time", self._settled)

    def _predict(self, probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
        mixed = super()._predict(probabilities)
        if self._rest:
            allowed = self._table.fitting(self._rest)
            fitting: NDArray[np.float32] = mixed[: self._tokenizer.vocab_size] * allowed
            # If the network and the memory exclude all of them, each is as good as the others.
            mixed = fitting / fitting.sum() if fitting.any() else allowed.astype(np.float32) / allowed.sum()
        self._probabilities = mixed.astype(np.float32)
        return self._probabilities

    def _judge(self, end: WordEnd) -> None:
        """Judge the text with a new token. `end` is the end of the text without it."""
        data = self._tokenizer.decode(self.written)[self._healed_length :]
        # A character that is not complete yet is left out.
        before, self._text = self._text, codecs.getincrementaldecoder("utf-8")("replace").decode(data)
        verdict = self._rules.judge(self._text)
        self._kept = verdict.kept
        if self._first_line_log is None:
            self._note_end(end)
        has_new_line = "\n" in self._text[len(before) :] and bool(self._text[: len(before)].strip())
        if has_new_line or verdict.reason:
            if self._line_log < self._threshold:
                self._give_up()
                return
            if self._first_line_log is None and self._text.strip():
                self._first_line_log = self._line_log
            if has_new_line and not verdict.reason:
                self._line_log = 0.0
        if verdict.reason:
            self._end(verdict.reason, verdict.kept)
        elif self._first_line_log is not None or self._threshold == -float("inf"):
            self._settled = max(self._settled, verdict.settled)
            self._tell(self._settled)

    def _note_end(self, end: WordEnd) -> None:
        """Remember a place of the first line, if a word ends there and the completion could end there."""
        written = self._text[: end.place].rstrip()
        if len(written) <= self._kept and WORD.search(written) and not is_inside_word(self._text, len(written)):
            self.ends.append(end._replace(place=len(written)))

    def _give_up(self) -> None:
        """End because of a line that is too uncertain. What is before it is shown, or the certain part of the first."""
        if self._first_line_log is not None:
            self._end("block", self._settled)
        elif self.ends:
            self._first_line_log = log(self.ends[-1].confidence)
            self._end("word", self.ends[-1].place)
        else:
            self._end("unsure", 0)

    def _end(self, reason: Reason, kept: int) -> None:
        self._reason, self._kept = reason, kept
        self.is_done = True

    def _tell(self, end: int) -> None:
        """Report the text up to a place."""
        if self._on_text is not None and end > self._told:
            self._on_text(self._text[self._told : end])
            self._told = end

    def _most_likely(self) -> tuple[tuple[bytes, float], ...]:
        if not self._top_count:
            return ()
        best: list[int] = np.argsort(-self._probabilities, kind="stable")[: self._top_count].tolist()
        return tuple((self._tokenizer.decode([token]), float(self._probabilities[token])) for token in best)
