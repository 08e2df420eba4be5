"""Describes the routes in OpenAPI 3.1, from the same types that requests are read with."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from git_starcoder.serve.answers import CompletionAnswer, GenerateAnswer, InfillAnswer
from git_starcoder.serve.fields import CompletionFields, ContinuationFields, GenerateFields, InfillFields, ShowFields

REFERENCE = "#/components/schemas/{name}"
ERRORS = {
    400: "The body is no JSON, or a field has a wrong type or value.",
    401: "The server wants a token, and the request has none or a wrong one.",
    403: "The request names another host or comes from a page of another origin.",
    408: "The body did not arrive in time.",
    413: "The body, or a text in it, is too large.",
    415: "The body is not declared as JSON.",
}
QUEUE_ERRORS = {
    409: "A newer request of the same client for the same text took its place.",
    429: "Too many requests of this client wait.",
    503: "The server is busy.",
}


class OpenaiErrorDetail(Struct):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    code: int


class OpenaiError(Struct):
    """An error, as OpenAI reports it."""

    error: OpenaiErrorDetail


class OllamaError(Struct):
    """An error, as Ollama reports it."""

    error: str


def describe_api() -> dict[str, Any]:
    """The description that `/openapi.json` serves."""
    kinds = [
        CompletionFields, ContinuationFields, GenerateFields, InfillFields, ShowFields,
        CompletionAnswer, GenerateAnswer, InfillAnswer, OpenaiError, OllamaError,
    ]  # fmt: skip
    _, schemas = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    anything: dict[str, Any] = {"type": "object"}
    infill: dict[str, Any] = _json({"anyOf": [anything, {"type": "array", "items": anything}]})
    events: dict[str, Any] = {"text/event-stream": {}}
    lines: dict[str, Any] = {"application/x-ndjson": {}}
    completion, generation = _json(_ref(CompletionAnswer)) | events, _json(_ref(GenerateAnswer)) | lines
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "git starcoder serve", "version": version("git-starcoder"),
            "description": "Completions of code at a cursor. Fields that are not listed are ignored and counted.",
        },
        "paths": {
            "/health": _get("Whether the server works", _json(anything)),
            "/metrics": _get("Numbers for Prometheus", {"text/plain": {"schema": {"type": "string"}}}),
            "/v1/models": _get("The model", _json(anything)),
            "/openapi.json": _get("This description", _json(anything)),
            "/api/tags": _get("The model, as Ollama lists it", _json(anything)),
            "/v1/completions": _post("OpenAI's completions, with `suffix`", CompletionFields, completion),
            "/infill": _post("llama.cpp's completions at a cursor", InfillFields, infill | events),
            "/completion": _post("llama.cpp's completions of a text", ContinuationFields, infill | events),
            "/api/generate": _post("Ollama's completions", GenerateFields, generation, OllamaError),
            "/api/show": _post("The model, as Ollama describes it", ShowFields, _json(anything), OllamaError),
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }  # fmt: skip


def _ref(kind: type[Struct]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(name=kind.__name__)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _errors(statuses: dict[int, str], kind: type[Struct]) -> dict[str, Any]:
    content = _json(_ref(kind))
    return {str(status): {"description": about, "content": content} for status, about in statuses.items()}


def _get(summary: str, content: dict[str, Any]) -> dict[str, Any]:
    errors = {status: ERRORS[status] for status in (401, 403)}
    answer = {"200": {"description": summary, "content": content}}
    return {"get": {"summary": summary, "responses": answer | _errors(errors, OpenaiError)}}


def _post(
    summary: str, fields: type[Struct], content: dict[str, Any], error: type[Struct] = OpenaiError
) -> dict[str, Any]:
    answer = {"200": {"description": summary, "content": content}}
    body = {"required": True, "content": _json(_ref(fields))}
    return {
        "post": {"summary": summary, "requestBody": body, "responses": answer | _errors(ERRORS | QUEUE_ERRORS, error)}
    }
