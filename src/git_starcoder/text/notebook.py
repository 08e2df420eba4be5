"""Extracts the code and Markdown of a Jupyter notebook as text in its language, and counts what is left out.

The layout is Jupytext's percent format, which Spyder, VS Code and PyCharm read too: a code cell follows a line `# %%`
as it is; Markdown and raw cells follow `# %% [markdown]` and `# %% [raw]` as comments. Lines for the kernel
(`%matplotlib`, `!pip install`, `name?`) become comments, and so do whole cells in another language (`%%bash`), so that
the text parses. A notebook in a language other than Python begins with Jupytext's header, which names the language.

Outputs, pictures, attachments, execution counts and the state of widgets are never part of the text.

Whether a file is a notebook depends only on its content, and so does its text, so a blob can be read without its path.
The work is linear in the size of the file, and what is left out is skipped without being parsed into objects.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")
NOTEBOOK_SUFFIX = ".ipynb"
MAX_NOTEBOOK_BYTES = 32 << 20
"""Bytes of the largest notebook that is read. Most of a notebook is pictures, so it has a limit of its own."""
MAX_JSON_DEPTH = 100
"""Nested brackets. The parser could go deeper, but how deep depends on the machine."""
JSON_START_BYTES = 4_096
"""Bytes within which a JSON object must begin."""
MIN_PICTURE_CHARACTERS = 128
"""Characters of the smallest picture that is left out of a text."""

CELL_TYPES = frozenset(["code", "markdown", "raw", "heading", "html"])
CELL_PREFIX_BYTES = 16
"""Bytes that may be added before a line, such as a comment mark; see `_render_cell`."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A JSON string. One without an end goes to the end of the file, so that nothing is scanned twice."""
_STRING_OR_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?\b(?:NaN|Infinity)\b', re.DOTALL)
_ESCAPE = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_PICTURE = re.compile(rb'"(?:image/[\w.+-]{1,60}|png|jpeg|svg)"\s{0,8}:')
_OUTPUT = re.compile(rb'"output_type"\s{0,8}:')
_WIDGET = re.compile(rb'"model_name"\s{0,8}:')
_DATA_URI = re.compile(
    rf"(data:[\w.+-]{{1,60}}/[\w.+-]{{1,60}}(?:;[\w=.+-]{{1,60}}){{0,4}};base64,)[\w+/=%-]{{{MIN_PICTURE_CHARACTERS},}}"
)

_PYTHON_LEXEME = re.compile(r"""(#.*)|(\"{3}|'{3})|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|([(\[{])|([)\]}])|\\.""")
"""Of a line of Python: a comment (group 1), the start of a triple-quoted string (2), a short string, an opening bracket
(3), a closing bracket (4), an escaped character."""
_QUOTE_ENDS = {'"""': re.compile(r'\\.|(""")'), "'''": re.compile(r"\\.|(''')")}
PYTHON_MAGIC = re.compile(
    r"%{1,3}[A-Za-z_]|[!?]|[\w.%*\[\]-]{1,200}\?{1,2}\s{0,8};?$"  # %matplotlib inline, !ls, ?name, name?
    r"|[\w.,\s()\[\]*:|]{1,200}=\s{0,8}(?:!|%[A-Za-z])"  # files = !ls
    r"|(?:cat|cd|cp|mv|rm|rmdir|mkdir|copy|ddir|echo|ls|ldir|ren)"
    r"(?:\s{0,8}$|\s+(?!(?:[-+*/%@&|^]|//|\*\*|<<|>>)?=|,)\S)"  # not `ls += [1]`
    r"|(?:pip3?|conda|mamba)\s{1,8}(?:install|uninstall|list|show|freeze|config|update|upgrade)\b"
)
CELL_MAGIC = re.compile(r"(%{1,3}|#!)([A-Za-z_]\w{0,60}|!)(.{0,200})")
MISSING = msgspec.Raw()
"""The value of a missing key. It is empty, so it is false."""


class NotebookText(NamedTuple):
    """The text of a notebook."""

    utf8: bytes
    counts: Counter[str]
    """`notebooks` is 1, and the others count what is left out: `notebook_outputs`, `…_images`, `…_attachments`,
    `…_execution_counts`, `…_widgets` and `…_long_cells`. The names are those of the manifest."""


