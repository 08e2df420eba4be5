"""A Jupyter notebook → its code and Markdown as text in the notebook's language, and counts of what is left out.

The layout is Jupytext's percent format, which Spyder, VS Code and PyCharm read, too: code cells as they are behind a
line `# %%`; Markdown and raw cells as comments behind `# %% [markdown]` and `# %% [raw]`. Lines for the kernel
(`%matplotlib`, `!pip install`, `name?`) are comments, and so are whole cells in another language (`%%bash`), so that
the text parses. A notebook that is not in Python begins with Jupytext's header, which says its language.

Outputs, pictures, attachments, counts of executions and the state of widgets are never part of the text.

Whether a file is a notebook follows from its content alone, and so does its text: nobody who has a blob needs its path.
The work is linear in the size of the file, and what is left out is passed over without being built.
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
SUFFIX = ".ipynb"
LARGEST = 32 << 20
"""Bytes of the largest notebook that is looked at. Pictures are most of it, so no limit for texts would do."""
DEEPEST = 100
"""Brackets within one another. The parser would go deeper, but on some machines less deep than on others."""
HEAD = 4_096
"""Bytes in which a JSON object must begin."""
MOST_URI = 128
"""Characters of the smallest picture in a text that is left out."""

KINDS = frozenset(["code", "markdown", "raw", "heading", "html"])
ROOM = 16
"""Bytes that a line may get before it."""

STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""Or, where its end is missing, all to the end of the file, so that nothing is scanned twice."""
STRING_OR_NUMBER = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|-?\b(?:NaN|Infinity)\b', re.DOTALL)
ESCAPED = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}|\\.")
SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
PICTURE = re.compile(rb'"(?:image/[\w.+-]{1,60}|png|jpeg|svg)"\s{0,8}:')
OUTPUT = re.compile(rb'"output_type"\s{0,8}:')
WIDGET = re.compile(rb'"model_name"\s{0,8}:')
URI = re.compile(rf"(data:[\w.+-]{{1,60}}/[\w.+-]{{1,60}}(?:;[\w=.+-]{{1,60}}){{0,4}};base64,)[\w+/=%-]{{{MOST_URI},}}")

LEXEME = re.compile(r"""(#.*)|(\"{3}|'{3})|"(?:[^"\\]|\\.)*+"?|'(?:[^'\\]|\\.)*+'?|([(\[{])|([)\]}])|\\.""")
"""Of a line of Python: a comment, the beginning of a long string, short strings, brackets."""
CLOSED = {'"""': re.compile(r'\\.|(""")'), "'''": re.compile(r"\\.|(''')")}
PYTHON_MAGIC = re.compile(
    r"%{1,3}[A-Za-z_]|[!?]|[\w.%*\[\]-]{1,200}\?{1,2}\s{0,8};?$"  # %matplotlib inline, !ls, ?name, name?
    r"|[\w.,\s()\[\]*:|]{1,200}=\s{0,8}(?:!|%[A-Za-z])"  # files = !ls
    r"|(?:cat|cd|cp|mv|rm|rmdir|mkdir|copy|ddir|echo|ls|ldir|ren)(?:\s{0,8}$|\s[^=,])"
    r"|(?:pip3?|conda|mamba)\s{1,8}(?:install|uninstall|list|show|freeze|config|update|upgrade)\b"
)
CELL_MAGIC = re.compile(r"(%{1,3}|#!)([A-Za-z_]\w{0,60}|!)(.{0,200})")


NOTHING = msgspec.Raw()
"""A key that is missing."""


class Text(NamedTuple):
    """What a notebook says."""

    utf8: bytes
    skipped: Counter[str]
    """One `notebooks`, and what is left out: `notebook_outputs`, `…_images`, `…_attachments`, `…_execution_counts`,
    `…_widgets` and `…_long_cells`. Names of figures of the manifest."""


class Cell(msgspec.Struct):
    """A cell of nbformat 4, or of 2 and 3, where code is `input`."""

    cell_type: msgspec.Raw
    source: msgspec.Raw = NOTHING
    input: msgspec.Raw = NOTHING
    level: msgspec.Raw = NOTHING
    language: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING
    outputs: msgspec.Raw = NOTHING
    attachments: msgspec.Raw = NOTHING
    execution_count: msgspec.Raw = NOTHING
    prompt_number: msgspec.Raw = NOTHING


class Sheet(msgspec.Struct):
    """A worksheet of nbformat 2 and 3."""

    cells: list[Cell] = []


class Notebook(msgspec.Struct):
    """What is looked at in a notebook."""

    cells: list[Cell] | None = None
    worksheets: list[Sheet] | None = None
    nbformat: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING


class Named(msgspec.Struct):
    """What calls itself by a name or by a language."""

    name: Any = None
    language: Any = None
    languageId: Any = None  # noqa: N815 - VS Code's
    kernelName: Any = None  # noqa: N815 - Polyglot's


