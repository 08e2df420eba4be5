"""Every way in which a command can end, and the exit code: 1 is only what a check found."""

from __future__ import annotations

import errno
import subprocess
import sys

import click
import pytest

from git_starcoder.cli import main
from git_starcoder.errors import MissingExtraError, as_machine_error
from git_starcoder.git.command import run_git
from git_starcoder.user_paths import temporary_folder


class PanicException(BaseException):
    """What a panic in a Rust library raises: it is not an `Exception`."""


def failing_command(error):
    @click.command("ending")
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (SystemExit(1), 70, "a bug in git-starcoder: SystemExit: 1"),
        (SystemExit("message"), 70, "a bug in git-starcoder"),
        (GeneratorExit(), 70, "a bug in git-starcoder"),
        (RecursionError("deep"), 70, "a bug in git-starcoder: RecursionError"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no"), 70, "a bug in git-starcoder"),
        (PanicException("index out of bounds"), 70, "a bug in git-starcoder: PanicException"),
        (PanicException('ThreadPoolBuildError { kind: "no" }'), 2, "no more processes or threads can be started"),
        (RuntimeError("can't start new thread"), 2, "no more processes or threads can be started"),
        (MemoryError(), 2, "memory does not suffice"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            2,
            "memory does not suffice",
        ),
        (RuntimeError("CUDA out of memory."), 2, "memory does not suffice"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 2, "memory does not suffice"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 2, "too many files are open"),
        (OSError(errno.ENFILE, "Too many open files in system"), 2, "too many files are open on this machine"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 2, "no more processes"),
        (OSError(errno.EROFS, "Read-only file system", b"caf\xe9"), 2, "read-only file system"),
        (OSError(errno.EIO, "Input/output error"), 2, "input/output error"),
        (
            ImportError("libx.so: failed to map segment from shared object", name="x"),
            2,
            "x is installed but does not load",
        ),
        (ModuleNotFoundError("No module named 'x'", name="x"), 2, "x is not installed"),
        (click.FileError("x", "no"), 2, "no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (BrokenPipeError(), 141, ""),
    ],
)
def test_no_end_is_1(error, code, message, capsys):
    assert main([], command=failing_command(error)) == code
    output = capsys.readouterr().err
    assert output.startswith(f"error: {message}" if code in {2, 70} else message)
    assert "Traceback" not in output


def test_an_interrupt_while_an_error_is_printed_is_130(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("git_starcoder.cli.console.print_error", interrupted)
    assert main([], command=failing_command(MemoryError())) == 130


def test_an_error_that_cannot_be_printed_is_no_traceback(monkeypatch):
    def broken(*_, **__):
        raise ValueError

    monkeypatch.setattr("git_starcoder.cli.console.print_error", broken)
    assert main([], command=failing_command(MemoryError())) == 70


def test_a_traceback_that_cannot_be_saved(monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", "/proc/none")
    assert main([], command=failing_command(KeyError("x"))) == 70
    assert "hint: STARCODER_TRACEBACK=1 shows the traceback" in capsys.readouterr().err


def test_an_interrupt_while_libraries_load_is_130(tmp_path):
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from git_starcoder.cli import main; sys.exit(main([]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (130, "interrupted\n")


def test_a_library_that_does_not_load_is_not_missing():
    broken = ImportError("failed to map segment from shared object", name="torch", path="torch/lib.so")
    assert "does not load" in MissingExtraError.from_import_error(broken, "torch", "train").what
    assert (
        "is not installed"
        in MissingExtraError.from_import_error(ModuleNotFoundError(name="torch"), "torch", "train").what
    )


def test_an_ordinary_error_is_no_limit():
    assert as_machine_error(ValueError("memory of the process")) is None
    assert as_machine_error(FileNotFoundError(errno.ENOENT, "no such file")) is None


def test_git_runs_where_there_is_a_folder(monkeypatch, tmp_path):
    place = tmp_path / "gone"
    place.mkdir()
    monkeypatch.chdir(place)
    place.rmdir()
    assert run_git("version", env={"PATH": "/usr/local/bin:/usr/bin:/bin"})[0] == 0


def test_temporary_files_never_lie_in_the_current_folder(monkeypatch, tmp_path):
    for name in ("TMPDIR", "TEMP", "TMP", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("git_starcoder.user_paths._offered_folders", [])
    monkeypatch.setattr("git_starcoder.user_paths._is_writable", lambda folder: folder == str(tmp_path))
    assert main([], command=failing_command(KeyError("x"))) == 70
    with pytest.raises(Exception, match="there is no folder for temporary files"):
        temporary_folder()
    monkeypatch.setattr("git_starcoder.user_paths._offered_folders", [tmp_path])
    assert temporary_folder() == str(tmp_path)
