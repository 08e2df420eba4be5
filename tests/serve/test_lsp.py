"""The language server, from an editor: real processes and pipes, and the protocol as pygls' client speaks it."""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from lsprotocol import types
from pygls.exceptions import JsonRpcException

from git_starcoder.cli import main
from git_starcoder.installation import install_command
from git_starcoder.serve.cursor import Cursor
from language_client import editing, end_position, inline_params
from serving import FILES, replace_file, wait_until
from shell import HUNG, environment

PATH = "src/file_3.py"
PREFIX = "def find_order(items: list[int], limit: int) -> int:\n    total = 3\n    for "
SUFFIX = "\n    return total\n"
HELD_UP = """\
import sys
from pathlib import Path
from time import sleep
from types import SimpleNamespace

from git_starcoder.serve.cursor import CancelledError, Suggestion
from git_starcoder.serve.lsp import EditorServer


class Engine:
    \"\"\"Works until it is cancelled, if the text ends with `slow`.\"\"\"

    follower = SimpleNamespace(problem="")

    def follow(self, repository):
        pass

    def complete(self, cursor, is_cancelled):
        if cursor.prefix.endswith("slow"):
            Path(sys.argv[1]).touch()
            while not is_cancelled():
                sleep(0.001)
            raise CancelledError
        if cursor.prefix.endswith("broken"):
            raise ValueError("broken")
        return Suggestion("quick", "line", 1.0, 0.0, "", 1, 0)


EditorServer(Engine(), repository=None, explains=False).run(sys.stdin.buffer, sys.stdout.buffer)
"""
INTERRUPTIBLE = """\
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it runs in the background
from git_starcoder.cli import main
sys.exit(main())
"""
UNWATCHED = """\
import sys

import watchfiles

from git_starcoder.cli import main


def watch(*_, **__):
    raise OSError("no more watches")


watchfiles.watch = watch
sys.exit(main())
"""


def word_by_word(text):
    """The parts by which an editor accepts a text."""
    return re.findall(r"\s*\S+|\s+$", text)


@pytest.fixture(scope="module")
def tree(repo_maker):
    return repo_maker(FILES)


def lsp(commands, model_folder, *options):
    return commands / "git-starcoder", "lsp", model_folder, "--threshold", "0", *options


@pytest.fixture(scope="module")
def editor(commands, model_folder, tree):
    """An editor with a server that shows everything, for tests that change no files."""
    with editing(*lsp(commands, model_folder)) as editor:
        editor.can = editor.initialize(tree)
        yield editor


@pytest.fixture
def held_up(tmp_path):
    """An editor with a server whose engine hangs on request; the second value says whether it does."""
    mark = tmp_path / "started"
    with editing(sys.executable, "-c", HELD_UP, mark) as editor:
        editor.initialize()
        editor.open("file:///a", "slow\nquick\nbroken")
        yield editor, mark.exists


def test_a_server_says_what_it_can(editor):
    assert editor.can.inline_completion_provider == types.InlineCompletionOptions()
    assert editor.can.text_document_sync.change == types.TextDocumentSyncKind.Incremental
    assert editor.can.text_document_sync.open_close
    assert editor.can.position_encoding == "utf-16"


@pytest.mark.parametrize(
    ("prefix", "suffix", "is_block"),
    [
        (f"{PREFIX}order in items:\n        if order > limit:\n            tot", SUFFIX, False),
        (PREFIX[:-2], " in items:" + SUFFIX, False),
        (PREFIX[: PREFIX.index(" ") + 1], "", True),
    ],
    ids=["line", "within a line", "block"],
)
def test_the_text_is_that_of_the_engine(editor, shared_engine, tree, prefix, suffix, is_block):
    uri = (tree / PATH).as_uri()
    editor.open(uri, prefix + suffix)
    (item,) = editor.complete(uri, *end_position(prefix))
    editor.close(uri)
    shared_engine.threshold = 0.0
    expected = shared_engine.complete(Cursor(prefix, suffix, PATH)).text
    assert item.insert_text == expected != ""
    assert ("\n" in expected) == is_block
    place = types.Position(*end_position(prefix))
    assert item.range == types.Range(place, place)


