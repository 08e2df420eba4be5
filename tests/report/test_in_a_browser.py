"""The page in Chromium, where one is installed: at the width of a phone and of a desk, in light and dark, by keyboard.

Without a browser the tests are skipped; with `STARCODER_REQUIRE_BROWSER` in the environment, as in `.ci/run`, they fail.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from browsers import BROWSERS, SIZES
from checkout import ROOT
from git_starcoder.cli import main
from shell import HUNG
from toy import code_base


@pytest.fixture(scope="module")
def file(repo_maker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seen")
    asked = ("-r", "elite", "--set", "window.size=[96,256]", "--set", "window.vocab_size=600")
    long = {f"a/{'very_long_name_' * 12}.py": code_base(1).popitem()[1]}
    repo = repo_maker({**code_base(24), **long})
    assert main(["build", str(repo), "-o", str(folder / "out"), "-j", "1", "-q", *asked]) == 0
    assert main(["report", str(folder / "out"), "-o", str(folder / "page.html"), "--no-check", "-q"]) == 0
    return folder / "page.html"


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def open_page(request, browser, file):
    """The page, open, and all that the browser asked for or complained of."""
    size, scheme = request.param
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda asked: messages.append(asked.url) if asked.url != file.as_uri() else None)
    page.goto(file.as_uri())
    yield page, scheme, messages
    page.close()


def test_nothing_is_asked_for_or_complained_of(open_page):
    page, _, messages = open_page
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    page.mouse.wheel(0, 100_000)
    assert messages == []


def test_the_page_fits_its_width_also_with_all_tables_open(open_page):
    page, _, _ = open_page
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate(fits)


def test_pictures_are_drawn_in_the_colours_of_the_theme(open_page):
    page, scheme, _ = open_page
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 26)"}[scheme]
    ink = page.evaluate("getComputedStyle(document.body).color")
    letters = page.evaluate("[...document.querySelectorAll('svg text')].map(one => getComputedStyle(one).fill)")
    assert ink in letters
    assert set(letters) <= {ink, ground}
    assert page.evaluate("[...document.querySelectorAll('svg')].every(one => one.getBoundingClientRect().height > 60)")


def test_the_keyboard_reaches_everything(open_page):
    page, _, _ = open_page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#section-1"
    summary = page.locator("summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.evaluate("document.querySelector('details').open")
    assert page.evaluate(
        "[...document.querySelectorAll('.scroll, pre')].filter(one => one.scrollWidth > one.clientWidth + 1)"
        ".every(one => one.tabIndex === 0 && one.getAttribute('aria-label'))"
    )


def test_a_screen_reader_hears_pictures_and_headings(open_page):
    page, _, _ = open_page
    tree = page.locator("main").aria_snapshot()
    assert 'img "What each step kept' in tree
    assert 'heading "Map of the repository" [level=2]' in tree


@pytest.mark.parametrize(("required", "outcome"), [("", "4 skipped"), ("1", "4 errors")])
def test_without_a_browser_they_are_skipped_or_fail_if_one_is_required(required, outcome, tmp_path):
    here = os.path.abspath(__file__)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "fits_its_width", here],
        env={**os.environ, "PATH": str(tmp_path), "STARCODER_REQUIRE_BROWSER": required},
        cwd=ROOT, text=True, capture_output=True, timeout=HUNG, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == bool(required), done.stdout
    assert outcome in done.stdout.splitlines()[-1]
    assert "no browser is installed: none of chromium" in done.stdout
    assert ("4 tests of the report's page need a browser" in done.stdout) != bool(required)


@pytest.mark.parametrize("there", ["", *BROWSERS])
def test_a_fresh_machine_gets_a_browser_where_there_is_none_and_requires_it(there, tmp_path):
    log, bash = tmp_path / "log", shutil.which("bash")
    said = f'#!{bash}\necho "$(basename "$0") $* $STARCODER_REQUIRE_BROWSER" >> {log}\n'
    for name in filter(None, ("make", "apt-get", there)):
        (tmp_path / name).write_text(said.replace("$(basename", f"$({shutil.which('basename')}"))
        (tmp_path / name).chmod(0o755)
    (tmp_path / "dirname").symlink_to(shutil.which("dirname"))
    subprocess.run([bash, str(ROOT / ".ci/run")], env={"PATH": str(tmp_path)}, check=True, timeout=HUNG)
    asked = log.read_text().splitlines()
    made = ["make test 1", "make lint 1"]
    if there:
        assert asked == made
    else:
        assert asked[0].startswith("apt-get update ")
        assert asked[1].startswith("apt-get install ")
        assert " chromium " in asked[1]
        assert asked[2:] == made
