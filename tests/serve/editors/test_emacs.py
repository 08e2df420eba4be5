"""Emacs shows our text at the cursor, and takes it, with the settings of the guide."""

from __future__ import annotations

import os
import shutil

from guide import plugin, program, settings
from serving import wait_until
from shell import HUNG
from terminal import running_in_a_terminal

SCRIPT = """\
(setq inhibit-startup-screen t warning-minimum-level :emergency native-comp-deferred-compilation nil)
(package-initialize)
(add-to-list 'load-path "{plugin}")
(package-generate-autoloads "lsp-mode" "{plugin}") ; as its installation does
(load "{plugin}/lsp-mode-autoloads.el")
(setq lsp-session-file "{session}" lsp-auto-guess-root t lsp-enable-snippet nil)
{settings}
(defun type-text ()
  (when (and (bound-and-true-p lsp-inline-completion-mode) (= (buffer-size) 0) (null unread-command-events))
    (setq unread-command-events (listify-key-sequence "from __future__ imp"))))
(defun look ()
  (when (bound-and-true-p lsp-inline-completion--overlay)
    (lsp-inline-completion-accept)
    (write-region nil nil "{out}")
    (set-buffer-modified-p nil)
    (kill-emacs)))
(run-with-timer 1 2 #'type-text)
(run-with-timer 1 0.1 #'look)
"""


def test_lsp_mode(sure_model, click_tree, commands, tmp_path):
    emacs, folder, out = program("emacs"), tmp_path / "lsp-mode", tmp_path / "shown"
    shutil.copytree(plugin("lsp-mode"), folder, ignore=shutil.ignore_patterns(".git"))
    block = settings("Emacs with lsp-mode", "elisp", model=sure_model)
    script = SCRIPT.format(plugin=folder, session=tmp_path / "session", settings=block, out=out)
    (tmp_path / "init.el").write_text(script)
    path = os.pathsep.join((str(commands), os.environ["PATH"]))
    command = [emacs, "-nw", "-q", "-l", tmp_path / "init.el", "click/written.py"]
    with running_in_a_terminal(command, cwd=click_tree, env={**os.environ, "TERM": "xterm", "PATH": path}) as process:
        wait_until(lambda: out.exists() or process.poll() is not None)
        assert process.wait(HUNG) == 0
    assert out.read_text() == "from __future__ import annotations"