class Cell(msgspec.Struct):
    """A cell of nbformat 4, or of versions 2 and 3, where code is in `input`."""

    cell_type: msgspec.Raw
    source: msgspec.Raw = MISSING
    input: msgspec.Raw = MISSING
    level: msgspec.Raw = MISSING
    language: msgspec.Raw = MISSING
    metadata: msgspec.Raw = MISSING
    outputs: msgspec.Raw = MISSING
    attachments: msgspec.Raw = MISSING
    execution_count: msgspec.Raw = MISSING
    prompt_number: msgspec.Raw = MISSING


class Worksheet(msgspec.Struct):
    """A worksheet of nbformat 2 and 3."""

    cells: list[Cell] = []


class Notebook(msgspec.Struct):
    """The parts of a notebook that are read."""

    cells: list[Cell] | None = None
    worksheets: list[Worksheet] | None = None
    nbformat: msgspec.Raw = MISSING
    metadata: msgspec.Raw = MISSING


class LanguageFields(msgspec.Struct):
    """An object in the metadata that names a language."""

    name: Any = None
    language: Any = None
    languageId: Any = None  # noqa: N815 - VS Code's
    kernelName: Any = None  # noqa: N815 - Polyglot's


class NotebookMetadata(msgspec.Struct):
    """Metadata of a notebook or of a cell."""

    kernelspec: LanguageFields | None = None
    language_info: LanguageFields | None = None
    vscode: LanguageFields | None = None
    dotnet_interactive: LanguageFields | None = None
    polyglot_notebook: LanguageFields | None = None
    databricks: LanguageFields | None = msgspec.field(default=None, name="application/vnd.databricks.v1+notebook")
    kernel: Any = None
    widgets: msgspec.Raw = MISSING


def has_notebook_name(path: str) -> bool:
    """Whether a path ends as that of a notebook does."""
    return path.lower().endswith(NOTEBOOK_SUFFIX)