def test_positions_count_units_of_utf_16(editor, tree):
    uri = (tree / PATH).as_uri()
    astral = '"😀\f😀" # '
    expected = editor.complete_at_end(uri, f"{astral}\n{astral}{PREFIX}", f"{SUFFIX}{astral}")
    editor.open(uri, f"{astral}\nold{PREFIX}x{SUFFIX}{astral}")
    line, character = end_position(f"{astral}\n{PREFIX}")
    editor.change(uri, "", (line, character), (line, character + 1))
    editor.change(uri, astral, (1, 0), (1, 3))
    (item,) = editor.complete(uri, line, character)
    editor.close(uri)
    assert item.insert_text == expected != ""


def test_the_editor_may_count_bytes(commands, model_folder, tree, editor):
    uri = (tree / PATH).as_uri()
    beginning, end = '"é😀"; fo', " in items:" + SUFFIX
    expected = editor.complete_at_end(uri, f"é😀\n{beginning}", end)
    with editing(*lsp(commands, model_folder)) as other:
        assert other.initialize(tree, encodings=["utf-8", "utf-16"]).position_encoding == "utf-8"
        other.open(uri, f"é😀\n{beginning}{end}")
        (item,) = other.complete(uri, 1, len(beginning.encode()))
    assert item.insert_text == expected != ""


def test_a_text_that_is_accepted_word_by_word_goes_on_as_it_was(editor, tree):
    uri = (tree / PATH).as_uri()
    whole = editor.complete_at_end(uri, PREFIX, SUFFIX)
    first, *others = word_by_word(whole)
    assert others
    assert first + editor.complete_at_end(uri, PREFIX + first, SUFFIX) == whole


def test_a_text_goes_on_from_the_entry_of_an_open_list(editor, tree):
    uri = (tree / PATH).as_uri()
    editor.open(uri, PREFIX + "xx" + SUFFIX)
    line, character = end_position(PREFIX)
    span = types.Range(types.Position(line, character), types.Position(line, character + 2))
    (item,) = editor.complete(uri, line, character + 2, types.SelectedCompletionInfo(span, "order"))
    editor.close(uri)
    assert item.range == span
    assert item.insert_text == "order" + editor.complete_at_end(uri, PREFIX + "order", SUFFIX)


def test_texts_of_no_file_are_completed_too(editor):
    assert editor.complete_at_end("untitled:Untitled-1", PREFIX, SUFFIX)
    assert editor.complete_at_end("file:///elsewhere/file.py", PREFIX, SUFFIX)
    assert editor.complete("file:///never/opened.py", 0, 0) == []


def test_a_document_with_any_uri_does_not_end_completions(editor, tree):
    for uri in ("jdt://[x/y", "file:///a/%00/b.py"):
        editor.open(uri, "x = 1\n")
        assert editor.complete_at_end((tree / PATH).as_uri(), PREFIX, SUFFIX)
        editor.close(uri)


def secret_line(word):
    """A line that no file has; and its beginning, after which a model that has seen it goes on."""
    return f"\n\nnow_comes = open_{word}_and_close(left_{word}, right_{word})\n", "\n\nnow_comes = open_"


def test_unsaved_text_of_other_files_counts_while_it_is_open(editor, tree):
    uri, other = (tree / PATH).as_uri(), (tree / "src/file_5.py").as_uri()
    line, beginning = secret_line("zebra")
    assert "zebra" not in editor.complete_at_end(uri, beginning)
    editor.open(other, FILES["src/file_5.py"])
    editor.change(other, line * 3, end_position(FILES["src/file_5.py"]))
    assert editor.complete_at_end(uri, beginning).startswith("zebra_and_close(left_zebra")
    editor.close(other)
    assert "zebra" not in editor.complete_at_end(uri, beginning)


