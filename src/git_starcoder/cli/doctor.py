"""`git starcoder doctor`: shows what this machine offers and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

import click

from git_starcoder import machine
from git_starcoder.cli.shared_options import cache_folder, common_options
from git_starcoder.errors import ExitCode, MachineError, MissingExtraError, UsageError
from git_starcoder.git.command import git_environment
from git_starcoder.installation import install_command
from git_starcoder.text.visible import escape_line
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.cli.console import Console

MIN_GIT_VERSION = (2, 39, 4)
"""Older versions have known vulnerabilities when they read a hostile repository (CVE-2024-32002 and similar ones)."""
GIB = 1 << 30
EXTRAS: tuple[str, ...] = (
    "train", "serve", "report", "parquet", "lora", "bitsandbytes", "export", "tensorboard", "embed", "ray",
)  # fmt: skip
"""The extras for users; the others are for developers of git-starcoder."""
TRAINING_LIBRARIES = ("torch", "transformers", "safetensors", "pydantic", "peft", "bitsandbytes", "tensorboard")
"""Libraries whose versions affect the results or the abilities of a training."""


@click.command("doctor")
@common_options
def command(console: Console) -> ExitCode:
    """Show what this machine offers and what is missing.

    The exit code is 1 if this machine cannot build datasets.
    """
    libraries, extras = _library_versions()
    current = current_folder()
    disk_free = round(shutil.disk_usage(current).free / GIB, 1) if current else f"not known: {CURRENT_FOLDER_GONE}"
    git, is_recent_git = _git_version()
    problems = [f"{name} is not installed" for name, version in libraries.items() if not version]
    if not is_recent_git:
        problems.insert(0, f"git {'.'.join(map(str, MIN_GIT_VERSION))} or newer is needed, this is '{git}'")
    values: dict[str, Any] = {
        "version": metadata.version("git-starcoder"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git,
        "processors": machine.usable_cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "disk_free_gib": disk_free,
        "cache": _folder_or_reason(cache_folder),
        "temporary": _folder_or_reason(temporary_folder),
        **_training_environment(),
        "hub": "offline" if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"} else "online",
        "extras": extras,
        "libraries": libraries,
        "problems": problems,
    }
    return console.answer(values, "\n".join(_lines(values)), ExitCode.FINDINGS if problems else ExitCode.SUCCESS)


def _lines(values: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            items = cast("dict[str, str]", value).items()
            value = ", ".join(f"{name} {text or 'missing'}" for name, text in items)
        elif isinstance(value, list):
            value = "; ".join(cast("list[str]", value)) or "none"
        lines.append(f"{key.replace('_', ' '):16}  {value}")
    return lines


def _folder_or_reason(find_folder: Callable[[], object]) -> str:
    """The folder that a function returns, or why there is none."""
    try:
        return escape_line(str(find_folder() or "off"))
    except (UsageError, MachineError) as error:
        return f"none: {error.what}; {error.hint}"


def _library_versions() -> tuple[dict[str, str], dict[str, str]]:
    """The version of each required library, empty if it is missing, and how to install each incomplete extra."""
    required: dict[str, str] = {}
    extras = dict.fromkeys(EXTRAS, "installed")
    for requirement in metadata.requires("git-starcoder") or []:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", requirement)
        if extra is None:
            required[name] = _version(name)
        elif extra[1] in extras and not _version(name):
            extras[extra[1]] = install_command(extra[1])
    return required, extras


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _git_version() -> tuple[str, bool]:
    """The version of git, and whether it is new enough."""
    try:
        command = ["git", "version"]
        result = subprocess.run(
            command, cwd="/", env=git_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=True
        )
    except FileNotFoundError:
        return "not found", False
    except (OSError, subprocess.CalledProcessError) as error:
        return f"cannot be run: {error}", False
    output = os.fsdecode(result.stdout).strip()
    match = re.search(r"(\d+)\.(\d+)\.(\d+)", output)
    return output.removeprefix("git version "), match is not None and tuple(map(int, match.groups())) >= MIN_GIT_VERSION


def _training_environment() -> dict[str, Any]:
    """The device, precision, thread count and library versions that a training would use."""
    versions = {"training": {name: _version(name) for name in TRAINING_LIBRARIES}}
    try:
        machine.require_resources()
        from git_starcoder.model import devices

        torch, _ = devices.import_libraries()
    except (MissingExtraError, MachineError) as error:
        unknown = {"device": f"not known: {error.what}", "precision": "not known", "threads": "not known"}
        return {**unknown, **versions}
    device = devices.best_device()
    return {
        "device": _describe_gpus(torch) if device == "cuda" else device,
        "precision": f"{devices.best_precision(device)}{' (measured)' if device == 'cpu' else ''}",
        "threads": machine.limit_library_threads(),
        **versions,
    }


def _describe_gpus(torch: Any) -> str:
    """The name and the free memory of each GPU."""
    devices: list[str] = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        devices.append(f"cuda {name} {free / GIB:.0f} of {total / GIB:.0f} GiB free")
    return "; ".join(devices)
