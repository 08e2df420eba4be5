"""An editor for tests: a client of the language server protocol, by pygls, with a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import contextmanager, suppress
from threading import Thread

from lsprotocol import types
from pygls.lsp.client import LanguageClient

from shell import HUNG


class _Client(LanguageClient):
    def report_server_error(self, error, source):  # noqa: ARG002 - pygls' signature
        raise error


class Editor:
    """A client that runs a server and waits for each answer."""

    def __init__(self, loop, client):
        self.client = client
        self.logged = []
        self.registered = []
        self.versions = {}
        self._loop = loop
        self._requests = 0
        client.feature(types.WINDOW_LOG_MESSAGE)(lambda params: self.logged.append((params.type, params.message)))
        client.feature(types.CLIENT_REGISTER_CAPABILITY)(
            lambda params: self.registered.extend(each.method for each in params.registrations)
        )

    def wait(self, coroutine):
        """Run a coroutine in the loop, and return its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(HUNG)

    def request(self, method, params):
        """Send a request, and return its id and the future of its answer."""
        self._requests += 1
        number = f"request {self._requests}"

        async def send():
            return self.client.protocol.send_request(method, params, msg_id=number)

        return number, self.wait(send())

    def ask(self, method, params=None):
        """Send a request, and return its answer."""
        return self.request(method, params)[1].result(HUNG)

    def tell(self, method, params=None):
        """Send a notification."""

        async def send():
            self.client.protocol.notify(method, params)

        self.wait(send())

    def initialize(self, root=None, encodings=None, **workspace):
        """Agree with the server, and return what it can do."""
        general = types.GeneralClientCapabilities(position_encodings=encodings) if encodings else None
        capabilities = types.ClientCapabilities(
            general=general, workspace=types.WorkspaceClientCapabilities(**workspace)
        )
        folders = [types.WorkspaceFolder(root.as_uri(), root.name)] if root else None
        answer = self.ask(types.INITIALIZE, types.InitializeParams(capabilities, workspace_folders=folders))
        self.tell(types.INITIALIZED, types.InitializedParams())
        return answer.capabilities

    def open(self, uri, text):
        self.versions[uri] = 0
        self.tell(
            types.TEXT_DOCUMENT_DID_OPEN, types.DidOpenTextDocumentParams(types.TextDocumentItem(uri, "any", 0, text))
        )

    def change(self, uri, text, start=None, end=None):
        """Replace what is between two positions, or the whole text."""
        self.versions[uri] += 1
        change = types.TextDocumentContentChangeWholeDocument(text)
        if start is not None:
            span = types.Range(types.Position(*start), types.Position(*(end or start)))
            change = types.TextDocumentContentChangePartial(span, text)
        document = types.VersionedTextDocumentIdentifier(self.versions[uri], uri)
        self.tell(types.TEXT_DOCUMENT_DID_CHANGE, types.DidChangeTextDocumentParams(document, [change]))

    def close(self, uri):
        identifier = types.TextDocumentIdentifier(uri)
        self.tell(types.TEXT_DOCUMENT_DID_CLOSE, types.DidCloseTextDocumentParams(identifier))

    def complete(self, uri, line, character, selected=None):
        """The items for a cursor."""
        return list(
            self.ask(types.TEXT_DOCUMENT_INLINE_COMPLETION, inline_params(uri, line, character, selected)).items
        )

    def complete_at_end(self, uri, prefix, suffix=""):
        """The text that is suggested between two parts of a document, which is opened for it; empty if there is none."""
        self.open(uri, prefix + suffix)
        items = self.complete(uri, *end_position(prefix))
        self.close(uri)
        return items[0].insert_text if items else ""


def inline_params(uri, line, character, selected=None):
    """What an editor sends while somebody types."""
    context = types.InlineCompletionContext(types.InlineCompletionTriggerKind.Automatic, selected)
    return types.InlineCompletionParams(context, types.TextDocumentIdentifier(uri), types.Position(line, character))


def end_position(text):
    """The last position of a text, in UTF-16 units."""
    last = text.rpartition("\n")[2]
    return text.count("\n"), len(last.encode("utf-16-le")) // 2


@contextmanager
def editing(*command, code=0, messages=b"", **options):
    """An editor that has started a server. It must end by itself with a code, and messages on standard error."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    client = _Client("an editor", "1")
    editor = Editor(loop, client)
    try:
        editor.wait(client.start_io(*map(str, command), **options))
        try:
            yield editor
        finally:
            process = client._server
            if process.returncode is None:
                editor.ask(types.SHUTDOWN)
                editor.tell(types.EXIT)
            try:
                returned = editor.wait(asyncio.wait_for(process.wait(), HUNG))
            finally:
                if process.returncode is None:
                    process.kill()
            said = editor.wait(process.stderr.read())
            editor.wait(client.stop())
            assert (returned, said) == (code, messages), said.decode()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(HUNG)
        with suppress(subprocess.SubprocessError):
            loop.close()