class Metadata(msgspec.Struct):
    """What says the language, of a notebook or of a cell."""

    kernelspec: Named | None = None
    language_info: Named | None = None
    vscode: Named | None = None
    dotnet_interactive: Named | None = None
    polyglot_notebook: Named | None = None
    databricks: Named | None = msgspec.field(default=None, name="application/vnd.databricks.v1+notebook")
    kernel: Any = None
    widgets: msgspec.Raw = NOTHING


def is_named_so(path: str) -> bool:
    """Whether a path has the name of a notebook."""
    return path.lower().endswith(SUFFIX)


def may_be(data: bytes) -> bool:
    """Whether the content of a file begins as a JSON object does, in any encoding."""
    return data[:HEAD].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"{")


def text_of(utf8: bytes, longest: int) -> Text | None:
    """The text of a notebook; None where the content is no notebook. Cells with a line above `longest` are left out."""
    if b'"cells"' not in utf8 and b'"worksheets"' not in utf8:
        return None
    found = _read(utf8, Notebook) if _depth(utf8) <= DEEPEST else None
    if found is None or (found.cells is None and found.worksheets is None):
        return None
    cells = [*(found.cells or ()), *(cell for sheet in found.worksheets or () for cell in sheet.cells)]
    if not found.nbformat and not any(_string(cell.cell_type) in KINDS for cell in cells):
        return None
    metadata = _metadata(found.metadata)
    language = _language(metadata, cells)
    mark = _comment(language)
    skipped: Counter[str] = Counter()
    parts: list[str] = []
    for cell in cells:
        parts += _cell(cell, language, mark, longest, skipped, databricks=metadata.databricks is not None)
    if metadata.widgets:
        skipped["widgets"] += len(WIDGET.findall(metadata.widgets))
    if parts and language != "python":
        parts.insert(0, "".join(f"{mark} {line}\n" for line in _header(language)))
    counts = Counter({"notebooks": 1, **{f"notebook_{kind}": count for kind, count in skipped.items() if count}})
    return Text("\n".join(parts).encode(), counts)


def _depth(data: bytes) -> int:
    """How many brackets stand within one another, at most."""
    brackets = STRING.sub(b"", data).translate(None, bytes(set(range(256)) - set(b"[]{}")))
    steps = np.frombuffer(brackets, dtype=np.uint8)
    opens = (steps == ord("[")) | (steps == ord("{"))
    return int(np.cumsum(np.where(opens, 1, -1), dtype=np.int32).max(initial=0))


def _read(data: bytes, kind: type[T]) -> T | None:
    """JSON as Jupyter writes it: also with `NaN`, and with halves of characters."""
    decoder = msgspec.json.Decoder(kind)
    for attempt in (data, None):
        try:
            return decoder.decode(attempt if attempt is not None else _mended(data))
        except msgspec.ValidationError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            continue
    return None


def _mended(data: bytes) -> bytes:
    """The same without what Python's parser takes and JSON does not have."""
    if b"NaN" in data or b"Infinity" in data:
        data = STRING_OR_NUMBER.sub(lambda found: found[0] if found[0].startswith(b'"') else b"null", data)
    if SURROGATE.search(data):
        data = ESCAPED.sub(_mended_escape, data)
    return data


