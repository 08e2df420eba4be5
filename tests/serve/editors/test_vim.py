"""Vim shows our text at the cursor, and takes it, with the settings of the guide."""

from __future__ import annotations

import os

from guide import plugin, program, settings
from serving import wait_until
from shell import HUNG
from terminal import running_in_a_terminal

TYPED, EXPECTED = "from __future__ imp", "ort annotations"
SCRIPT = """\
set nocompatible noswapfile viminfo= cmdheight=5
{settings}
set runtimepath^={plugin}
filetype on
runtime plugin/llama.vim
edit click/written.py
function! Look(_)
  if getline('.') !=# '{typed}'
    if len(getline('.')) > {length}
      call writefile([getline('.')], '{out}')
      qall!
    endif
  elseif len(filter(prop_list(line('.')), 'v:val.type ==# "llama_hl_fim_hint"'))
    call feedkeys("\\<Tab>", 't')
  endif
endfunction
call timer_start(500, 'Look', {{'repeat': -1}})
call feedkeys('i{typed}', 't')
"""


def test_llama_vim(served, tmp_path):
    out = tmp_path / "line"
    lines = settings("Neovim and Vim with llama.vim", "vim", served.url)
    script = SCRIPT.format(settings=lines, plugin=plugin("llama.vim"), out=out, typed=TYPED, length=len(TYPED))
    (tmp_path / "vimrc").write_text(script)
    command = [program("vim"), "-N", "-u", "NONE", "-S", tmp_path / "vimrc"]
    with running_in_a_terminal(command, cwd=served.tree, env={**os.environ, "TERM": "xterm"}) as process:
        wait_until(lambda: out.exists() or process.poll() is not None)
        assert process.wait(HUNG) == 0
    assert out.read_text() == f"{TYPED}{EXPECTED}\n"
