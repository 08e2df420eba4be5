"""The fields of requests: those of OpenAI's completions, of llama.cpp and of Ollama that mean something here.

Fields that are not listed are ignored and counted. Every request becomes an `Order`. No field names a file or a model
to load: `model` and `path` are only text.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple, Protocol, TypeVar, cast

from msgspec import Meta, Struct, ValidationError, convert
from msgspec.structs import fields as struct_fields

from git_starcoder.model.generation import Sampling
from git_starcoder.serve.cursor import Cursor, EndingRule, Wishes
from git_starcoder.serve.templates import split_template

MAX_PROMPTS = 8
"""Prompts in one request."""
MAX_CHOICES = 8
"""Completions of one prompt."""
MAX_TOKENS = 4096
MAX_STOPS = 16
DEFAULT_TOKENS = 64
TOP_CHOICES = 5

Tokens = Annotated[int, Meta(ge=0, le=MAX_TOKENS, description="The largest number of new tokens.")]
AnyTokens = Annotated[int, Meta(ge=-2, le=2**31, description="The largest number of new tokens; below 0: the default.")]
Temperature = Annotated[float, Meta(ge=0, le=10, description="0 always takes the most likely token.")]
TopP = Annotated[float, Meta(ge=0, le=1, description="Only the most likely tokens with this share are drawn.")]
TopK = Annotated[int, Meta(ge=-1, le=2**31, description="Only this many of the most likely tokens; below 1: all.")]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, description="Seed of sampling.")]
Choices = Annotated[int, Meta(ge=1, le=MAX_CHOICES, description="How many completions.")]
LINE_TIME = "No further line is begun so many milliseconds after the first token; below 1: no limit."
LineTime = Annotated[int, Meta(ge=-(2**31), le=2**31, description=LINE_TIME)]
Stop = str | Annotated[list[str], Meta(max_length=MAX_STOPS)]
Path = Annotated[str, Meta(max_length=4096, description="The path of the file in its repository.")]
Confidence = Annotated[float, Meta(ge=0, le=1, description="Below this, nothing is shown. 0 shows everything.")]


class StreamOptions(Struct):
    """What a stream has besides the text."""

    include_usage: bool = False


class OpenFile(Struct):
    """A file, or a part of one, that is open in the editor."""

    text: str
    filename: str | None = None


class CompletionFields(Struct):
    """The fields of `/v1/completions`."""

    prompt: str | Annotated[list[str], Meta(min_length=1, max_length=MAX_PROMPTS)] = ""
    suffix: str | None = None
    max_tokens: Tokens | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    n: Choices | None = None
    stop: Stop | None = None
    seed: Seed | None = None
    logprobs: Annotated[int, Meta(ge=0, le=TOP_CHOICES)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    model: str | None = None
    path: Path | None = None
    ending: EndingRule | None = None
    min_confidence: Confidence | None = None


class InfillFields(Struct):
    """The fields of `/infill`."""

    input_prefix: str = ""
    input_suffix: str = ""
    prompt: str = ""
    input_extra: Annotated[list[OpenFile], Meta(max_length=256)] | None = None
    n_predict: AnyTokens | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    t_max_predict_ms: LineTime | None = None
    n_cmpl: Choices | None = None
    response_fields: Annotated[list[str], Meta(max_length=64)] | None = None
    path: Path | None = None
    ending: EndingRule | None = None
    min_confidence: Confidence | None = None


class ContinuationFields(Struct):
    """The fields of `/completion`."""

    prompt: str = ""
    n_predict: AnyTokens | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop | None = None
    stream: bool | None = None
    t_max_predict_ms: LineTime | None = None
    n_cmpl: Choices | None = None
    response_fields: Annotated[list[str], Meta(max_length=64)] | None = None
    path: Path | None = None
    ending: EndingRule | None = None
    min_confidence: Confidence | None = None


class OllamaOptions(Struct):
    """The `options` of Ollama."""

    num_predict: AnyTokens | None = None
    temperature: Temperature | None = None
    top_k: TopK | None = None
    top_p: TopP | None = None
    seed: Seed | None = None
    stop: Stop | None = None


class GenerateFields(Struct):
    """The fields of `/api/generate`."""

    prompt: str | None = None
    suffix: str | None = None
    model: str | None = None
    stream: bool | None = None
    options: OllamaOptions | None = None
    path: Path | None = None
    ending: EndingRule | None = None
    min_confidence: Confidence | None = None


class ShowFields(Struct):
    """The fields of `/api/show`."""

    model: str | None = None
    name: str | None = None


class Order(NamedTuple):
    """What a request asks for."""

    cursors: tuple[Cursor, ...]
    wishes: Wishes
    choices: int
    """Completions of each cursor."""
    is_streamed: bool


class _Sampled(Protocol):
    """The fields that all requests for text have."""

    @property
    def temperature(self) -> float | None: ...
    @property
    def top_p(self) -> float | None: ...
    @property
    def seed(self) -> int | None: ...
    @property
    def stop(self) -> str | list[str] | None: ...


class _Ended(Protocol):
    @property
    def path(self) -> str | None: ...
    @property
    def ending(self) -> EndingRule | None: ...
    @property
    def min_confidence(self) -> float | None: ...


FieldsType = TypeVar("FieldsType", bound=Struct)


def read_fields(kind: type[FieldsType], values: Any) -> tuple[FieldsType, list[str]]:
    """Read the fields of a request, and return them with the names of those that mean nothing here.

    Raises:
        ValidationError: The request is no object, or a field has a wrong type or value. The message names the field.
    """
    if not isinstance(values, dict):
        raise ValidationError("Expected `object`")
    known = {field.encode_name for field in struct_fields(kind)}
    given = cast("dict[str, Any]", values)
    return convert(_whole_numbers(given), kind), [name for name in given if name not in known]


def _whole_numbers(value: Any) -> Any:
    """Values in which a number such as 1.0 is an integer, as JSON Schema has it."""
    if isinstance(value, dict):
        return {name: _whole_numbers(part) for name, part in cast("dict[str, Any]", value).items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def order_completion(fields: CompletionFields) -> Order:
    """Return what a request to `/v1/completions` asks for."""
    prompts = [fields.prompt] if isinstance(fields.prompt, str) else fields.prompt
    cursors = tuple(_cursor(prompt, fields.suffix, fields.path) for prompt in prompts)
    tokens = DEFAULT_TOKENS if fields.max_tokens is None else fields.max_tokens
    wishes = _wishes(fields, fields, tokens, 0)._replace(top_count=fields.logprobs or 0)
    return Order(cursors, wishes, fields.n or 1, bool(fields.stream))


def order_infill(fields: InfillFields) -> Order:
    """Return what a request to `/infill` asks for."""
    seen = tuple(extra.text for extra in fields.input_extra or ())
    cursor = Cursor(fields.input_prefix + fields.prompt, fields.input_suffix, fields.path or "", excerpts=seen)
    return _order_like_llama(cursor, fields)


def order_continuation(fields: ContinuationFields) -> Order:
    """Return what a request to `/completion` asks for."""
    cursor = _cursor(fields.prompt, None, fields.path)
    return _order_like_llama(cursor, fields)


def _order_like_llama(cursor: Cursor, fields: InfillFields | ContinuationFields) -> Order:
    wishes = _wishes(fields, fields, fields.n_predict, fields.top_k)
    if (milliseconds := fields.t_max_predict_ms or 0) > 0:
        wishes = wishes._replace(line_seconds=milliseconds / 1000)
    return Order((cursor,), wishes, fields.n_cmpl or 1, bool(fields.stream))


def order_generation(fields: GenerateFields) -> Order:
    """Return what a request to `/api/generate` asks for. Ollama streams unless it is told otherwise."""
    options = fields.options or OllamaOptions()
    # Without a prompt, Ollama only loads the model.
    tokens = options.num_predict if fields.prompt or fields.suffix else 0
    cursor = _cursor(fields.prompt or "", fields.suffix, fields.path)
    return Order((cursor,), _wishes(options, fields, tokens, options.top_k), 1, fields.stream is not False)


def _cursor(prompt: str, suffix: str | None, path: str | None) -> Cursor:
    if suffix:
        return Cursor(prompt, suffix, path or "")
    cursor = split_template(prompt)
    return Cursor(cursor.prefix, cursor.suffix, path or cursor.path, excerpts=cursor.excerpts)


def _wishes(sampled: _Sampled, ended: _Ended, tokens: int | None, top_k: int | None) -> Wishes:
    stop = (sampled.stop,) if isinstance(sampled.stop, str) else tuple(sampled.stop or ())
    top_p = 1.0 if sampled.top_p is None else sampled.top_p
    sampling = Sampling(sampled.temperature or 0.0, 0, sampled.seed or 0, max(0, top_k or 0), top_p)
    limit = DEFAULT_TOKENS if tokens is None or tokens < 0 else tokens
    return Wishes(limit, sampling, ended.ending or "auto", stop, ended.min_confidence)