def test_a_changed_file_is_known(commands, model_folder, repo_maker):
    tree = repo_maker(FILES)
    uri = (tree / PATH).as_uri()
    line, beginning = secret_line("giraffe")
    with editing(*lsp(commands, model_folder)) as editor:
        editor.initialize(tree)
        assert "giraffe" not in editor.complete_at_end(uri, beginning)
        replace_file(tree / "src/file_6.py", FILES["src/file_6.py"] + line * 3)
        wait_until(lambda: editor.complete_at_end(uri, beginning).startswith("giraffe"))


def test_an_editor_watches_files_that_cannot_be_watched_here(model_folder, repo_maker):
    tree = repo_maker(FILES)
    uri = (tree / PATH).as_uri()
    line, beginning = secret_line("camel")
    command = sys.executable, "-c", UNWATCHED, "lsp", model_folder, "--threshold", "0", "--repo", tree
    messages = b"error: the files on disk are not followed any more: OSError: no more watches\n"
    with editing(*command, messages=messages, env=environment(OMP_NUM_THREADS="1")) as editor:
        watching = types.DidChangeWatchedFilesClientCapabilities(dynamic_registration=True)
        editor.initialize(did_change_watched_files=watching)
        wait_until(lambda: editor.complete_at_end(uri, beginning) is not None and editor.registered)
        assert editor.registered == [types.WORKSPACE_DID_CHANGE_WATCHED_FILES]
        assert editor.logged == [
            (types.MessageType.Warning, "the files on disk cannot be watched: OSError: no more watches")
        ]
        file = tree / "src/file_6.py"
        replace_file(file, FILES["src/file_6.py"] + line * 3)
        assert "camel" not in editor.complete_at_end(uri, beginning)
        event = types.FileEvent(file.as_uri(), types.FileChangeType.Changed)
        editor.tell(types.WORKSPACE_DID_CHANGE_WATCHED_FILES, types.DidChangeWatchedFilesParams([event]))
        assert editor.complete_at_end(uri, beginning).startswith("camel")


def test_an_unsure_completion_is_not_shown_and_the_log_says_why(commands, model_folder, tree):
    with editing(*lsp(commands, model_folder, "--threshold", "1", "--explain")) as editor:
        editor.initialize(tree)
        assert editor.complete_at_end((tree / PATH).as_uri(), PREFIX, SUFFIX) == ""
        ((kind, message),) = editor.logged
    assert kind == types.MessageType.Log
    start = re.escape(f"{PATH}:3:9: nothing is shown: the confidence is below the threshold")
    assert re.fullmatch(rf"{start} \(confidence 0\.\d\d, shown from 1\.00\)", message)


def test_a_name_that_is_not_utf_8_is_that_of_git(commands, model_folder, tree):
    uri = f"{tree.as_uri()}/caf%E9.py"
    with editing(*lsp(commands, model_folder, "--threshold", "1", "--explain")) as editor:
        editor.initialize(tree)
        editor.complete_at_end(uri, PREFIX)
        ((_, message),) = editor.logged
    assert message.startswith(r"caf\xe9.py:3:9: ")


def test_without_explain_nothing_is_logged(editor):
    assert editor.logged == []


def test_a_cancelled_request_is_dropped_at_once(held_up):
    editor, is_held_up = held_up
    number, answer = editor.request(types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_params("file:///a", 0, 4))
    wait_until(is_held_up)
    editor.tell(types.CANCEL_REQUEST, types.CancelParams(number))
    with pytest.raises(JsonRpcException) as error:
        answer.result(HUNG)
    assert error.value.code == types.LSPErrorCodes.RequestCancelled
    assert editor.complete("file:///a", 1, 5)[0].insert_text == "quick"  # the engine is free again


def test_a_newer_request_for_a_document_drops_the_older_one(held_up):
    editor, is_held_up = held_up
    _, old = editor.request(types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_params("file:///a", 0, 4))
    wait_until(is_held_up)
    editor.change("file:///a", "quickly", (1, 0), (1, 5))
    assert editor.complete("file:///a", 1, 7)[0].insert_text == "quick"
    assert list(old.result(HUNG).items) == []


