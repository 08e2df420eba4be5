"""The language server: an editor tells of its documents and asks, over pipes, what may stand at a cursor.

It answers `textDocument/inlineCompletion` of version 3.18 of the protocol. pygls understands and writes the messages,
and `engine` writes the completions, the same as over HTTP. There is no port, so no web page can reach it.

The documents are kept in `documents`, not in pygls, which also ends lines at form feeds and then misplaces every change
after one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from selectors import PollSelector
from threading import Event
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from lsprotocol import types
from pygls.exceptions import FeatureNotificationError, FeatureRequestError
from pygls.io_ import StdoutWriter, run_async
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, lsp_method

from git_starcoder.errors import RepositoryError
from git_starcoder.serve.cursor import CancelledError, Cursor
from git_starcoder.serve.disk import WorkTree
from git_starcoder.serve.documents import OpenDocuments, Place, file_name
from git_starcoder.text.visible import escape_surrogates

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.serve.cursor import Suggestion
    from git_starcoder.serve.engine import Engine

ALL_FILES = "**/*"
READ_BYTES = 1 << 16
"""Bytes that are read from the editor at a time, at most."""


class Work(NamedTuple):
    """A completion that is being computed."""

    cursor: Cursor
    is_dropped: Event


class EditorServer(LanguageServer):
    """One editor, its open documents, and the engine."""

    def __init__(self, engine: Engine, *, repository: Path | None, explains: bool) -> None:
        """Serve an engine. Closing it is left to the caller.

        Args:
            engine: The engine, which follows no repository yet.
            repository: A folder in the work tree that is edited; None if the editor says it.
            explains: Whether the editor's log says of each completion why it is as it is.

        Raises:
            RepositoryError: `repository` is in no work tree.
        """
        self.engine = engine
        self.documents = OpenDocuments()
        self._root: Path | None = None
        self._explains = explains
        self._newest: dict[str, Work] = {}
        self._pool = ThreadPoolExecutor(1, "complete")
        self._has_warned = False
        version = metadata.version("git-starcoder")
        super().__init__("git-starcoder", version, protocol_cls=EditorProtocol)  # pyright: ignore[reportUnknownMemberType]
        if repository is not None:
            self._follow(repository)

    def run(self, stdin: BinaryIO, stdout: BinaryIO) -> None:
        """Answer an editor until it says that this is the end, or closes the pipe.

        `start_io` of pygls would hide an interrupt, and wait for a thread that waits for the editor.
        """
        # Its messages repeat texts of the user; what goes wrong is told to the editor.
        logging.getLogger("pygls").setLevel(logging.CRITICAL)
        self.protocol.set_writer(StdoutWriter(stdout))
        try:
            with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(PollSelector())) as runner:
                runner.run(self._talk(stdin))
        except (BrokenPipeError, SystemExit):
            pass  # the editor is gone, or has said that this is the end
        finally:
            for work in self._newest.values():
                work.is_dropped.set()
            self._pool.shutdown()

    async def _talk(self, stdin: BinaryIO) -> None:
        """Read messages and act on them until the pipe is closed."""
        loop, reader = asyncio.get_running_loop(), asyncio.StreamReader(sys.maxsize)

        def feed() -> None:
            try:
                data = os.read(stdin.fileno(), READ_BYTES)
            except ConnectionResetError:  # some editors use sockets as pipes
                data = b""
            if data:
                reader.feed_data(data)
            else:
                loop.remove_reader(stdin)
                reader.feed_eof()

        loop.add_reader(stdin, feed)
        with suppress(asyncio.IncompleteReadError):
            await run_async(Event(), reader, self.protocol, error_handler=self.report_server_error)

    def follow(self, params: types.InitializeParams) -> None:
        """Follow the repository that an editor has opened. Of several folders, it is the first that is in one."""
        uris = [*(folder.uri for folder in params.workspace_folders or ()), params.root_uri]
        names = [file_name(uri) for uri in uris if uri]
        for name in (*names, params.root_path, "."):
            if self._root is None and name:
                with suppress(RepositoryError):  # not every folder is in a repository
                    self._follow(Path(name))

    def _follow(self, folder: Path) -> None:
        self._root = WorkTree(folder).root
        self.engine.follow(self._root)

    async def complete(self, params: types.InlineCompletionParams) -> types.InlineCompletionList:
        """Say what may stand at a cursor: one completion, or none."""
        self._warn_of_lost_files()
        uri, position = params.text_document.uri, params.position
        if uri not in self.documents.texts:
            return types.InlineCompletionList([])
        prefix, suffix = self.documents.split(uri, Place(position.line, position.character))
        replaced, start = types.Range(position, position), ""
        if selected := params.context.selected_completion_info:  # a list is open: the text goes on from its entry
            replaced, start = selected.range, selected.text
            prefix = self.documents.split(uri, Place(replaced.start.line, replaced.start.character))[0] + start
        path = self._path(uri)
        cursor = Cursor(prefix, suffix, path, self._open_texts(uri))
        suggestion = await self._compute(uri, cursor)
        if suggestion is None:
            return types.InlineCompletionList([])
        if self._explains:
            place = f"{path or 'outside the repository'}:{position.line + 1}:{position.character + 1}"
            self._log(f"{place}: {suggestion.explain()}", types.MessageType.Log)
        items = [types.InlineCompletionItem(start + suggestion.text, range=replaced)] if suggestion.text else []
        return types.InlineCompletionList(items)

    async def _compute(self, uri: str, cursor: Cursor) -> Suggestion | None:
        """Let the engine work in its thread. None: a newer request for this document took the place of this one."""
        work = Work(cursor, Event())
        if (before := self._newest.get(uri)) is not None and before.cursor != cursor:
            before.is_dropped.set()
        self._newest[uri] = work
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(
                self._pool, lambda: self.engine.complete(cursor, is_cancelled=work.is_dropped.is_set)
            )
        except CancelledError:
            return None
        finally:
            work.is_dropped.set()  # if the editor has cancelled the request, the thread is still at work
            if self._newest.get(uri) is work:
                del self._newest[uri]

    def read_changes(self, params: types.DidChangeWatchedFilesParams) -> None:
        """Read files that the editor saw changing, before the next completion is computed."""
        paths = {path for change in params.changes if (path := self._path(change.uri))}
        if paths:
            reading = asyncio.get_running_loop().run_in_executor(self._pool, self.engine.follower.read_files, paths)
            reading.add_done_callback(self._report_failure)

    def _report_failure(self, done: asyncio.Future[None]) -> None:
        if not done.cancelled() and isinstance(error := done.exception(), Exception):
            self.report_server_error(error, FeatureNotificationError)

    def _open_texts(self, uri: str) -> dict[str, str]:
        """The texts of the open files of the repository, other than this one, by path."""
        others = ((self._path(other), text) for other, text in self.documents.texts.items() if other != uri)
        return {path: text for path, text in others if path}

    def _path(self, uri: str) -> str:
        """The path in the repository of the file with this URI; empty if it is not in there."""
        name = file_name(uri)
        if not name or self._root is None:
            return ""
        file = Path(name)
        real = Path(os.path.realpath(file.parent), file.name)  # git knows the folder without symbolic links
        for candidate in (file, real):
            if candidate.is_relative_to(self._root):
                return candidate.relative_to(self._root).as_posix()
        return ""

    def _warn_of_lost_files(self) -> None:
        """If the files on disk cannot be watched, say so once, and ask the editor to watch them."""
        problem = self.engine.follower.problem
        if not problem or self._has_warned:
            return
        self._has_warned = True
        self._log(f"the files on disk cannot be watched: {problem}", types.MessageType.Warning)
        workspace = self.client_capabilities.workspace
        watching = workspace.did_change_watched_files if workspace else None
        if watching is not None and watching.dynamic_registration:
            method = types.WORKSPACE_DID_CHANGE_WATCHED_FILES
            options = types.DidChangeWatchedFilesRegistrationOptions([types.FileSystemWatcher(ALL_FILES)])
            self.client_register_capability(types.RegistrationParams([types.Registration(method, method, options)]))

    def _log(self, message: str, kind: types.MessageType) -> None:
        self.window_log_message(types.LogMessageParams(kind, escape_surrogates(message)))

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Tell the editor's log of an error. The answer to a request tells of its own."""
        if source is not FeatureRequestError:
            self._log(f"{type(error).__name__}: {error}", types.MessageType.Error)


