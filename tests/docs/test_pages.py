"""Every command and Python block of the pages, in the order of the page, in a small repository; and the site itself.

Above a block in the source may stand `<!-- not run: why -->`, or `<!-- long: why -->`: two steps are then made in the place of
the minutes. A block with a title is a file of that name.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from dataclasses import fields
from typing import NamedTuple

import pytest

from checkout import ROOT, furnish
from git_starcoder import registry
from shell import HUNG, environment
from toy import evolving

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(
    r'(?:^<!-- (long|not run): ([^\n]+) -->\n)?^```(\w+)(?: title="([\w.]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE
)
RUN = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error::SyntaxWarning", "-c"]}


class Block(NamedTuple):
    mark: str
    why: str
    language: str
    title: str
    text: str


def blocks(page):
    return [Block(*found) for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def with_blocks():
    return [page for page in PAGES if any(block.language in RUN for block in blocks(page))]


@pytest.fixture(scope="module")
def repository(repo_maker):
    """A repository with a history, and the seeds' commands in it."""
    made = repo_maker(evolving(14, 8))
    furnish(made)
    return made


@pytest.mark.parametrize("page", with_blocks(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_blocks_of_a_page_run(page, repository, commands, tmp_path):
    here = tmp_path / "project"
    shutil.copytree(repository, here, symlinks=True)
    variables = environment(STARCODER_CACHE=str(tmp_path / "cache"), OMP_NUM_THREADS="1", PYTHONPATH=str(here))
    variables["PATH"] = os.pathsep.join((str(commands), variables["PATH"]))
    for block in blocks(page):
        if block.title:
            (here / block.title).write_text(block.text, encoding="utf-8")
        elif block.language in RUN and block.mark != "not run":
            text = re.sub(r"--minutes [\d.]+", "--steps 2", block.text) if block.mark == "long" else block.text
            done = subprocess.run(
                [*RUN[block.language], text], cwd=here, env=variables, text=True, check=False, timeout=HUNG,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert done.returncode == 0, f"{text}\n{done.stdout}"
            assert "Traceback" not in done.stdout, done.stdout


def test_a_block_that_is_not_run_says_why():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!-- long:") + text.count("<!-- not run:") == sum(
            bool(block.mark) for block in blocks(page)
        ), page
        assert all("--minutes" in block.text for block in blocks(page) if block.mark == "long"), page


def test_the_shortest_language_file_is_enough(repo_maker, tmp_path):
    """The page's example on a copy of the shelf: the contract of the shelf, and every technique on a file of it."""
    page = (DOCS / "how-to/language.md").read_text(encoding="utf-8")
    (shortest,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    for name in (
        "pyproject.toml",
        "tests/conftest.py",
        "tests/workers.py",
        "tests/browsers.py",
        "tests/preloaded.py",
        "tests/test_languages.py",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    language = tmp_path / "src/git_starcoder/languages/arduino.toml"
    language.write_text(textwrap.dedent(shortest), encoding="utf-8")
    (tmp_path / "all.yaml").write_text(
        "extends: elite\nwindow: {size: 64, vocab_size: 600}\naugment:\n"
        + "".join(f"  {key}: 1.0\n" for key in registry.names("augmentations"))
    )
    sketch = "// A sketch.\nint lamp = %d;\n\nvoid setup() {\n    int pin = lamp;\n    start(pin, lamp);\n}\n"
    files = {f"blink_{number}/blink_{number}.ino": sketch % number for number in range(6)}
    made = repo_maker([files, {"blink_0/blink_0.ino": sketch % 7}])
    module = [sys.executable, "-m"]
    for command in (
        [*module, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_languages.py"],
        [*module, "git_starcoder", "build", str(made), "-o", "out", "-r", "all.yaml", "-j", "2"],
        [*module, "git_starcoder", "check", "out", "--repo", str(made), "-q"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment(PYTHONPATH="src"), text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=HUNG,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
    steps = {step["step"]: step for step in json.loads((tmp_path / "out/manifest.json").read_text())["steps"]}
    assert steps["analyse"]["figures"]["files_arduino"] == steps["analyse"]["figures"]["trees_clean"] == 6
    assert steps["analyse"]["figures"]["functions"] == 6
    assert not any(key.startswith("parser_") for step in steps.values() for key in (*step["figures"], *step["dropped"]))
    assert steps["augment"]["dropped"]["nothing_to_change"] == 6 * 6


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as `make docs` does."""
    pytest.importorskip("mkdocs", reason="the extra 'docs' is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return out


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > len(PAGES)
    loaded = re.compile(
        r'<(?:script|img|iframe|source)[^>]*\ssrc="?((?:https?:)?//[^">\s]+)|<link[^>]*\shref="?((?:https?:)?//[^">\s]+)'
    )
    for page in pages:
        outside = [first or second for first, second in loaded.findall(page.read_text(encoding="utf-8"))]
        assert not outside, f"{page.name}: {outside}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(?:https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_reference_has_everything_that_the_code_has(site):
    from git_starcoder import checks, cli, recipe

    said = {page.stem: page.read_text(encoding="utf-8") for page in (site / "reference").glob("*.html")}
    assert [name for name in cli.COMMANDS if f"git starcoder {name}" not in said["commands"]] == []
    assert "--dry-run" in said["commands"]
    assert "[auto|always|never]" in said["commands"]
    assert [name for name, text in said.items() if r"\|" in text] == []
    assert [name for name in checks.check_names() if f"<code>{name}</code>" not in said["checks"]] == []
    assert [
        each.name for each in fields(recipe.WindowOptions) if f"<code>{each.name}</code>" not in said["recipe"]
    ] == []
    assert "Jaccard similarity of token shingles" in said["recipe"]
    assert "<code>weight</code>" in said["rows"]
    assert all(f"<td>{code}</td>" in said["exit-codes"] for code in (0, 1, 2, 70, 130, 141, 143))


def test_every_page_is_in_the_menu():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page for page in PAGES if page.relative_to(DOCS).as_posix() not in menu] == []