def test_the_same_request_again_drops_nothing(held_up):
    editor, _ = held_up
    asked = [
        editor.request(types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_params("file:///a", 1, 5))[1] for _ in range(4)
    ]
    assert [answer.result(HUNG).items[0].insert_text for answer in asked] == ["quick"] * 4


def test_a_bug_is_told_and_the_server_goes_on(held_up):
    editor, _ = held_up
    with pytest.raises(JsonRpcException, match="broken"):
        editor.complete("file:///a", 2, 6)
    editor.change("file:///a", "x", (0, 0))
    editor.versions["file:///b"] = 0
    editor.change("file:///b", "x", (0, 0))  # it is not open
    assert editor.complete("file:///a", 1, 5)[0].insert_text == "quick"
    ((kind, message),) = editor.logged
    assert kind == types.MessageType.Error
    assert "file:///b" in message


def test_a_server_ends_with_its_editor_even_if_it_is_at_work(tmp_path):
    mark = tmp_path / "started"
    with editing(sys.executable, "-c", HELD_UP, mark) as editor:
        editor.initialize()
        editor.open("file:///a", "slow")
        editor.request(types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_params("file:///a", 0, 4))
        wait_until(mark.exists)
        editor.wait(_close_pipe(editor.client))


async def _close_pipe(client):
    client._server.stdin.close()
    await client._server.wait()


@pytest.mark.parametrize(("number", "exit_code", "said"), [
    (signal.SIGINT, 130, b"interrupted\n"), (signal.SIGTERM, 143, b"terminated\n"),
])  # fmt: skip
def test_a_signal_ends_it_while_the_editor_holds_the_pipe(model_folder, tree, number, exit_code, said):
    command = sys.executable, "-c", INTERRUPTIBLE, "lsp", model_folder, "--threshold", "0"
    with editing(*command, code=exit_code, messages=said, env=environment(OMP_NUM_THREADS="1")) as editor:
        editor.initialize(tree)
        assert editor.complete_at_end((tree / PATH).as_uri(), PREFIX, SUFFIX)
        editor.client._server.send_signal(number)
        editor.wait(asyncio.wait_for(editor.client._server.wait(), HUNG))


@pytest.mark.parametrize("told", [b"noise", b"Content-Length: 100\r\n\r\n{"])
def test_it_ends_with_its_input_of_any_kind(commands, model_folder, tmp_path, told):
    file = tmp_path / "input"
    file.write_bytes(told)
    with file.open("rb") as opened:
        for given in ({"input": told}, {"stdin": opened}, {"stdin": subprocess.DEVNULL}):
            command = [*map(str, lsp(commands, model_folder))]
            done = subprocess.run(command, **given, capture_output=True, timeout=HUNG, check=False)
            assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_only_the_protocol_is_written_to_standard_output():
    code = (
        "import os, sys; from git_starcoder.cli.lsp import _protocol_output\n"
        "with _protocol_output() as output:\n"
        "    print('noise', flush=True); os.system('echo more noise'); output.write(b'protocol')\n"
        "print(' afterwards')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"protocol afterwards\n"
    assert done.stderr == b"noise\nmore noise\n"


def test_a_model_that_is_none_ends_it_with_one_clear_line(commands, tmp_path):
    command = [commands / "git-starcoder", "lsp", tmp_path]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"error: .+\n(  in .+\n)?(hint: .+\n)?", done.stderr)


def test_at_a_terminal_it_says_that_it_is_for_editors(commands):
    ours, its = pty.openpty()
    try:
        command = [commands / "git-starcoder", "lsp", "any"]
        done = subprocess.run(command, stdin=its, capture_output=True, text=True, check=False)
    finally:
        os.close(ours)
        os.close(its)
    assert done.returncode == 2
    assert done.stderr.startswith("error: an editor starts this command; there is none at this terminal\n")


def test_without_pygls_it_names_the_extra(monkeypatch, capsys):
    monkeypatch.setattr("git_starcoder.cli.lsp.find_spec", lambda _: None)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert main(["lsp", "any"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"hint: {install_command('serve')}"
