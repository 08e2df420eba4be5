"""The shapes of answers: those of OpenAI's completions, of llama.cpp and of Ollama, whole and as streams."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec
from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.serve.cursor import Suggestion, TokenChoice
    from git_starcoder.serve.fields import Order

FinishReason = Literal["stop", "length"]
MIN_PROBABILITY = 1e-30


class Usage(Struct):
    """The tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Logprobs(Struct):
    """The natural logarithms of the probabilities of the tokens, in OpenAI's older form."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int]


class Choice(Struct):
    """One completion."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: FinishReason | None
    reason: str | None = None
    """Why the completion is as it is, for people."""
    confidence: float | None = None


class CompletionAnswer(Struct):
    """The answer of `/v1/completions`, or a part of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


class Timings(Struct):
    """What a completion took."""

    prompt_n: int
    """Tokens of the prompt that were read: without those that were read before."""
    cache_n: int
    prompt_ms: float
    predicted_n: int
    predicted_ms: float


class InfillAnswer(Struct):
    """The answer of `/infill` and `/completion`, or a part of their streams. The first key must be `content`."""

    content: str
    stop: bool
    index: int = 0
    model: str = ""
    tokens_predicted: int = 0
    tokens_evaluated: int = 0
    tokens_cached: int = 0
    truncated: bool = False
    stop_type: Literal["none", "eos", "limit", "word"] = "none"
    stopping_word: str = ""
    reason: str | None = None
    confidence: float | None = None
    timings: Timings | None = None


class GenerateAnswer(Struct):
    """The answer of `/api/generate`, or a line of its stream. Times are in nanoseconds."""

    model: str
    created_at: str
    response: str
    done: bool
    done_reason: Literal["stop", "length", "load"] | None = None
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None
    reason: str | None = None
    confidence: float | None = None


class Labels(NamedTuple):
    """What all answers to a request have in common."""

    request_id: str
    model: str
    created: int
    """Seconds since 1970."""

    @property
    def created_at(self) -> str:
        """The time as Ollama writes it."""
        return datetime.fromtimestamp(self.created, UTC).isoformat().replace("+00:00", "Z")


def encode(value: Any) -> bytes:
    """The JSON of an answer on one line, without blanks: llama.vim finds `"content":"` in it."""
    return msgspec.json.encode(value)


def event(value: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + encode(value) + b"\n\n"


LAST_EVENT = b"data: [DONE]\n\n"


def whole_completion(labels: Labels, order: Order, suggestions: Sequence[Suggestion]) -> CompletionAnswer:
    """The answer of `/v1/completions`."""
    choices = [completion_choice(index, each, order, each.text) for index, each in enumerate(suggestions)]
    return CompletionAnswer(
        labels.request_id, "text_completion", labels.created, labels.model, choices, count_usage(order, suggestions)
    )


def completion_part(labels: Labels, choices: list[Choice], usage: Usage | None = None) -> CompletionAnswer:
    """A part of a stream of `/v1/completions`."""
    return CompletionAnswer(labels.request_id, "text_completion", labels.created, labels.model, choices, usage)


def completion_choice(index: int, suggestion: Suggestion, order: Order, text: str) -> Choice:
    """A finished choice; in a stream, its text was sent before."""
    logprobs = describe_logprobs(suggestion.tokens) if order.wishes.top_count else None
    return Choice(text, index, logprobs, finish_reason(suggestion), suggestion.explain(), suggestion.confidence)


def count_usage(order: Order, suggestions: Sequence[Suggestion]) -> Usage:
    """The tokens of a request; the prompt of several choices counts once."""
    prompt = sum(suggestion.prompt_tokens for suggestion in suggestions[:: order.choices])
    written = sum(len(suggestion.tokens) for suggestion in suggestions)
    return Usage(prompt, written, prompt + written)


def describe_logprobs(tokens: Sequence[TokenChoice]) -> Logprobs:
    """The probabilities of tokens. If a completion was cut, they are those of all that was written."""
    from math import log

    def logarithm(probability: float) -> float:
        return log(max(probability, MIN_PROBABILITY))

    texts = [token.text.decode("utf-8", "replace") for token in tokens]
    top = [{text.decode("utf-8", "replace"): logarithm(p) for text, p in token.top} for token in tokens]
    offsets: list[int] = [sum(map(len, texts[:index])) for index in range(len(texts))]
    return Logprobs(texts, [logarithm(token.probability) for token in tokens], top, offsets)


def finish_reason(suggestion: Suggestion) -> FinishReason:
    """Whether a completion ended by itself."""
    return "length" if suggestion.reason in {"length", "time"} else "stop"


def infill_answer(labels: Labels, index: int, suggestion: Suggestion, text: str) -> InfillAnswer:
    """The answer of `/infill` and `/completion`; in a stream, the text was sent before."""
    kinds: dict[str, Any] = {"length": "limit", "time": "limit", "stop": "word"}
    prompt_ms, all_ms = 1000 * suggestion.prompt_seconds, 1000 * suggestion.seconds
    read = suggestion.prompt_tokens - suggestion.cached_tokens
    timings = Timings(read, suggestion.cached_tokens, prompt_ms, len(suggestion.tokens), all_ms - prompt_ms)
    return InfillAnswer(
        text, True, index, labels.model, len(suggestion.tokens), suggestion.prompt_tokens, suggestion.cached_tokens,
        stop_type=kinds.get(suggestion.reason, "eos"), reason=suggestion.explain(), confidence=suggestion.confidence,
        timings=timings,
    )  # fmt: skip


def select_fields(answer: InfillAnswer, wanted: Sequence[str] | None) -> Any:
    """The fields of an answer that a client asks for, as llama.cpp names them: `timings/prompt_n` is one of a part."""
    if wanted is None:
        return answer
    values: Any = msgspec.to_builtins(answer)
    found: dict[str, Any] = {}
    for name in wanted:
        value = values
        for part in name.split("/"):
            value = value.get(part) if isinstance(value, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if value is not None:
            found[name] = value
    return found


def generate_answer(labels: Labels, suggestion: Suggestion, text: str) -> GenerateAnswer:
    """The answer of `/api/generate`; in a stream, the text was sent before."""
    nanoseconds = int(suggestion.seconds * 1e9)
    return GenerateAnswer(
        labels.model, labels.created_at, text, True, finish_reason(suggestion), nanoseconds, 0,
        suggestion.prompt_tokens, len(suggestion.tokens),
        nanoseconds - int(suggestion.prompt_seconds * 1e9), suggestion.explain(), suggestion.confidence,
    )  # fmt: skip
