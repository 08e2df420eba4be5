"""Neovim shows our text at the cursor, and takes it, with the settings of the guide."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import contextmanager

from guide import plugin, program, settings
from serving import wait_until
from shell import HUNG

TYPED, EXPECTED = "from __future__ imp", "ort annotations"
SHOWN = """
local text = ''
for name, space in pairs(vim.api.nvim_get_namespaces()) do
  for _, mark in ipairs(name:find(%r, 1, true) and vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true }) or {}) do
    for _, part in ipairs(mark[4].virt_text or {}) do text = text .. part[1] end
  end
end
return text
"""
ASK = """
local params = vim.lsp.util.make_position_params(0, vim.lsp.get_clients({ bufnr = 0 })[1].offset_encoding)
params.context = { triggerKind = 2 }
local answers = vim.lsp.buf_request_sync(0, 'textDocument/inlineCompletion', params, %d)
return vim.tbl_values(answers)[1].result.items[1].insertText
"""


class Neovim:
    """A Neovim without a screen, which another one commands."""

    def __init__(self, folder):
        self._program = program("nvim")
        self._script = folder / "script.lua"
        self._socket = folder / "socket"

    @contextmanager
    def running(self, tree, **variables):
        command = [self._program, "--headless", "--listen", self._socket, "-u", "NONE", "-i", "NONE", "-n"]
        environment = {**os.environ, **variables}
        with subprocess.Popen(
            command, cwd=tree, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as vim:
            try:
                wait_until(self._socket.exists)
                self.lua("vim.cmd('filetype on')")
                yield
            finally:
                vim.kill()

    def lua(self, code):
        """Run a script, and return what it returns."""
        self._script.write_text(code)
        return json.loads(self._command("--remote-expr", f"json_encode(luaeval('dofile(_A)', '{self._script}'))"))

    def press(self, keys):
        self._command("--remote-send", keys)

    def line(self):
        return self.lua("return vim.api.nvim_get_current_line()")

    def shown(self, namespace):
        """The text that is shown at the cursor and is not in the buffer."""
        return self.lua(SHOWN % namespace)

    def _command(self, *arguments):
        command = [self._program, "--server", self._socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HUNG)
        assert done.returncode == 0, done.stderr
        return done.stdout or done.stderr


def accept(vim, namespace, key):
    """Take the text as soon as it is shown."""
    wait_until(lambda: vim.shown(namespace).strip())
    assert vim.shown(namespace).startswith(EXPECTED)
    vim.press(key)
    wait_until(lambda: vim.line() == TYPED + EXPECTED)


def test_llama_vim(served, tmp_path):
    folder = plugin("llama.vim")
    vim = Neovim(tmp_path)
    with vim.running(served.tree):
        lines = settings("Neovim and Vim with llama.vim", "vim", served.url)
        vim.lua(f"vim.cmd([[{lines}\nset runtimepath^={folder}\nruntime plugin/llama.vim\nedit click/written.py]])")
        vim.press(f"i{TYPED}")
        accept(vim, "vt_fim", "<Tab>")


def test_minuet(served, tmp_path):
    folder = plugin("minuet-ai.nvim")
    vim = Neovim(tmp_path)
    with vim.running(served.tree):
        lines = settings("Neovim with minuet-ai.nvim", "lua", served.url)
        vim.lua(f"vim.cmd('set runtimepath^={folder}')\n{lines}\nvim.cmd('edit click/written.py')")
        vim.press(f"i{TYPED}")
        accept(vim, "minuet", "<A-a>")


def test_the_built_in_client(sure_model, click_tree, commands, tmp_path):
    vim = Neovim(tmp_path)
    with vim.running(click_tree, PATH=os.pathsep.join((str(commands), os.environ["PATH"]))):
        has_ghost_text = vim.lua("return vim.lsp.inline_completion ~= nil")
        if not has_ghost_text:  # before 0.12
            vim.lua("vim.lsp.inline_completion = { enable = function() end, get = function() end }")
        vim.lua(settings("Neovim, built in", "lua", model=sure_model) + "vim.cmd('edit click/written.py')")
        wait_until(lambda: vim.lua("local client = vim.lsp.get_clients()[1]; return client and client.initialized"))
        vim.press(f"i{TYPED}")
        if has_ghost_text:
            accept(vim, "inline_completion", "<Tab>")
        else:
            assert vim.lua(ASK % int(HUNG * 1000)).startswith(EXPECTED)