class EditorProtocol(LanguageServerProtocol):
    """The messages that an editor sends."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        options = cast("dict[str, Any]", self.fm.feature_options)  # pyright: ignore[reportUnknownMemberType]
        options[types.TEXT_DOCUMENT_INLINE_COMPLETION] = types.InlineCompletionOptions()

    @property
    def editor(self) -> EditorServer:
        """Who acts on the messages."""
        return cast("EditorServer", self._server)

    @lsp_method(types.INITIALIZE)
    def lsp_initialize(self, params: types.InitializeParams) -> Generator[Any, Any, types.InitializeResult]:
        """Agree on what both sides can do."""
        result = yield from super().lsp_initialize(params)
        encoding = result.capabilities.position_encoding or types.PositionEncodingKind.Utf16
        self.editor.documents.encoding = types.PositionEncodingKind(encoding).value
        self.editor.follow(params)
        return result

    @lsp_method(types.TEXT_DOCUMENT_DID_OPEN)
    def lsp_text_document__did_open(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: types.DidOpenTextDocumentParams
    ) -> None:
        """Keep the text of a document."""
        self.editor.documents.open(params.text_document.uri, params.text_document.text)

    @lsp_method(types.TEXT_DOCUMENT_DID_CHANGE)
    def lsp_text_document__did_change(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: types.DidChangeTextDocumentParams
    ) -> None:
        """Change the text of a document."""
        for change in params.content_changes:
            span = None
            if isinstance(change, types.TextDocumentContentChangePartial):
                start, end = change.range.start, change.range.end
                span = Place(start.line, start.character), Place(end.line, end.character)
            self.editor.documents.change(params.text_document.uri, change.text, span)

    @lsp_method(types.TEXT_DOCUMENT_DID_CLOSE)
    def lsp_text_document__did_close(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, params: types.DidCloseTextDocumentParams
    ) -> None:
        """Forget the text of a document: the file on disk counts again."""
        self.editor.documents.close(params.text_document.uri)

    @lsp_method(types.TEXT_DOCUMENT_INLINE_COMPLETION)
    async def complete(self, params: types.InlineCompletionParams) -> types.InlineCompletionList:
        """Complete at a cursor."""
        return await self.editor.complete(params)

    @lsp_method(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def read_changes(self, params: types.DidChangeWatchedFilesParams) -> None:
        """Read files that the editor saw changing."""
        self.editor.read_changes(params)
