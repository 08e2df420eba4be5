"""Ways in which code is copied with something added to every line, and code to copy."""

from __future__ import annotations

import html
import json
import random

NAMES = [
    "amber",
    "basil",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "hazel",
    "iris",
    "jade",
    "kelp",
    "lotus",
    "maple",
    "north",
    "ocean",
    "pearl",
    "quartz",
    "river",
    "stone",
    "tulip",
    "umber",
    "velvet",
    "willow",
    "xenon",
    "yarrow",
    "zephyr",
]


def code(seed, functions=8):
    """A module like no other, with lines of ordinary length."""
    chance = random.Random(seed)

    def name():
        return "_".join(chance.sample(NAMES, 2))

    blocks = []
    for number in range(functions):
        total, limit = name(), name()
        blocks += [
            f"def {name()}_{seed}_{number}({limit}, {name()}):",
            f"    {total} = {chance.randint(2, 9999)}",
            f"    for {name()} in {limit}:",
            f"        if {name()} > {chance.randint(2, 9999)}:",
            f'            {total} += {name()}["{name()}"]',
            "        else:",
            f"            {total} -= {name()}",
            f"    return {total}",
            "",
        ]
    return "\n".join(blocks)


def _each(line):
    return lambda text: "\n".join(line(number, each) for number, each in enumerate(text.split("\n"), 1)) + "\n"


def _escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _span(text):
    """HTML with one tag for each word, as highlighters write it."""
    return " ".join(f'<span class="k">{html.escape(word)}</span>' for word in text.split(" "))


WRAPS = {
    "commented out with //": _each(lambda _, line: f"// {line}"),
    "commented out with #": _each(lambda _, line: f"# {line}"),
    "commented out with REM": _each(lambda _, line: f"REM {line}"),
    "one comment": lambda text: f"/*\n{text}\n*/\n",
    "patch": lambda text: f"--- /dev/null\n+++ b/new.py\n@@ -0,0 +1,{text.count(chr(10))} @@\n" + _each(lambda _, line: f"+{line}")(text),
    "quoted mail": _each(lambda _, line: f"> > {line}"),
    "numbered listing": _each(lambda number, line: f"{number:5d}  {line}"),
    "numbered with a bar": _each(lambda number, line: f"{number:5d} | {line}"),
    "grep -n": _each(lambda number, line: f"src/deep/module.py:{number}:{line}"),
    "git blame": _each(lambda number, line: f"4f2a91c0 (Ada Lovelace 2021-03-04 10:11:12 +0100 {number:3d}) {line}"),
    "JSON array of lines": lambda text: json.dumps(text.splitlines(keepends=True), indent=1),
    "JSON of a web server": lambda text: json.dumps(text).replace("<", "\\u003c").replace(">", "\\u003e").replace('"', "\\u0022"),
    "one JSON string": lambda text: json.dumps({"content": text}),
    "JSON inside JSON": lambda text: json.dumps(json.dumps({"lines": text.splitlines()})),
    "notebook": lambda text: json.dumps({"cells": [{"cell_type": "code", "source": text.splitlines(keepends=True)}]}, indent=1),
    "C string table": _each(lambda _, line: f'    "{_escaped(line)}\\n"'),
    "C array of strings": _each(lambda _, line: f'    "{_escaped(line)}",'),
    "echo in a script": _each(lambda _, line: f'echo "{_escaped(line)}" >> out.py'),
    "println": _each(lambda _, line: f'        out.println("{_escaped(line)}");'),
    "HTML with a tag per line": _each(lambda number, line: f'<span class="line" id="L{number}">{html.escape(line)}</span>'),
    "HTML table": _each(lambda number, line: f"<tr><td>{number}</td><td><code>{html.escape(line)}</code></td></tr>"),
    "HTML with a tag per word": _each(lambda _, line: _span(line)),
    "Markdown block": lambda text: "Some words first.\n\n" + _each(lambda _, line: f"    {line}")(text),
    "session": _each(lambda _, line: f">>> {line}"),
    "log": _each(lambda number, line: f"2024-01-02 03:04:{number % 60:02d} INFO {line}"),
    "CRLF and tabs": lambda text: text.replace("    ", "\t").replace("\n", " \t\n"),
}  # fmt: skip
