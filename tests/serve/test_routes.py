"""What each client sends is answered as it expects, whole and as a stream."""

from __future__ import annotations

import json

from openai import OpenAI

PROMPT = "def find_order(items: list[int], limit: int) -> int:\n    total = 3\n    for "
SUFFIX = "\n    return total\n"
SHOWN = {"min_confidence": 0}


def events(answer):
    """The events of a stream, without the last one of OpenAI's."""
    parts = answer.body.decode().split("\n\n")
    assert parts[-1] == ""
    return [part.removeprefix("data: ") for part in parts[:-1]]


def test_openai_completions(client):
    fields = {"prompt": PROMPT, "suffix": SUFFIX, "max_tokens": 20, **SHOWN}
    answer = client.post("/v1/completions", fields)
    assert answer.status == 200
    values = answer.json
    assert values["object"] == "text_completion"
    (choice,) = values["choices"]
    assert choice["text"]
    assert choice["finish_reason"] in {"stop", "length"}
    usage = values["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    streamed = client.post("/v1/completions", {**fields, "stream": True, "stream_options": {"include_usage": True}})
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *parts, last = events(streamed)
    assert last == "[DONE]"
    parts = [json.loads(part) for part in parts]
    assert "".join(part["choices"][0]["text"] for part in parts if part["choices"]) == choice["text"]
    assert parts[-1]["usage"]["completion_tokens"] == usage["completion_tokens"]
    assert parts[-2]["choices"][0]["finish_reason"] == choice["finish_reason"]


def test_the_openai_client_completes(client):
    with OpenAI(base_url=f"{client.url}/v1", api_key="any") as openai:
        model = openai.models.list().data[0].id
        options = {"model": model, "prompt": PROMPT, "suffix": SUFFIX, "max_tokens": 20, "extra_body": SHOWN}
        whole = openai.completions.create(**options, logprobs=2)
        with openai.completions.create(**options, stream=True) as stream:
            text = "".join(part.choices[0].text for part in stream)
    assert text == whole.choices[0].text != ""
    probabilities = whole.choices[0].logprobs
    assert len(probabilities.tokens) == len(probabilities.token_logprobs) == whole.usage.completion_tokens
    assert all(len(top) == 2 for top in probabilities.top_logprobs)
