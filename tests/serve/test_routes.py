"""What each client sends is answered as it expects, whole and as a stream."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from openai import OpenAI

from git_starcoder.serve.engine import Engine
from git_starcoder.serve.follow import Follower
from serving import FILES, let_write, running

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


def test_several_prompts_and_choices(client):
    fields = {"prompt": ["def ", "class "], "n": 2, "temperature": 1.5, "seed": 4, "max_tokens": 8, **SHOWN}
    choices = client.post("/v1/completions", fields).json["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert choices == client.post("/v1/completions", fields).json["choices"]
    assert len({choice["text"] for choice in choices}) > 1


def test_infill_answers_as_llama_vim_reads_it(client):
    fields = {
        "id_slot": 0, "input_prefix": PROMPT.rpartition("\n")[0] + "\n", "input_suffix": SUFFIX, "prompt": "    for ",
        "input_extra": [{"text": "x = 1\n", "time": [1, 2], "filename": "a.py"}], "n_predict": 32, "n_indent": 4,
        "top_k": 40, "top_p": 0.9, "samplers": ["top_k", "top_p", "infill"], "stream": False, "cache_prompt": True,
        "t_max_prompt_ms": 500, "t_max_predict_ms": 250, "response_fields": ["content", "timings/prompt_n", "no/such"],
        "model": "", **SHOWN,
    }  # fmt: skip
    answer = client.post("/infill", fields, Authorization="Bearer ")
    assert answer.status == 200
    assert answer.body.startswith(b'{"content":"')
    assert b"\n" not in answer.body
    values = answer.json
    assert values.keys() == {"content", "timings/prompt_n"}
    assert values["content"]
    whole = client.post("/infill", {**fields, "response_fields": None})
    assert whole.body.startswith(b'{"content":"')
    assert whole.json["content"] == values["content"]
    assert whole.json["stop"] is True
    ignored = client.server.metrics.ignored_fields
    assert ignored["t_max_prompt_ms"] == ignored["samplers"] == 2
    assert not {"response_fields", "t_max_predict_ms"} & ignored.keys()


def test_all_routes_end_a_repetition_alike(client, monkeypatch):
    let_write(monkeypatch, client.server.engine, "order, ")
    for path, key in (("/v1/completions", "text"), ("/infill", "content"), ("/completion", "content")):
        fields = {"prompt": "", "input_prefix": "", **SHOWN}
        whole = client.post(path, fields).json
        assert whole.get("choices", [whole])[0][key] == "order", path
        parts = events(client.post(path, {**fields, "stream": True}))
        parts = [json.loads(part) for part in parts if part != "[DONE]"]
        assert "".join(part.get("choices", [part])[0][key] for part in parts) == "order", path


def test_a_blank_line_of_llama_vim_gets_its_indentation(client):
    before = "def find_order(items: list[int], limit: int) -> int:\n"
    fields = {"input_prefix": before, "prompt": "", "input_suffix": "\n", "n_predict": 16, **SHOWN}
    assert client.post("/infill", fields).json["content"].startswith("    ")


def test_a_warm_up_costs_nothing(client):
    before = client.server.metrics.reasons.total()
    fields = {
        "n_predict": 0,
        "samplers": [],
        "response_fields": [""],
        "input_extra": [],
        "prompt": "",
        "input_suffix": "",
    }
    answer = client.post("/infill", fields)
    assert (answer.status, answer.json) == (200, {})
    assert client.server.metrics.reasons.total() == before


def test_several_completions_of_llama_vscode(client):
    fields = {"input_prefix": "", "prompt": PROMPT, "input_suffix": SUFFIX, "n_cmpl": 3, "n_predict": 8, **SHOWN}
    found = client.post("/infill", fields).json
    assert len(found) == 3
    assert all(each["content"] for each in found)


def test_a_stream_of_llama_cpp_ends_with_stop(client):
    fields = {"prompt": PROMPT, "n_predict": 16, "stream": True, **SHOWN}
    *parts, last = (json.loads(part) for part in events(client.post("/completion", fields)))
    assert last["stop"] is True
    assert not any(part["stop"] for part in parts)
    whole = client.post("/completion", {**fields, "stream": False}).json
    assert "".join(part["content"] for part in (*parts, last)) == whole["content"] != ""


def test_a_template_in_the_prompt_is_the_same_as_a_suffix(client):
    fields = {"max_tokens": 16, **SHOWN}
    plain = client.post("/v1/completions", {"prompt": PROMPT, "suffix": SUFFIX, **fields})
    template = f"<fim_prefix>{PROMPT}<fim_suffix>{SUFFIX}<fim_middle>"
    zed = client.post("/v1/completions", {"prompt": template, "stop": ["<|endoftext|>"], **fields})
    assert zed.json["choices"][0]["text"] == plain.json["choices"][0]["text"] != ""


def test_ollama(client):
    fields = {"model": "x", "prompt": PROMPT, "suffix": SUFFIX, "options": {"num_predict": 16, "num_ctx": 9}, **SHOWN}
    answer = client.post("/api/generate", fields)
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    *parts, last = (json.loads(line) for line in answer.body.splitlines())
    assert last["done"] is True
    assert last["done_reason"] in {"stop", "length"}
    assert last["total_duration"] > 0
    whole = client.post("/api/generate", {**fields, "stream": False}).json
    assert "".join(part["response"] for part in parts) == whole["response"] != ""
    assert client.post("/api/generate", {"model": "x"}).json["done"] is True
    assert client.get("/api/tags").json["models"][0]["name"] == client.server.engine.name
    assert client.post("/api/show", {"model": "x"}).json["capabilities"] == ["completion", "insert"]


def test_nothing_shown_has_its_reason(client):
    answer = client.post("/v1/completions", {"prompt": "zq = ", "min_confidence": 1, "max_tokens": 16})
    (choice,) = answer.json["choices"]
    assert choice["text"] == ""
    assert choice["reason"].startswith("nothing is shown: the confidence is below the threshold")
    streamed = events(client.post("/v1/completions", {"prompt": "zq = ", "min_confidence": 1, "stream": True}))
    assert [json.loads(part)["choices"][0]["text"] for part in streamed[:-1]] == [""]


def test_what_the_server_is(client, monkeypatch):
    assert client.get("/health").json == {"status": "ok", "repository": "followed"}
    with monkeypatch.context() as patch:
        patch.setattr(Follower, "is_ready", False)
        assert client.get("/health").json == {"status": "ok", "repository": "reading"}
    (model,) = client.get("/v1/models").json["data"]
    assert model["meta"]["repository"] == "project"
    assert model["meta"]["followed_files"] == 8
    assert client.get("/openapi.json").json["paths"].keys() >= {"/infill", "/v1/completions"}


def test_names_of_folders_that_are_not_utf_8_are_told_with_escapes(model_folder, repo_maker, tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(model_folder, folder / "model")
    tree = repo_maker(FILES).rename(folder / folder.name)
    with Engine.open(folder / "model", repository=tree) as engine, running(engine) as client:
        answer = client.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 4})
        assert answer.json["model"] == r"caf\xe9/model"
        (model,) = client.get("/v1/models").json["data"]
        assert (model["id"], model["meta"]["work_tree"]) == (r"caf\xe9/model", r"caf\xe9")
        assert r"caf\xe9/model" in client.get("/").body.decode()


def test_the_metrics_are_those_of_prometheus(client):
    client.post("/v1/completions", {"prompt": "def ", "made_up": 1, "Strange Name": 2, "max_tokens": 4, **SHOWN})
    text = client.get("/metrics").body.decode()
    samples = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            samples[name] = float(value)
    assert samples['starcoder_ignored_fields_total{field="made_up"}'] == 1
    assert samples['starcoder_ignored_fields_total{field="other"}'] >= 1
    assert samples['starcoder_requests_total{route="/v1/completions",status="200"}'] >= 1
    assert (
        samples["starcoder_completion_seconds_count"] == samples['starcoder_completion_seconds_bucket{le="+Inf"}'] > 0
    )
    assert samples["starcoder_memory_bytes"] > 1 << 20
    assert (
        text.count("# TYPE")
        == text.count("# HELP")
        == len({line for line in text.splitlines() if line.startswith("# TYPE")})
    )


def test_the_page_needs_nothing_from_elsewhere(client):
    page = client.get("/")
    text = page.body.decode()
    assert client.server.engine.name in text
    assert "'self'" in page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert "http://" not in text.replace("{origin}", "")
    assert "https://" not in text
    for path, kind in (("/page.css", "text/css"), ("/page.js", "text/javascript")):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert path in text


def test_what_is_not_possible_names_what_is():
    with running(None) as client:  # without an engine: neither needs one
        absent, method = client.post("/v1/chat/completions", {}), client.get("/v1/completions")
    assert absent.status == 404
    assert "/v1/completions completes code, chat is not supported" in absent.json["error"]["message"]
    assert method.status == 405
    assert method.json["error"]["message"] == "GET is not possible here: use POST"
