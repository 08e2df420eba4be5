"""The page of the server in Chromium: it fits, it completes, and it asks nobody else."""

from __future__ import annotations

import pytest

from browsers import SIZES
from serving import running

CODE = "def find_order(items: list[int], limit: int) -> int:\n    total = 3\n    for order in items:\n        ret"
TOKEN = "0123456789abcdef"


@pytest.fixture(params=SIZES)
def page(request, browser, client):
    width, height = SIZES[request.param]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on(
        "request", lambda asked: page.complaints.append(asked.url) if not asked.url.startswith(client.url) else None
    )
    page.goto(client.url)
    yield page
    page.close()


def test_it_fits_its_width_and_asks_nobody_else(page):
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate(fits)
    assert page.complaints == []


def test_it_completes_at_the_cursor_and_accepts(page):
    page.fill("#code", CODE)
    page.evaluate("document.getElementById('code').setSelectionRange(1e6, 1e6)")
    page.check("#sure")
    page.click("#complete")
    page.wait_for_selector("#complete:not([aria-disabled])")
    suggestion = page.text_content("#suggestion")
    assert suggestion.startswith("urn")
    assert "confidence" in page.text_content("#reason")
    page.click("#accept")
    assert page.input_value("#code") == CODE + suggestion
    assert page.complaints == []


def complete(page):
    page.fill("#code", CODE)
    page.check("#sure")
    page.focus("#code")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#suggestion code:not(:empty)")
    return page.text_content("#suggestion")


def test_an_edit_forgets_the_completion(page):
    """It would be inserted at a place that is another one now."""
    assert complete(page)
    page.keyboard.press("Control+Home")
    page.keyboard.type("import os\n")
    assert page.is_disabled("#accept")
    assert page.text_content("#suggestion") == ""
    assert page.input_value("#code") == f"import os\n{CODE}"


def test_a_completion_can_be_undone(page):
    suggestion = complete(page)
    page.click("#accept")
    assert page.input_value("#code") == CODE + suggestion
    page.keyboard.press("Control+z")
    assert page.input_value("#code") == CODE


def test_the_focus_stays_and_the_answer_is_in_view(page):
    page.focus("#complete")
    page.keyboard.press("Enter")
    page.wait_for_selector("#complete:not([aria-disabled])")
    assert "confidence" in page.text_content("#reason")
    assert page.evaluate("document.activeElement.id") == "complete"
    assert page.evaluate("document.getElementById('reason').getBoundingClientRect().bottom <= window.innerHeight + 1")


def test_settings_have_the_address_of_this_server(page, client):
    settings = page.evaluate("[...document.querySelectorAll('.copy code')].map(code => code.textContent)")
    assert len(settings) >= 6
    assert not any("{origin}" in text for text in settings)
    assert sum(client.url in text for text in settings) == len(settings)


def test_a_page_of_another_origin_starts_no_work(browser, client):
    before = client.server.metrics.reasons.total()
    page = browser.new_page()
    page.set_content("<h1>another origin</h1>")
    attempts = """async (url) => {
      const body = JSON.stringify({prompt: "def "});
      const kinds = ["application/json", "text/plain"];
      const outcomes = [];
      for (const kind of kinds) for (const mode of ["cors", "no-cors"]) {
        try {
          const answer = await fetch(url, {method: "POST", mode, headers: {"Content-Type": kind}, body});
          outcomes.push(answer.type === "opaque" ? "opaque" : await answer.text());
        } catch (error) { outcomes.push("refused"); }
      }
      return outcomes;
    }"""
    outcomes = page.evaluate(attempts, f"{client.url}/v1/completions")
    assert set(outcomes) <= {"opaque", "refused"}
    assert client.server.metrics.reasons.total() == before
    page.close()


@pytest.fixture(params=SIZES)
def page_with_token(request, browser, shared_engine):
    width, height = SIZES[request.param]
    with running(shared_engine, token=TOKEN) as client:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(client.url)
        yield page
        page.close()


def test_with_a_token_the_page_asks_for_it(page_with_token):
    page = page_with_token
    page.fill("#code", CODE)
    page.click("#complete")
    page.wait_for_selector("#complete:not([aria-disabled])")
    assert "token" in page.text_content("#reason")
    page.fill("#token", TOKEN)
    page.check("#sure")
    page.evaluate("document.getElementById('code').setSelectionRange(1e6, 1e6)")
    page.click("#complete")
    page.wait_for_selector("#suggestion code:not(:empty)")


def test_with_the_token_the_page_has_the_facts(page_with_token, shared_engine):
    page = page_with_token
    title, example = page.title(), page.input_value("#code")
    page.type("#token", TOKEN[:-1])
    assert page.query_selector("dt") is None
    page.type("#token", TOKEN[-1])
    page.wait_for_selector("dt")
    assert shared_engine.name in page.text_content("header")
    assert page.title() != title
    assert page.input_value("#code") != example
    assert page.text_content("#reason") == "The token is right."
    assert TOKEN not in page.content()
    assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie.length") == 0
    assert page.evaluate("document.activeElement.id") == "token"
    for part in page.query_selector_all("details"):
        part.evaluate("one => one.open = true")
        assert part.query_selector(".with-token").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_token_leaves_code_of_the_user_alone(page_with_token):
    page_with_token.fill("#code", CODE)
    page_with_token.fill("#token", TOKEN)
    page_with_token.wait_for_selector("dt")
    assert page_with_token.input_value("#code") == CODE


def test_without_a_token_nothing_is_said_about_it(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert not page.is_visible("#token")
    assert not any(note.is_visible() for note in page.query_selector_all(".with-token"))
