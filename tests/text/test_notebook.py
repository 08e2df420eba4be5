"""Notebooks: code and Markdown as text in the notebook's language, and nothing else of them."""

import ast
import codecs
import json
import subprocess
import sys
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from git_starcoder.parse.language import detect_language
from git_starcoder.parse.tree import parse
from git_starcoder.recipe import ReadOptions
from git_starcoder.text import notebook
from git_starcoder.text.clean import CleanText, clean_file, find_refusal, max_file_bytes
from git_starcoder.text.encoding import Refusal

PNG = "iVBORw0KGgo" + "A" * 100_000
PICTURE = {
    "output_type": "display_data",
    "data": {"image/png": PNG, "text/plain": ["<Figure of SECRET>"]},
    "metadata": {},
}
OPTIONS = ReadOptions()


def code(source, outputs=(), count=1, **more):
    return {
        "cell_type": "code",
        "execution_count": count,
        "metadata": {},
        "outputs": list(outputs),
        "source": source,
    } | more


def note(source, kind="markdown", **more):
    return {"cell_type": kind, "metadata": {}, "source": source} | more


def made(*cells, **metadata):
    return json.dumps({"cells": list(cells), "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}).encode()


def cleaned(data: bytes) -> CleanText:
    text = clean_file(data, OPTIONS)
    assert isinstance(text, CleanText), text
    return text


def text_of(*cells, **metadata) -> str:
    return cleaned(made(*cells, **metadata)).text.decode()


def test_code_as_it_is_and_the_rest_as_comments():
    text = text_of(
        note(["# Title\n", "\n", "Some *words*.\n"]),
        code(["import math\n", "\n", "def area(r):\n", "    return math.pi * r * r"], [PICTURE]),
        note("raw\ntext", "raw"),
        code("area(3)\n\n"),
    )
    assert text == (
        "# %% [markdown]\n# # Title\n#\n# Some *words*.\n"
        "\n# %%\nimport math\n\ndef area(r):\n    return math.pi * r * r\n"
        "\n# %% [raw]\n# raw\n# text\n"
        "\n# %%\narea(3)\n"
    )


def test_what_is_left_out_is_counted():
    stream = {"output_type": "stream", "name": "stdout", "text": ["SECRET\n"]}
    attachments = {"a.png": {"image/png": PNG}, "b.svg": {"image/svg+xml": "<svg/>"}}
    state = {"1": {"model_name": "SECRET"}, "2": {"model_name": "SECRET", "state": {"value": [1]}}}
    text = cleaned(
        made(
            code("x = 1", [PICTURE, stream]),
            code("y = 2", [stream], None),
            note("![a](attachment:a.png)", attachments=attachments),
            note(f"![c](data:image/png;base64,{PNG}) <img src='data:image/gif;base64,{PNG}'/>"),
            code("z = '" + "z" * OPTIONS.max_line + "'", []),
            code("", []),
            note("   \n"),
            widgets={"application/vnd.jupyter.widget-state+json": {"state": state}},
        )
    )
    assert text.notebook_counts == {
        "notebooks": 1,
        "notebook_outputs": 3,
        "notebook_images": 5,
        "notebook_attachments": 2,
        "notebook_execution_counts": 3,
        "notebook_widgets": 2,
        "notebook_long_cells": 1,
    }
    assert b"SECRET" not in text.text
    assert b"iVBOR" not in text.text
    assert b"# ![c](data:image/png;base64,) <img src='data:image/gif;base64,'/>\n" in text.text
    assert len(text.text) < 300


def test_a_notebook_without_outputs_is_the_same_text():
    full = made(note("# A"), code("x = 1", [PICTURE], 7), kernelspec={"name": "python3"})
    stripped = made(note("# A"), code("x = 1", [], None))
    assert cleaned(full).text == cleaned(stripped).text
    assert cleaned(full).text == cleaned(json.dumps(json.loads(full), indent=4).encode().replace(b"\n", b"\r\n")).text


@pytest.mark.parametrize("number", [2, 3])
def test_older_formats(number):
    cells = [
        {"cell_type": "heading", "level": 2, "source": ["Two\n", "lines"], "metadata": {}},
        {"cell_type": "code", "collapsed": False, "input": ["x = 1\n", "%ls\n"], "language": "python", "outputs": [
            {"output_type": "display_data", "png": PNG}], "prompt_number": 3},
        {"cell_type": "html", "source": "<b>x</b>"},
    ]  # fmt: skip
    text = cleaned(
        json.dumps({"nbformat": number, "worksheets": [{"cells": cells[:2]}, {"cells": cells[2:]}]}).encode()
    )
    assert text.text == b"# %% [markdown]\n# ## Two\n# ## lines\n\n# %%\nx = 1\n# %ls\n\n# %% [raw]\n# <b>x</b>\n"
    assert (text.notebook_counts["notebook_images"], text.notebook_counts["notebook_execution_counts"]) == (1, 1)


KERNELS = {
    "python": [{}, {"kernelspec": {"name": "python3"}}, {"language_info": {"name": "ipython"}}, {"kernelspec": None},
        {"kernelspec": {"name": "conda-env-ml-py", "display_name": "x"}}, {"kernelspec": {"name": "pysparkkernel"}},
        {"colab": {"name": "x.ipynb"}, "kernelspec": {"name": "python3"}, "language_info": {"name": "python"}},
        {"application/vnd.databricks.v1+notebook": {"language": "python"}}, {"kernelspec": {"language": 3}}, {"kernelspec": []}],
    "rust": [{"kernelspec": {"name": "rust", "language": "rust"}}, {"language_info": {"name": "Rust"}}],
    "cpp": [{"kernelspec": {"name": "xcpp17", "language": "C++17"}}, {"kernelspec": {"name": "xcpp14"}}],
    "c": [{"kernelspec": {"name": "c", "language": "c"}}],
    "go": [{"kernelspec": {"name": "gophernotes"}}, {"kernelspec": {"language": "go"}}],
    "java": [{"kernelspec": {"name": "java"}}, {"language_info": {"name": "Java"}}],
    "javascript": [{"kernelspec": {"language": "javascript"}}, {"language_info": {"name": "nodejs"}}],
    "typescript": [{"kernelspec": {"name": "deno", "language": "typescript"}}],
    "text": [{"kernelspec": {"name": "ir", "language": "R"}}, {"kernelspec": {"name": "julia-1.9"}},
        {"language_info": {"name": "polyglot-notebook"}, "kernelspec": {"language": "C#", "name": ".net-csharp"}},
        {"language_info": {"name": "wow\n# %%\n\u202e"}}],
}  # fmt: skip


@pytest.mark.parametrize(("language", "metadata"), [(key, one) for key, some in KERNELS.items() for one in some])
def test_the_language_is_that_of_the_kernel(language, metadata):
    data = made(note("words"), code("x = 1"), **metadata)
    text = cleaned(data).text
    assert detect_language("a/b.IPYNB", text) == language
    mark = "#" if language in {"python", "text"} and b"csharp" not in text else "//"
    assert text.startswith(f"{mark} %% [markdown]".encode() if language == "python" else f"{mark} ---\n".encode())
    assert f"{mark} %% [markdown]\n{mark} words\n\n{mark} %%\nx = 1\n".encode() in text
    assert all(line.startswith(mark) or line in {"", "x = 1"} for line in text.decode().split("\n"))


PYTHON = """\
%matplotlib inline
!pip install -q numpy \\
    scipy
!echo don't "
?print
np.mean?
np.mean??
files = !ls *.py
a, b = %timeit -o f()
cd data
pip install pandas
x = (3
     %b)
s = '''
%matplotlib
!ls
'''; t = "\\"'''"
if not files:
    !wget https://example.com/a.zip
    got = !ls
for _ in range(3):
    %time f(x)
y = x % 3  # why?
z = 7 \\
    % y
assert x != y, "no?"
%%time
ls  = []
ls += [1]
cp  **= 3
ls -l=1
"""


def test_lines_for_the_kernel_are_comments():
    lines = text_of(code(PYTHON)).split("\n")
    assert lines[1:] == [
        "# %matplotlib inline",
        "# !pip install -q numpy \\",
        "    # scipy",
        "# !echo don't \"",
        "# ?print",
        "# np.mean?",
        "# np.mean??",
        "# files = !ls *.py",
        "# a, b = %timeit -o f()",
        "# cd data",
        "# pip install pandas",
        "x = (3",
        "     %b)",
        "s = '''",
        "%matplotlib",
        "!ls",
        "'''; t = \"\\\"'''\"",
        "if not files:",
        "    pass  # !wget https://example.com/a.zip",
        "    pass  # got = !ls",
        "for _ in range(3):",
        "    pass  # %time f(x)",
        "y = x % 3  # why?",
        "z = 7 \\",
        "    % y",
        'assert x != y, "no?"',
        "# %%time",
        "ls  = []",
        "ls += [1]",
        "cp  **= 3",
        "# ls -l=1",
        "",
    ]
    ast.parse("\n".join(lines))


@pytest.mark.parametrize(
    "source",
    [
        "%%bash\nls | wc\nfor", "%%html\n<b>don't", "%%writefile a.txt\nit's", "%%sql\nSELECT *", "%%javascript\nlet a = {",
        "# run it\n%%sh\nls -l", "%sql\nSELECT *", "%md\n# it's a title", "#!markdown\nit's",
    ],
)  # fmt: skip
def test_cells_in_other_languages_are_comments(source):
    text = text_of(code(source))
    assert text == "# %%\n" + "".join(f"# {line}\n" for line in source.split("\n"))


def test_cell_magics_of_python_leave_its_code():
    assert text_of(code("%%time\nx = 1")) == "# %%\n# %%time\nx = 1\n"
    assert text_of(code("%%writefile a.py\nx = 1")) == "# %%\n# %%writefile a.py\nx = 1\n"
    assert text_of(code("%sql SELECT 1\nx = 1")) == "# %%\n# %sql SELECT 1\nx = 1\n"
    bricks = {"application/vnd.databricks.v1+notebook": {"language": "python"}}
    assert text_of(code("%sql SELECT\n1"), **bricks) == "# %%\n# %sql SELECT\n# 1\n"


@pytest.mark.parametrize(
    "metadata",
    [
        {"vscode": {"languageId": "sql"}},
        {"dotnet_interactive": {"language": "sql"}},
        {"polyglot_notebook": {"kernelName": "sql"}},
    ],
)
def test_a_cell_may_say_its_language(metadata):
    assert text_of(code("SELECT 1", metadata=metadata)) == '# %% language="sql"\n# SELECT 1\n'
    assert text_of(code("x = 1", metadata={"vscode": {"languageId": "python"}})) == "# %%\nx = 1\n"


def test_lines_for_other_kernels():
    rust = {"kernelspec": {"language": "rust"}}
    text = text_of(code(':dep rand = "0.8"\nfn f() -> bool {\n    !true\n}'), **rust)
    assert text.endswith('// %%\n// :dep rand = "0.8"\nfn f() -> bool {\n    !true\n}\n')
    assert parse(text.encode(), "rust").is_clean
    javascript = text_of(code("!function () {}()"), kernelspec={"language": "javascript"})
    assert javascript.endswith("// %%\n!function () {}()\n")


def test_sources_of_any_form():
    assert text_of(code(["a = 1\n", 5, None, "b = 2"]), code(None), code(7), code({"a": 1})) == "# %%\na = 1\nb = 2\n"
    assert text_of(note("a\r\nb\rc\x0bd\u2028e")) == "# %% [markdown]\n# a\n# b\n# c\x0bd\u2028e\n"
    assert text_of({"cell_type": "new", "source": "x"}) == "# %% [raw]\n# x\n"


def test_json_as_python_writes_it():
    data = made(code("x = 1", [{"output_type": "execute_result", "data": {"a": float("nan"), "b": [float("-inf")]}}]))
    assert cleaned(data).text == b"# %%\nx = 1\n"
    data = made(code("x = 'NaN'", ["\ud800"]), note("\ud83d\ude00 \udc00 \\ud800 NaN"))
    assert cleaned(data).text == "# %%\nx = 'NaN'\n\n# %% [markdown]\n# 😀 \ufffd \\ud800 NaN\n".encode()
    twice = b'{"cells": [{"cell_type": "code", "source": "no"}], "nbformat": 4, ' + made(code("x = 1"))[1:]
    assert cleaned(twice).text == b"# %%\nx = 1\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_encodings(encoding):
    text = cleaned(made(code("x = 'é'")).decode("unicode-escape").encode(encoding))
    assert text.text == "# %%\nx = 'é'\n".encode()
    assert text.changed[-1] == "notebook"


NONE = {
    "not JSON": b'{"cells": [<<<<<<< HEAD',
    "cut": made(code("x = 1", [PICTURE]))[:-200],
    "more": made(code("x = 1")) + b"x",
    "a list": b'[{"cells": []}]',
    "no cells": b'{"nbformat": 4, "metadata": {}}',
    "cells of something else": b'{"cells": [{"id": 1}]}',
    "kinds of something else": b'{"cells": [{"cell_type": "blood", "source": "x"}]}',
    "cells that are none": b'{"cells": [1, null], "nbformat": 4}',
    "cells in an object": b'{"cells": {"a": {"cell_type": "code"}}, "nbformat": 4}',
    "deep": made(code("x = 1", [0])).replace(b"[0]", b"[" * 5000 + b"]" * 5000),
    "text": b"x = 1\n",
}


@pytest.mark.parametrize("data", NONE.values(), ids=NONE)
def test_what_is_no_notebook_has_no_place_behind_that_name(data):
    text = clean_file(data, ReadOptions(mean_line=1 << 20, max_line=1 << 20))
    assert isinstance(text, CleanText)
    assert text.text == data
    assert find_refusal("a.json", text, OPTIONS) is None
    assert find_refusal("a/B.ipynb", text, OPTIONS) == Refusal("no_notebook", "its content is not a Jupyter notebook")


def test_content_alone_says_that_it_is_a_notebook():
    assert find_refusal("a.ipynb", cleaned(made(code("x = 1"))), OPTIONS) is None
    assert cleaned(b" \n" + made(code("x = 1"))).text == b"# %%\nx = 1\n"
    assert isinstance(
        clean_file(made(code("x = '\xff'")).decode().replace("\\u00ff", "ÿ").encode("latin-1"), OPTIONS), Refusal
    )


@pytest.mark.parametrize("data", [made(), made(code(""), note([])), b'{"worksheets": [], "nbformat": 3}'])
def test_an_empty_notebook_is_empty(data):
    assert clean_file(data, OPTIONS) == Refusal("empty")


def test_limits_are_those_of_the_text():
    large = made(*(code("x = 1", [PICTURE]) for _ in range(30)))
    assert OPTIONS.max_bytes < len(large) < max_file_bytes("a.ipynb", OPTIONS) == notebook.MAX_NOTEBOOK_BYTES
    assert cleaned(large).notebook_counts["notebook_images"] == 30
    assert clean_file(large[:-1], OPTIONS) == Refusal("too_large", f"{len(large) - 1} bytes")
    words = clean_file(made(*(note("word " * 300 + "\n" + "w\n" * 50) for _ in range(1000))), OPTIONS)
    assert isinstance(words, Refusal)
    assert words.reason == "too_large"
    assert max_file_bytes("a.py", OPTIONS) == OPTIONS.max_bytes


def test_secrets_are_looked_for_in_the_text():
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8"
    text = cleaned(
        made(code([f'login("{token}")\n', "x = 1"], [{"output_type": "stream", "text": token}]), note(token))
    )
    assert token.encode() not in text.text
    assert text.secret_counts == {"GITHUB_TOKEN": 2}


HOSTILE = {
    "escapes": b'{"cells": [' + b'"' + b'\\"' * 300_000,
    "quotes": b'{"cells": [{"cell_type": "code", "source": "' + b'\\"\\"\\"' * 100_000 + b'"}], "nbformat": 4}',
    "surrogates": made(note("\ud800" * 100_000)),
    "words": b'{"cells": [' + b'"NaN",' * 100_000 + b"NaN]}",
    "cells": b'{"nbformat": 4, "cells": [' + b"{}," * 200_000 + b"{}]}",
    "small cells": b'{"nbformat": 4, "cells": [' + b'{"cell_type":0},' * 30_000 + b"0]}",
    "magics": made(code("%a\n" * 100_000)),
    "names": made(code("a." * 200_000 + "\n" + ("a" * 199 + "=\n") * 1000)),
    "uris": made(note("data:image/png;base64," * 20_000)),
    "opened": b'{"cells": ' + b"[" * 600_000,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_content_costs_what_its_size_is(data):
    tracemalloc.start()
    begin = time.process_time()
    clean_file(data, OPTIONS)
    assert time.process_time() - begin < 2
    assert tracemalloc.get_traced_memory()[1] < 30 * len(data) + (1 << 20)
    tracemalloc.stop()


@given(st.lists(st.tuples(st.sampled_from(["code", "markdown", "raw"]), st.text(max_size=40)), max_size=6))
def test_any_notebook_is_text_with_lf(cells):
    data = made(*({"cell_type": kind, "source": source} for kind, source in cells))
    text = clean_file(data, OPTIONS)
    if isinstance(text, Refusal):
        assert text.reason in {"empty", "binary"}
        return
    assert b"\r" not in text.text
    assert text.text.endswith(b"\n")
    notes = [source for kind, source in cells if kind != "code" and source.strip()]
    assert text.text.count(b"\n# %% [") + text.text.startswith(b"# %% [") >= len(notes)
    if all(kind != "code" for kind, _ in cells):
        assert all(line[:1] in {b"", b"#"} for line in text.text.split(b"\n"))


def test_nobody_asks_the_clock_or_the_hash_seed():
    script = (
        "import sys; from git_starcoder.recipe import ReadOptions; from git_starcoder.text.clean import clean_file; "
        "sys.stdout.write(repr(clean_file(sys.stdin.buffer.read(), ReadOptions())[:2]))"
    )
    data = made(code(PYTHON, [PICTURE]), note("x"), kernelspec={"name": "python3"})
    texts = {
        subprocess.run(
            [sys.executable, "-c", script], input=data, capture_output=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in "12"
    }
    assert len(texts) == 1


def test_a_bom_alone_is_no_notebook():
    assert not notebook.may_be_notebook(codecs.BOM_UTF8)
    assert notebook.may_be_notebook(codecs.BOM_UTF16_LE + "  {".encode("utf-16-le"))