def may_be_notebook(data: bytes) -> bool:
    """Whether the content of a file begins as a JSON object does, in any encoding."""
    return data[:JSON_START_BYTES].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{")


def extract_text(utf8: bytes, max_line: int) -> NotebookText | None:
    """The text of a notebook, without cells that have a line of more than `max_line` bytes; None for other files."""
    if b'"cells"' not in utf8 and b'"worksheets"' not in utf8:
        return None
    notebook = _parse(utf8, Notebook) if _json_depth(utf8) <= MAX_JSON_DEPTH else None
    if notebook is None or (notebook.cells is None and notebook.worksheets is None):
        return None
    cells = [*(notebook.cells or ()), *(cell for sheet in notebook.worksheets or () for cell in sheet.cells)]
    if not notebook.nbformat and not any(_parse_string(cell.cell_type) in CELL_TYPES for cell in cells):
        return None
    metadata = _parse_metadata(notebook.metadata)
    language = _notebook_language(metadata, cells)
    mark = _tables()["comments"].get(language, "#")
    left_out: Counter[str] = Counter()
    parts: list[str] = []
    for cell in cells:
        parts += _render_cell(cell, language, mark, max_line, left_out, is_databricks=metadata.databricks is not None)
    if metadata.widgets:
        left_out["widgets"] += len(_WIDGET.findall(metadata.widgets))
    if parts and language != "python":
        header = ["---", "jupyter:", "  kernelspec:", f"    language: {language}", "---"]
        parts.insert(0, "".join(f"{mark} {line}\n" for line in header))
    counts = Counter({"notebooks": 1, **{f"notebook_{kind}": count for kind, count in left_out.items() if count}})
    return NotebookText("\n".join(parts).encode(), counts)


def _json_depth(data: bytes) -> int:
    """How deep brackets are nested, at most: 2 for `{"a": [1]}`."""
    brackets = _STRING.sub(b"", data).translate(None, bytes(set(range(256)) - set(b"[]{}")))
    codes = np.frombuffer(brackets, dtype=np.uint8)
    is_opening = (codes == ord("[")) | (codes == ord("{"))
    return int(np.cumsum(np.where(is_opening, 1, -1), dtype=np.int32).max(initial=0))


def _parse(data: bytes, kind: type[T]) -> T | None:
    """The value of JSON as Jupyter writes it, also with `NaN` and with unpaired surrogates; None if it does not fit."""
    decoder = msgspec.json.Decoder(kind)
    for prepare in (bytes, _repair_json):
        try:
            return decoder.decode(prepare(data))
        except msgspec.ValidationError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None


def _repair_json(data: bytes) -> bytes:
    """The data without what Python's parser accepts although it is not JSON."""
    if b"NaN" in data or b"Infinity" in data:
        data = _STRING_OR_NUMBER.sub(lambda match: match[0] if match[0].startswith(b'"') else b"null", data)
    if _SURROGATE.search(data):  # a surrogate that is not one of a pair, which is twice as long, is replaced
        data = _ESCAPE.sub(lambda match: rb"\ufffd" if len(match[0]) == len(rb"\ud800") else match[0], data)
    return data


def _parse_metadata(raw: msgspec.Raw) -> NotebookMetadata:
    return (_parse(bytes(raw), NotebookMetadata) if raw else None) or NotebookMetadata()


def _parse_string(raw: msgspec.Raw) -> str:
    """A string, or a number as one; "" for anything else."""
    value = _parse(bytes(raw), cast("Any", str | int | None)) if raw else None
    return "" if value is None else str(value)


def _notebook_language(metadata: NotebookMetadata, cells: Iterable[Cell]) -> str:
    """The notebook's language, by the name in our registry if it is there; Python if nothing names another one."""
    parts = (metadata.kernelspec, metadata.language_info, metadata.databricks)
    kernel, info, databricks = (fields or LanguageFields() for fields in parts)
    fields = (databricks.language, kernel.language, info.name, kernel.name)
    named = next((name for name in map(_language_name, fields) if name and name != "polyglot-notebook"), "")
    of_cells = (name for cell in cells if (name := _language_name(_parse_string(cell.language))))
    return named or next(of_cells, "python")


def _cell_language(cell: Cell) -> str:
    """The language that a cell names, or ""."""
    metadata = _parse_metadata(cell.metadata)
    parts = (metadata.dotnet_interactive, metadata.polyglot_notebook, metadata.vscode)
    dotnet, polyglot, editor = (fields or LanguageFields() for fields in parts)
    fields = (dotnet.language, polyglot.kernelName, editor.languageId, metadata.kernel)
    return next((name for name in map(_language_name, fields) if name), "")


def _language_name(field: object) -> str:
    """The language that a metadata field names in any spelling, or ""."""
    name = field.strip().lower()[:40] if isinstance(field, str) else ""
    known = (language for pattern, language in _tables()["names"] if pattern.fullmatch(name))
    return next(known, re.sub(r"[^a-z0-9+#._-]+", "-", name))


@cache
def _tables() -> dict[str, Any]:
    """The tables of `notebook.toml`."""
    table = tomllib.loads((files("git_starcoder.text") / "notebook.toml").read_text(encoding="utf-8"))
    return {
        "names": [(re.compile(pattern), language) for pattern, language in table["names"].items()],
        "comments": {name: mark for mark, names in table["comments"].items() for name in names.split()},
        "magics": {language: re.compile(pattern) for language, pattern in table["magics"].items()},
        "foreign": frozenset(table["foreign"]["words"].lower().split()),
    }


def _render_cell(
    cell: Cell, language: str, mark: str, max_line: int, left_out: Counter[str], *, is_databricks: bool
) -> Iterator[str]:
    """The text of a cell with the line before it; nothing for an empty cell. Counts what it leaves out."""
    for raw in (cell.outputs, cell.attachments):
        left_out["images"] += len(_PICTURE.findall(raw))
    left_out["outputs"] += len(_OUTPUT.findall(cell.outputs))
    if cell.attachments:
        left_out["attachments"] += len(_parse(bytes(cell.attachments), dict[str, msgspec.Raw]) or ())
    left_out["execution_counts"] += bytes(cell.execution_count or cell.prompt_number) not in {b"", b"null"}
    kind = _parse_string(cell.cell_type)
    lines = _cell_lines(cell, left_out)
    if any(len(line.encode()) > max_line - CELL_PREFIX_BYTES for line in lines):
        left_out["long_cells"] += 1
    elif not lines:
        return
    elif kind == "code":
        cell_language = _cell_language(cell)
        if cell_language and cell_language != language:
            yield f'{mark} %% language="{cell_language}"\n{_comment_out(lines, mark)}'
        else:
            yield f"{mark} %%\n" + _render_code(lines, language, mark, is_databricks=is_databricks)
    else:
        if kind == "heading":
            level = _parse_string(cell.level)
            lines = [f"{'#' * (int(level) if level in set('123456') else 1)} {line}" for line in lines]
        kind = "markdown" if kind in {"markdown", "heading"} else "raw"
        yield f"{mark} %% [{kind}]\n{_comment_out(lines, mark)}"


def _cell_lines(cell: Cell, left_out: Counter[str]) -> list[str]:
    """The lines of a cell, without blank lines at its beginning and end and without pictures as data URIs."""
    raw = cell.source or cell.input
    source = _parse(bytes(raw), cast("Any", str | list[Any])) if raw else ""
    text = source if isinstance(source, str) else "".join(part for part in source or () if isinstance(part, str))
    text, pictures = _DATA_URI.subn(r"\1", text)
    left_out["images"] += pictures
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    filled = [index for index, line in enumerate(lines) if line.strip()]
    return lines[filled[0] : filled[-1] + 1] if filled else []


def _comment_out(lines: Iterable[str], mark: str) -> str:
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in lines)


