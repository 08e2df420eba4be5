"""Says how git-starcoder was installed, and so how to install more of it."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

PROJECT = "git-starcoder"


def install_command(extra: str = "") -> str:
    """The pip command that installs an extra, or git-starcoder again, from where this installation came from.

    pip records where that was (`direct_url.json`, PEP 610). A checkout in `/src` gives `pip install '/src[train]'`,
    with `-e` if it was installed so. A Git URL gives `pip install 'git-starcoder[train] @ git+https://…'`. Only what
    came from a package index is asked for by its name alone: elsewhere, another project may have this name.
    """
    suffix = f"[{extra}]" if extra else ""
    try:
        recorded = metadata.distribution(PROJECT).read_text("direct_url.json")
        origin: dict[str, Any] = json.loads(recorded) if recorded else {}
        url, is_editable = str(origin.get("url", "")), bool(origin.get("dir_info", {}).get("editable"))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        url, origin, is_editable = "", {}, False
    if not url:
        return f"pip install {shlex.quote(PROJECT + suffix)}" if suffix else f"pip install {PROJECT}"
    if (parts := urlsplit(url)).scheme == "file":
        path = str(Path(url2pathname(parts.path)))
        return f"pip install {'-e ' * is_editable}{shlex.quote(path + suffix)}"
    system = origin.get("vcs_info", {}).get("vcs")
    source = f"{system}+{url}" if system else url
    return f"pip install {shlex.quote(f'{PROJECT}{suffix} @ {source}')}"
