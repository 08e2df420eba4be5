"""Nothing in the current folder, which may be the repository, runs or changes what is written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CURVE = """
import sys
from pathlib import Path
from git_starcoder.user_paths import require_matplotlib
from git_starcoder.model.checkpoint import draw_loss_curve
require_matplotlib("train")
lines = [{"step": step, "tokens": 100 * step, "loss": 9.0 - step} for step in range(1, 5)]
draw_loss_curve([*lines, {"step": 4, "held_out": 3.0}], Path(sys.argv[1]))
"""


@pytest.mark.parametrize("how", [["-m", "git_starcoder"], ["-c", "from git_starcoder.__main__ import main; main()"]])
@pytest.mark.parametrize("search_path", ["", ":/nonexistent", "."])
def test_modules_of_the_current_folder_do_not_run(tmp_path, how, search_path):
    for name in ("click", "fcntl", "msgspec", "git_starcoder_extra"):
        (tmp_path / f"{name}.py").write_text("import sys; sys.stderr.write('EXECUTED'); raise SystemExit(99)\n")
    environment = {**os.environ, "PYTHONPATH": search_path}
    done = subprocess.run(
        [sys.executable, *how, "recipe", "list"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert "EXECUTED" not in done.stderr
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("settings", [b"font.size: 30\ntext.usetex: True\n", b"# Gr\xf6\xdfe\n"])
def test_settings_of_matplotlib_in_the_current_folder_are_not_read(tmp_path, settings):
    pytest.importorskip("matplotlib")
    curves: list[bytes] = []
    for name in ("empty", "with_settings"):
        folder = tmp_path / name
        folder.mkdir()
        if name == "with_settings":
            (folder / "matplotlibrc").write_bytes(settings)
        subprocess.run([sys.executable, "-c", CURVE, str(folder / "curve.png")], cwd=folder, check=True)
        curves.append((folder / "curve.png").read_bytes())
    assert curves[0] == curves[1]