def _render_code(lines: list[str], language: str, mark: str, *, is_databricks: bool) -> str:
    """The lines of a code cell, with those for the kernel as comments."""
    if _is_foreign(lines, is_databricks=is_databricks):
        return _comment_out(lines, mark)
    if language == "python":
        return "".join(f"{line}\n" for line in _comment_python_magics(lines))
    magic = _tables()["magics"].get(language)
    return "".join(f"{mark} {line}\n" if magic and magic.match(line) else f"{line}\n" for line in lines)


def _is_foreign(lines: list[str], *, is_databricks: bool) -> bool:
    """Whether a cell begins with a magic for a cell in another language, or for a file to be written."""
    first = next((line for line in lines if line.strip() and re.match(r"#(?!!)", line) is None), "")
    magic = CELL_MAGIC.match(first)
    if magic is None or magic[2].lower() not in _tables()["foreign"]:
        return False
    if magic[1] == "%":  # the magic of a line, but in Databricks of the cell
        return len(lines) > 1 and (is_databricks or not magic[3].strip())
    return not (magic[2] in {"writefile", "file"} and magic[3].rstrip().endswith(".py"))


def _comment_python_magics(lines: list[str]) -> Iterator[str]:
    """Lines of Python with magics as comments. In a block a `pass` stands before them, so that no block is empty."""
    quote, depth = "", 0  # the open triple quote, and the number of open brackets
    is_continued = is_magic = False
    for line in lines:
        text = line.lstrip()
        if not is_continued:
            is_magic = not quote and not depth and PYTHON_MAGIC.match(text) is not None
        if is_magic:
            indent = line[: len(line) - len(text)]
            yield f"{indent}pass  # {text}" if indent and not is_continued else f"{indent}# {text}"
            is_continued = line.rstrip().endswith("\\")
        else:
            yield line
            quote, depth, is_continued = _scan_python_line(line, quote, depth)


def _scan_python_line(line: str, quote: str, depth: int) -> tuple[str, int, bool]:
    """The triple quote and the brackets that are open after a line, and whether a backslash continues it.

    For `f("#", [1,  # x` with nothing open before it, that is ("", 2, False).
    """
    position = 0
    while True:
        if quote:
            end = next((match for match in _QUOTE_ENDS[quote].finditer(line, position) if match[1]), None)
            if end is None:
                return quote, depth, False
            quote, position = "", end.end()
        for match in _PYTHON_LEXEME.finditer(line, position):
            if match[1]:
                return "", depth, False
            if match[2]:
                quote, position = match[2], match.end()
                break
            depth = max(0, depth + bool(match[3]) - bool(match[4]))
        else:
            return "", depth, line.endswith("\\")
