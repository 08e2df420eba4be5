"""`git starcoder doctor`: what this machine offers, and what is missing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

import click

from git_starcoder import machine, settings
from git_starcoder.cli.talk import common, escape_line
from git_starcoder.errors import ExitCode, MachineError, MissingExtraError, UsageError
from git_starcoder.git.command import git_environment
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from git_starcoder.cli.talk import Talk

GIT_WANTED = (2, 39, 4)
"""Older versions have known holes when a hostile repository is read (CVE-2024-32002 and its neighbours)."""
GIB = 1 << 30
EXTRAS: tuple[str, ...] = ("train", "report", "parquet", "lora", "tensorboard", "embed")
"""Of which one is told whether they are there; the others are for working on git-starcoder itself."""
TRAINING = ("torch", "transformers", "safetensors", "pydantic", "peft", "tensorboard")
"""Libraries of which a training's results and abilities depend on the version."""


@click.command("doctor")
@common
def command(talk: Talk) -> ExitCode:
    """Show what this machine offers and what is missing.

    Exit 1 if building cannot work.
    """
    libraries, extras = _libraries()
    current = current_folder()
    git, git_fine = _git()
    missing = [name for name, version in libraries.items() if not version]
    values: dict[str, Any] = {
        "version": metadata.version("git-starcoder"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git,
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB, 1),
        "disk_free_gib": round(shutil.disk_usage(current).free / GIB, 1)
        if current
        else f"not known: {CURRENT_FOLDER_GONE}",
        "cache": _cache(),
        "temporary": _temporary(),
        **_training(),
        "hub": "offline" if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"} else "online",
        "extras": {
            name: "installed" if there else f"pip install 'git-starcoder[{name}]'" for name, there in extras.items()
        },
        "libraries": libraries,
    }
    problems = [] if git_fine else [f"git {'.'.join(map(str, GIT_WANTED))} or newer is wanted, this is '{git}'"]
    problems += [f"{name} is not installed" for name in missing]
    values["problems"] = problems
    code = ExitCode.FINDINGS if problems else ExitCode.SUCCESS
    return talk.answer(values, "\n".join(_lines(values)), code)


def _lines(values: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict):
            several = cast("dict[str, str]", value)
            value = ", ".join(f"{name} {text or 'missing'}" for name, text in several.items())
        elif isinstance(value, list):
            value = "; ".join(cast("list[str]", value)) or "none"
        lines.append(f"{key.replace('_', ' '):16}  {value}")
    return lines


def _cache() -> str:
    """The folder of the cache, or why there is none."""
    try:
        return escape_line(str(settings.cache_folder() or "off"))
    except UsageError as error:
        return f"none: {error.what}"


def _temporary() -> str:
    """The folder for temporary files, or that there is none."""
    try:
        return escape_line(temporary_folder())
    except MachineError as error:
        return f"none: {error.what}; {error.hint}"


def _libraries() -> tuple[dict[str, str], dict[str, bool]]:
    """The version of each library of the core, "" where it is missing; and which extras are complete."""
    core: dict[str, str] = {}
    extras = dict.fromkeys(EXTRAS, True)
    for wanted in metadata.requires("git-starcoder") or []:
        name = re.split(r"[^\w.-]", wanted, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"](\w+)['\"]", wanted)
        if extra is None:
            core[name] = _version(name)
        elif extra[1] in extras:
            extras[extra[1]] = extras[extra[1]] and bool(_version(name))
    return core, extras


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _git() -> tuple[str, bool]:
    """What git says it is, and whether that is new enough."""
    try:
        done = subprocess.run(
            ["git", "version"],
            cwd="/",
            env=git_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
    except FileNotFoundError:
        return "not found", False
    except (OSError, subprocess.CalledProcessError) as error:
        return f"cannot be run: {error}", False
    said = os.fsdecode(done.stdout).strip()
    numbers = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    return said.removeprefix("git version "), numbers is not None and tuple(map(int, numbers.groups())) >= GIT_WANTED


def _training() -> dict[str, Any]:
    """What a model would be trained with: devices, precision of matrix products, threads, versions."""
    found: dict[str, Any] = {"training": {name: _version(name) for name in TRAINING}}
    try:
        machine.require_resources()
        from git_starcoder.model.net import network

        torch, _ = network.import_libraries()
    except (MissingExtraError, MachineError) as error:
        return {"device": f"not known: {error.what}", "precision": "not known", "threads": "not known", **found}
    device = network.best_device()
    return {
        "device": _described(torch, device),
        "precision": f"{network.best_precision(device)}{' (measured)' if device == 'cpu' else ''}",
        "threads": machine.limit_library_threads(),
        **found,
    }


def _described(torch: Any, device: str) -> str:
    if device != "cuda":
        return device
    cards = range(torch.cuda.device_count())
    said = [(torch.cuda.get_device_name(card), *torch.cuda.mem_get_info(card)) for card in cards]
    return "; ".join(f"cuda {name} {free / GIB:.0f} of {memory / GIB:.0f} GiB free" for name, free, memory in said)
