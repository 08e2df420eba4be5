"""The browser for tests of pages, where one is installed.

Without a browser these tests are skipped; with `STARCODER_REQUIRE_BROWSER` in the environment, as in `.ci/run`, they
fail.
"""

from __future__ import annotations

import os
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SIZES = {"phone": (390, 844), "desk": (1280, 900)}
"""Widths and heights in pixels."""


@pytest.fixture(scope="module")
def browser():
    """A Chromium. It is closed after each module: a thread in which playwright runs can run no other event loop."""
    without = pytest.fail if os.environ.get("STARCODER_REQUIRE_BROWSER") else pytest.skip
    try:
        import playwright.sync_api as api
    except ImportError:
        without("playwright is not installed")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        without(f"no browser is installed: none of {', '.join(BROWSERS)}")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield running
        running.close()
