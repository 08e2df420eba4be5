"""Where windows like to begin, in every language."""

from __future__ import annotations

import numpy as np
import pytest

from git_starcoder.parse.structure import window_starts
from git_starcoder.parse.tree import Code, parse

MARKED = {
    "rust": "§use a::b;\n\n§// what f does\n#[inline]\nfn f() {\n    let x = 1;\n    §if x > 0 {\n        g();\n    }\n}\n\n"
    "§impl A {\n    §/// doc\n    fn m(&self) {\n        h();\n    }\n}\n",
    "python": "§import a\n\n§# what f does\n@d\ndef f():\n    x = 1\n    §for y in z:\n        g()\n\n§class A:\n    §def m(self):\n        h()\n",
    "typescript": "§import a from 'a';\n§export class A {\n  §m(): void {\n    h();\n  }\n}\n",
    "javascript": "§/** doc */\nfunction f() {\n  g();\n}\n",
    "go": "§package p\n\n§// F does.\nfunc F() {\n\tx := 1\n\t§if x > 0 {\n\t\tg()\n\t}\n}\n",
    "java": "§class C {\n    int a;\n    §@Override\n    int f() {\n        return 1;\n    }\n}\n",
    "c": "§#include <a.h>\n§int f(void) {\n    return 1;\n}\n",
    "cpp": "§struct A {\n  int a;\n};\n§int f() {\n  §while (true) {\n    g();\n  }\n}\n",
}


@pytest.mark.parametrize("language", MARKED)
def test_items_begin_with_what_belongs_to_them(language):
    marked = MARKED[language].encode()
    mark = "§".encode()
    parts = marked.split(mark)
    expected = np.cumsum([len(part) for part in parts])[:-1].tolist()
    code = parse(marked.replace(mark, b""), language)
    assert code.is_clean
    assert np.frombuffer(window_starts(code), dtype="<u4").tolist() == expected


def test_a_comment_with_a_blank_line_below_belongs_to_nothing():
    code = parse(b"// of the file\n\nfn f() {}\n", "rust")
    assert np.frombuffer(window_starts(code), dtype="<u4").tolist() == [16]


def test_text_has_none():
    assert window_starts(Code(b"plain", None, None, is_clean=False)) == b""
