"""`git starcoder serve` and `complete --explain`, as a user runs them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from importlib.util import find_spec

import pytest

from git_starcoder.cli import main
from git_starcoder.cli import serve as command
from git_starcoder.errors import OutputError
from git_starcoder.installation import install_command
from git_starcoder.serve import listen
from git_starcoder.serve.cursor import Cursor, Wishes
from git_starcoder.serve.engine import Engine
from serving import FILES
from shell import HUNG, environment
from terminal import running_in_a_terminal


@pytest.mark.parametrize(
    ("arguments", "variables", "what"),
    [
        (["--host", "0.0.0.0"], {}, "error: other machines can reach 0.0.0.0, so a token is needed"),
        (["--host", "::"], {}, "error: other machines can reach ::, so a token is needed"),
        ([], {"STARCODER_TOKEN": "short"}, "error: the token must have at least 16 ASCII characters"),
        (["--host", "192.0.2.1"], {"STARCODER_TOKEN": "x" * 16}, "error: cannot listen at 192.0.2.1 port 8012"),
        (["--port", "70000"], {}, "error: 70000 is not in the range 0<=x<=65535"),
        (["--repo", "nowhere"], {}, "error: 'nowhere' is not in a work tree"),
        (["--calibrate", "nowhere"], {}, "error: 'nowhere' is not a finished dataset"),
    ],
)
def test_wrong_use_is_one_line(model_folder, tmp_path, arguments, variables, what, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", str(model_folder), *arguments]) == 2
    assert capsys.readouterr().err.splitlines()[0].startswith(what)


def test_no_such_model(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none"), "--port", "0"]) == 2
    told = capsys.readouterr().err
    assert "there is no folder" in told
    assert "`git starcoder run` writes starcoder_run/model" in told


@pytest.mark.parametrize("arguments", [["serve", "--port", "0"], ["export", "--to", "gguf"]])
def test_the_folder_around_a_model_is_no_model_and_its_place_is_told(arguments, tmp_path, capsys):
    model = tmp_path / "starcoder_run" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    assert main([*arguments, str(model.parent)]) == 2
    told = capsys.readouterr().err
    assert "is not a model: it has no config.json" in told
    assert f"hint: the model is in {model}" in told


def test_a_port_in_use_is_named(model_folder, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["serve", str(model_folder), "--port", port]) == 2
    assert capsys.readouterr().err.startswith(f"error: cannot listen at 127.0.0.1 port {port}: address already in use")


def test_without_the_extra_it_says_what_to_install(model_folder, capsys, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "uvicorn" else find_spec(name))
    assert main(["serve", str(model_folder)]) == 2
    assert f"hint: {install_command('serve')}" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_interrupted(model_folder, repo_maker, number, exit_code):
    variables = environment(OMP_NUM_THREADS="1")
    process = subprocess.Popen(
        [sys.executable, "-m", "git_starcoder", "serve", str(model_folder), "--port", "0"], cwd=repo_maker(FILES), env=variables,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stderr.readline()
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+) serves served0/model; Ctrl-C ends it\n", line)
        assert found, line  # the rest is not read: it has no end while the server runs
        with urllib.request.urlopen(f"{found[1]}/v1/models", timeout=HUNG) as answer:
            meta = json.load(answer)["data"][0]["meta"]
        assert meta["work_tree"] == "repo"
    finally:
        process.send_signal(number)
        _, told = process.communicate(timeout=HUNG)
    assert process.returncode in {0, exit_code}
    assert "Traceback" not in told


def test_in_a_terminal_it_says_that_it_reads_the_model(tmp_path):
    command = [sys.executable, "-m", "git_starcoder", "serve", str(tmp_path / "none"), "--port", "0"]
    with running_in_a_terminal(command, cwd=tmp_path, env=environment(TERM="xterm")) as process:
        assert process.wait(HUNG) == 2
    before, found, _ = bytes(process.drawn).partition(b"there is no folder")
    assert found, before
    assert b"read the model" in before


def test_a_completion_is_explained(model_folder, tmp_path, capsys):
    file = tmp_path / "a.py"
    text = FILES["src/file_0.py"]
    file.write_text(text[: text.index("return total") + 3])
    assert main(["complete", str(model_folder), str(file), "--explain", "--json"]) == 0
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert answer["completion"].startswith("urn total")
    assert answer["confidence"] >= answer["threshold"]
    assert captured.err.startswith(("the line is complete (confidence", "the model ended the text (confidence"))
    file.write_text("zq = ")
    assert main(["complete", str(model_folder), str(file), "--explain"]) == 0
    assert capsys.readouterr().err.startswith("nothing is shown: the confidence is below the threshold")


def test_an_explained_completion_is_that_of_the_server(model_folder, repo_maker, tmp_path, capsys):
    line = "now_comes = open_zebra_and_close(left_zebra, right_zebra)\n"
    tree = repo_maker({**FILES, "src/other.py": line * 3})
    path = "src/file_0.py"
    text = FILES[path] + "\n\nnow_comes = open_"
    (tree / path).write_text(text)
    (tmp_path / "link").symlink_to(tree / "src")
    with Engine.open(model_folder, repository=tree) as engine:
        assert engine.follower.wait(HUNG)
        expected = engine.complete(Cursor(text, path=path), Wishes(128))
    assert expected.text.startswith("zebra_and_close")
    for file in (tree / path, tmp_path / "link" / "file_0.py"):
        assert main(["complete", str(model_folder), str(file), "--explain", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert (answer["completion"], answer["confidence"]) == (expected.text, pytest.approx(expected.confidence))


def test_an_address_that_another_server_reserves_is_in_use():
    """Also while that server still loads its model."""
    with listen.bind("127.0.0.1", 0) as listener, pytest.raises(OutputError, match="address already in use"):
        listen.bind("127.0.0.1", listener.getsockname()[1])
