"""The routes of the server: they turn requests into jobs and suggestions into answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from time import time
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec

from git_starcoder.serve import answers
from git_starcoder.serve.answers import Choice, Labels, encode, event
from git_starcoder.serve.cursor import Suggestion
from git_starcoder.serve.fields import (
    CompletionFields,
    ContinuationFields,
    GenerateFields,
    InfillFields,
    Order,
    ShowFields,
    order_completion,
    order_continuation,
    order_generation,
    order_infill,
    read_fields,
)
from git_starcoder.serve.guard import Guard, RefusedError, error_body
from git_starcoder.serve.jobs import DroppedError, Job, Jobs, Part, QueueFullError
from git_starcoder.serve.metrics import Metrics, resident_bytes
from git_starcoder.serve.openapi import describe_api
from git_starcoder.serve.page import page_file, render_page
from git_starcoder.text.visible import escape_surrogates

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from git_starcoder.serve.engine import Engine

MAX_TEXT_CHARACTERS = 524_288
"""Characters of a text before or after a cursor; of a longer file, editors send a part."""
JSON = "application/json"
EVENTS = "text/event-stream"
LINES = "application/x-ndjson"
DROP_STATUS = {"obsolete": 409, "disconnected": 409, "late": 503, "closed": 503}
DROP_MESSAGES = {
    "obsolete": "a newer request of this client took its place",
    "disconnected": "the client has gone",
    "late": "the server is busy",
    "closed": "the server is ending",
}
RETRY_SECONDS = "1"


class Stream(NamedTuple):
    """How a stream is written."""

    media_type: str
    part: Callable[[Part], bytes]
    """A part of the text, or the end of one of the completions."""
    end: Callable[[Sequence[Suggestion]], bytes]


NO_ROUTE = (
    "there is no such route: /v1/completions completes code, chat is not supported, /openapi.json lists all routes"
)


class Server:
    """The application: an engine, a queue in front of it, and the routes."""

    def __init__(self, engine: Engine, *, host: str = "127.0.0.1", token: str = "") -> None:
        """Serve an engine at an address; with a token, clients must tell it."""
        self.engine = engine
        self.metrics = Metrics()
        self.jobs = Jobs(engine, self.metrics)
        self.started_at = int(time())
        self._api = encode(describe_api())
        get = {
            "/": self.show_page, "/page.css": self.send_file, "/page.js": self.send_file, "/health": self.tell_health,
            "/metrics": self.tell_metrics, "/v1/models": self.list_models, "/openapi.json": self.tell_api,
            "/api/tags": self.list_tags,
        }  # fmt: skip
        post = {
            "/v1/completions": self.complete, "/infill": self.infill, "/completion": self.continue_text,
            "/api/generate": self.generate, "/api/show": self.show_model,
        }  # fmt: skip
        routes = {**dict.fromkeys(get, "GET"), **dict.fromkeys(post, "POST")}
        self.guard = Guard(self._starlette(get, post), self.metrics, routes, host=host, token=token)

    def _starlette(self, get: dict[str, Any], post: dict[str, Any]) -> Any:
        from starlette.applications import Starlette
        from starlette.exceptions import HTTPException
        from starlette.responses import Response
        from starlette.routing import Route

        async def refuse(request: Request, error: Exception) -> Response:
            status, message = 500, "a bug in git-starcoder"
            headers: dict[str, str] = {}
            match error:
                case RefusedError():
                    status, message = error.status, error.message
                case DroppedError():
                    status, message = DROP_STATUS[error.cause], DROP_MESSAGES[error.cause]
                case QueueFullError():
                    status, message = 429 if error.is_of_client else 503, str(error)
                case HTTPException():
                    status, headers = error.status_code, dict(error.headers or {})
                    allowed = headers.get("Allow", "another method")
                    message = NO_ROUTE if status == 404 else f"{request.method} is not possible here: use {allowed}"
                case _:  # Starlette raises it again after the answer, and the guard reports it
                    pass
            if status in {429, 503}:
                headers["Retry-After"] = RETRY_SECONDS
            body = error_body(request.scope["path"], status, message)
            return Response(body, status, headers, JSON)

        @asynccontextmanager
        async def lifespan(_: Any) -> AsyncGenerator[None]:
            yield
            await self.jobs.close()

        routes = [Route(path, endpoint, methods=["GET"]) for path, endpoint in get.items()]
        routes += [Route(path, endpoint, methods=["POST"]) for path, endpoint in post.items()]
        kinds: tuple[Any, ...] = (RefusedError, DroppedError, QueueFullError, HTTPException, Exception)
        application = Starlette(routes=routes, exception_handlers=dict.fromkeys(kinds, refuse), lifespan=lifespan)
        application.router.redirect_slashes = False
        return application

    # What the server is.

    async def show_page(self, request: Request) -> Response:
        """The page for people. Without the token, it has no facts."""
        from starlette.responses import HTMLResponse

        facts = self.facts() if self.guard.is_authorized(request.scope["headers"]) else None
        example = self.engine.follower.example() if facts else ""
        html, policy = render_page(facts, self.metrics, example)
        return HTMLResponse(html, headers={"Content-Security-Policy": policy})

    async def send_file(self, request: Request) -> Response:
        """The style and the script of the page."""
        from starlette.responses import Response

        content, media_type = page_file(request.scope["path"])
        return Response(content, media_type=media_type)

    async def tell_health(self, _: Request) -> Response:
        """Whether the server works, and whether it has read the repository."""
        follower = self.engine.follower
        state = "reading" if not follower.is_ready else "lost" if follower.problem else "followed"
        return _json({"status": "ok", "repository": "none" if follower.tree is None else state})

    async def tell_metrics(self, _: Request) -> Response:
        """The numbers of the server for Prometheus."""
        from starlette.responses import Response

        text = self.metrics.render(self.jobs.count, self.engine.follower.updates)
        return Response(text, media_type="text/plain; version=0.0.4")

    async def tell_api(self, _: Request) -> Response:
        """The description of the routes."""
        from starlette.responses import Response

        return Response(self._api, media_type=JSON)

    def facts(self) -> dict[str, Any]:
        """What is served, for the page and for clients."""
        engine, follower = self.engine, self.engine.follower
        network = engine.network
        return {
            "model": engine.name,
            "repository": engine.model.repository,
            "work_tree": None if follower.tree is None else escape_surrogates(follower.tree.root.name),
            "parameters": network.parameter_count,
            "context": network.context,
            "fills_gaps": engine.model.fills_gaps,
            "has_memory": engine.model.memory is not None,
            "followed_files": follower.file_count,
            "problem": follower.problem,
            "threshold": engine.threshold,
            "memory_bytes": resident_bytes(),
            "median_seconds": self.metrics.median_seconds,
        }

    async def list_models(self, _: Request) -> Response:
        """The model, as OpenAI lists models."""
        model = {"id": self.engine.name, "object": "model", "created": self.started_at, "owned_by": "git-starcoder"}
        return _json({"object": "list", "data": [{**model, "meta": self.facts()}]})

    async def list_tags(self, _: Request) -> Response:
        """The model, as Ollama lists models."""
        labels = Labels("", self.engine.name, self.started_at)
        model = {"name": self.engine.name, "model": self.engine.name, "modified_at": labels.created_at}
        return _json({"models": [{**model, "size": resident_bytes(), "digest": "", "details": self._details()}]})

    async def show_model(self, request: Request) -> Response:
        """The model, as Ollama describes models."""
        await self._fields(request, ShowFields)
        capabilities = ["completion", *(["insert"] if self.engine.model.fills_gaps else [])]
        template = "{{ .Prompt }}{{ .Suffix }}" if self.engine.model.fills_gaps else "{{ .Prompt }}"
        info = {"general.architecture": self.engine.network.kind,
                "general.parameter_count": self.facts()["parameters"]}  # fmt: skip
        return _json(
            {"template": template, "details": self._details(), "model_info": info, "capabilities": capabilities}
        )

    def _details(self) -> dict[str, Any]:
        network = self.engine.network
        kind = network.kind
        return {"format": "safetensors", "family": kind, "families": [kind], "parameter_size": "",
                "quantization_level": network.precision}  # fmt: skip

    # Completions.

    async def complete(self, request: Request) -> Response:
        """OpenAI's completions."""
        fields = await self._fields(request, CompletionFields)
        order = order_completion(fields)
        labels = self._labels(f"cmpl-{uuid4().hex}")

        def part(news: Part) -> bytes:
            if isinstance(news.content, str):
                return event(answers.completion_part(labels, [Choice(news.content, news.choice, None, None)]))
            return event(
                answers.completion_part(labels, [answers.completion_choice(news.choice, news.content, order, "")])
            )

        def end(found: Sequence[Suggestion]) -> bytes:
            has_usage = fields.stream_options is not None and fields.stream_options.include_usage
            usage = answers.completion_part(labels, [], answers.count_usage(order, found))
            return (event(usage) if has_usage else b"") + answers.LAST_EVENT

        def whole(found: Sequence[Suggestion]) -> Any:
            return answers.whole_completion(labels, order, found)

        return await self._respond(request, order, whole, Stream(EVENTS, part, end))

    async def infill(self, request: Request) -> Response:
        """llama.cpp's completions at a cursor."""
        fields = await self._fields(request, InfillFields)
        return await self._respond_like_llama(request, order_infill(fields), fields.response_fields)

    async def continue_text(self, request: Request) -> Response:
        """llama.cpp's completions of a text."""
        fields = await self._fields(request, ContinuationFields)
        return await self._respond_like_llama(request, order_continuation(fields), fields.response_fields)

    async def _respond_like_llama(self, request: Request, order: Order, wanted: Sequence[str] | None) -> Response:
        labels = self._labels("")

        def part(news: Part) -> bytes:
            if isinstance(news.content, str):
                return event(answers.InfillAnswer(news.content, stop=False, index=news.choice, model=labels.model))
            return event(answers.infill_answer(labels, news.choice, news.content, ""))

        def whole(found: Sequence[Suggestion]) -> Any:
            made = [answers.infill_answer(labels, index, each, each.text) for index, each in enumerate(found)]
            selected = [answers.select_fields(answer, wanted) for answer in made]
            return selected if order.choices > 1 else selected[0]

        return await self._respond(request, order, whole, Stream(EVENTS, part, _no_end))

    async def generate(self, request: Request) -> Response:
        """Ollama's completions."""
        fields = await self._fields(request, GenerateFields)
        order = order_generation(fields)
        labels = self._labels("")

        def line(answer: answers.GenerateAnswer) -> bytes:
            return encode(answer) + b"\n"

        def part(news: Part) -> bytes:
            if isinstance(news.content, str):
                return line(answers.GenerateAnswer(labels.model, labels.created_at, news.content, done=False))
            return line(answers.generate_answer(labels, news.content, ""))

        def whole(found: Sequence[Suggestion]) -> Any:
            return answers.generate_answer(labels, found[0], found[0].text)

        return await self._respond(request, order, whole, Stream(LINES, part, _no_end))

    def _labels(self, request_id: str) -> Labels:
        return Labels(request_id, self.engine.name, int(time()))

    async def _fields(self, request: Request, kind: type[Any]) -> Any:
        """Read the body of a request. Errors name fields and never repeat values."""
        body = await request.body()
        try:
            values = msgspec.json.decode(body)
            fields, ignored = read_fields(kind, values)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            message = "the body is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise RefusedError(400, message) from error
        self.metrics.ignore_fields(ignored)
        return fields

    async def _respond(
        self, request: Request, order: Order, whole: Callable[[Sequence[Suggestion]], Any], stream: Stream
    ) -> Response:
        """Work on an order and answer it, at once or as a stream."""
        from starlette.responses import Response, StreamingResponse

        for cursor in order.cursors:
            if max(map(len, (cursor.prefix, cursor.suffix, *cursor.excerpts))) > MAX_TEXT_CHARACTERS:
                raise RefusedError(413, f"a text has more than {MAX_TEXT_CHARACTERS:,} characters")
        job = self._job(request, order)
        if order.wishes.max_tokens == 0:  # a warm-up of llama.vim, or Ollama's way to load a model
            for index in range(len(job.tasks)):
                job.put(Part(index, Suggestion("", "length", 1.0, 0.0, "", 0, 0)))
            job.put(None)
        else:
            self.jobs.submit(job)
        parts = job.parts()
        if not order.is_streamed:
            found = await self._watch(request, job, _collect(parts))
            return Response(encode(whole(found)), media_type=JSON)
        # Nothing is sent before the first news, so that an error can still be one.
        first = await self._watch(request, job, anext(parts))

        async def chunks() -> AsyncIterator[bytes]:
            found: list[Suggestion] = []
            news: Part | None = first
            try:
                while news is not None:
                    if isinstance(news.content, Suggestion):
                        found.append(news.content)
                    yield stream.part(news)
                    news = await anext(parts, None)
                yield stream.end(found)
            except DroppedError:
                pass  # the end is missing, by which a client knows that the stream is not whole
            finally:
                if len(found) < len(job.tasks):
                    self.jobs.drop(job, "disconnected")

        return StreamingResponse(chunks(), media_type=stream.media_type)

    def _job(self, request: Request, order: Order) -> Job:
        """The job of an order. Choices differ by their seeds, if chance decides anything."""
        wishes = order.wishes
        sampling = wishes.sampling
        step = 1 if sampling.temperature > 0 else 0
        tasks = [
            (cursor, wishes._replace(sampling=sampling._replace(seed=sampling.seed + step * choice)))
            for cursor in order.cursors
            for choice in range(order.choices)
        ]
        address = request.client.host if request.client else ""
        return Job(f"{address} {request.headers.get('user-agent', '')}", tasks)

    async def _watch(self, request: Request, job: Job, work: Awaitable[Any]) -> Any:
        """Wait for work on a job; drop the job if the client disconnects."""
        task = asyncio.ensure_future(work)
        watcher = asyncio.ensure_future(_until_disconnect(request))
        try:
            await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                self.jobs.drop(job, "disconnected")
            return await task
        finally:
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher
            if not task.done():  # the server is ending
                task.cancel()
                self.jobs.drop(job, "closed")


async def _collect(parts: AsyncIterator[Part]) -> list[Suggestion]:
    return [part.content async for part in parts if isinstance(part.content, Suggestion)]


def _no_end(_: Sequence[Suggestion]) -> bytes:
    return b""


async def _until_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json(value: Any) -> Response:
    from starlette.responses import Response

    return Response(encode(value), media_type=JSON)