def _mended_escape(found: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if len(found[0]) == len(rb"\ud800") else found[0]


def _metadata(raw: msgspec.Raw) -> Metadata:
    return (_read(bytes(raw), Metadata) if raw else None) or Metadata()


def _language(metadata: Metadata, cells: Iterable[Cell]) -> str:
    """The notebook's language, a key of our shelf where it is one of those; Python if nothing says another."""
    kernel, info = metadata.kernelspec or Named(), metadata.language_info or Named()
    bricks = metadata.databricks or Named()
    for said in (bricks.language, kernel.language, info.name, kernel.name):
        if (name := _name(said)) and name != "polyglot-notebook":
            return name
    for cell in cells:
        if name := _name(_string(cell.language)):
            return name
    return "python"


def _name(said: object) -> str:
    """A language by any of its names, or "" where nothing is said."""
    name = said.strip().lower()[:40] if isinstance(said, str) else ""
    for pattern, language in _table()["names"]:
        if pattern.fullmatch(name):
            return language
    return re.sub(r"[^a-z0-9+#._-]+", "-", name)


def _comment(language: str) -> str:
    return _table()["comments"].get(language, "#")


@cache
def _table() -> dict[str, Any]:
    table = tomllib.loads((files("git_starcoder.text") / "notebook.toml").read_text(encoding="utf-8"))
    return {
        "names": [(re.compile(pattern), language) for pattern, language in table["names"].items()],
        "comments": {name: mark for mark, names in table["comments"].items() for name in names.split()},
        "magics": {language: re.compile(pattern) for language, pattern in table["magics"].items()},
        "foreign": frozenset(table["foreign"]["words"].lower().split()),
    }


def _header(language: str) -> list[str]:
    return ["---", "jupyter:", "  kernelspec:", f"    language: {language}", "---"]


def _cell(
    cell: Cell, language: str, mark: str, longest: int, skipped: Counter[str], *, databricks: bool
) -> Iterator[str]:
    """The text of a cell, with the line before it; nothing for an empty one."""
    _count(cell, skipped)
    kind = _string(cell.cell_type)
    lines = _lines(cell, skipped)
    if any(len(line.encode()) > longest - ROOM for line in lines):
        skipped["long_cells"] += 1
    elif not lines:
        return
    elif kind == "code":
        own = _own_language(cell)
        if own and own != language:
            yield f'{mark} %% language="{own}"\n{_commented(lines, mark)}'
        else:
            yield f"{mark} %%\n" + "".join(f"{line}\n" for line in _code(lines, language, mark, databricks=databricks))
    else:
        if kind == "heading":
            level = _string(cell.level)
            lines = [f"{'#' * (int(level) if level in set('123456') else 1)} {line}" for line in lines]
        yield f"{mark} %% [{'markdown' if kind in {'markdown', 'heading'} else 'raw'}]\n{_commented(lines, mark)}"


def _count(cell: Cell, skipped: Counter[str]) -> None:
    """What a cell has besides its source."""
    for raw in (cell.outputs, cell.attachments):
        skipped["images"] += len(PICTURE.findall(raw))
    skipped["outputs"] += len(OUTPUT.findall(cell.outputs))
    if cell.attachments:
        skipped["attachments"] += len(_read(bytes(cell.attachments), dict[str, msgspec.Raw]) or ())
    skipped["execution_counts"] += bytes(cell.execution_count or cell.prompt_number) not in {b"", b"null"}


def _lines(cell: Cell, skipped: Counter[str]) -> list[str]:
    """The lines of a cell, without those at its ends that are blank, and without pictures that are spelled out."""
    raw = cell.source or cell.input
    said = _read(bytes(raw), cast("Any", str | list[Any])) if raw else ""
    text = said if isinstance(said, str) else "".join(part for part in said or () if isinstance(part, str))
    text, pictures = URI.subn(r"\1", text)
    skipped["images"] += pictures
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    blank = next((at for at, line in enumerate(lines) if line.strip()), 0)
    return lines[blank:]


def _own_language(cell: Cell) -> str:
    """The language that a cell says it is in, or ""."""
    metadata = _metadata(cell.metadata)
    dotnet, polyglot, editor = (
        one or Named() for one in (metadata.dotnet_interactive, metadata.polyglot_notebook, metadata.vscode)
    )
    said = (dotnet.language, polyglot.kernelName, editor.languageId, metadata.kernel)
    return next((name for name in map(_name, said) if name), "")


def _commented(lines: Iterable[str], mark: str) -> str:
    return "".join(f"{mark} {line}".rstrip() + "\n" for line in lines)


def _code(lines: list[str], language: str, mark: str, *, databricks: bool) -> Iterator[str]:
    """The lines of a code cell, those for the kernel as comments."""
    if _is_foreign(lines, databricks=databricks):
        yield from _commented(lines, mark).split("\n")[:-1]
    elif language == "python":
        yield from _python(lines)
    else:
        magic = _table()["magics"].get(language)
        yield from (f"{mark} {line}" if magic and magic.match(line) else line for line in lines)


def _is_foreign(lines: list[str], *, databricks: bool) -> bool:
    """Whether a cell begins with a magic that says it is in another language, or a file to be written."""
    first = next((line for line in lines if line.strip() and re.match(r"#(?!!)", line) is None), "")
    magic = CELL_MAGIC.match(first)
    if magic is None or magic[2].lower() not in _table()["foreign"]:
        return False
    if magic[1] == "%":  # a line's magic, but for Databricks, where it is the cell's
        return len(lines) > 1 and (databricks or not magic[3].strip())
    return not (magic[2] in {"writefile", "file"} and magic[3].rstrip().endswith(".py"))


def _python(lines: list[str]) -> Iterator[str]:
    """Lines of Python, magics as comments. Inside a block they stand behind a `pass`, so that none is empty."""
    quote, depth = "", 0
    joined = magic = False
    for line in lines:
        text = line.lstrip()
        if not joined:
            magic = not quote and not depth and PYTHON_MAGIC.match(text) is not None
        if magic:
            indent = line[: len(line) - len(text)]
            yield f"{indent}pass  # {text}" if indent and not joined else f"{indent}# {text}"
            joined = line.rstrip().endswith("\\")
        else:
            yield line
            quote, depth, joined = _after(line, quote, depth)


def _after(line: str, quote: str, depth: int) -> tuple[str, int, bool]:
    """The long string and the brackets that are open behind a line, and whether the next line belongs to it."""
    at = 0
    while True:
        if quote:
            end = next((found for found in CLOSED[quote].finditer(line, at) if found[1]), None)
            if end is None:
                return quote, depth, False
            quote, at = "", end.end()
        for found in LEXEME.finditer(line, at):
            if found[1]:
                return "", depth, False
            if found[2]:
                quote, at = found[2], found.end()
                break
            depth = max(0, depth + bool(found[3]) - bool(found[4]))
        else:
            return "", depth, line.endswith("\\")


def _string(raw: msgspec.Raw) -> str:
    """A text, or a number as one; "" for anything else."""
    said = _read(bytes(raw), cast("Any", str | int | None)) if raw else None
    return "" if said is None else str(said)
