"""The guide and the page of the server say the same."""

from __future__ import annotations

import html
import re

from checkout import ROOT
from guide import USUAL_ADDRESS


def test_the_settings_of_the_page_are_those_of_the_guide():
    page = (ROOT / "src/git_starcoder/serve/page.html").read_text(encoding="utf-8")
    found = re.findall(r"<summary>(.*?)</summary>.*?<pre><code>(.*?)</code>", page, re.DOTALL)
    blocks = {name: html.unescape(code).replace("{origin}", USUAL_ADDRESS) for name, code in found}
    assert blocks.pop("curl")
    assert len(blocks) > 5
    guide = (ROOT / "docs/how-to/editors.md").read_text(encoding="utf-8")
    for name, block in blocks.items():
        lines = re.sub(r"^#.*\n", "", block)  # where the file is, which the guide says in its text
        assert f"\n{lines}\n```" in guide, name


def test_page_and_guide_say_alike_where_the_token_stands():
    page = (ROOT / "src/git_starcoder/serve/page.html").read_text(encoding="utf-8")
    notes = re.findall(r'<p class="with-token"\$token_hidden>With the token: (.*)</p>', page)
    assert len(notes) == page.count("<summary>")
    guide = (ROOT / "docs/how-to/editors.md").read_text(encoding="utf-8")
    for note in notes:
        assert f" | {html.unescape(re.sub('</?code>', '`', note))} |\n" in guide
