"""Imports lead to the files that the language's own rules name, or nowhere."""

from __future__ import annotations

import pytest

from git_starcoder.parse.imports import MAX_IMPORTS_PER_FILE, MAX_TARGETS, extract_imports, resolve_imports
from git_starcoder.parse.language import PLAIN_TEXT, detect_language
from git_starcoder.parse.tree import parse, run_queries


def imports(path, text):
    key = detect_language(path)
    code = parse(text.encode(), key)
    return extract_imports(code, run_queries(code, "imports"))


def resolved(files):
    """For each file of a repository, what its imports come to."""
    found = {
        path: (detect_language(path), imports(path, text))
        for path, text in files.items()
        if detect_language(path) != PLAIN_TEXT
    }
    return resolve_imports(found, frozenset(files), lambda path: files[path].encode())


def edges(files):
    return {path: one.targets for path, one in resolved(files).items() if one.targets}


RUST = {
    "Cargo.toml": '[workspace]\nmembers = ["a", "b"]\n[workspace.dependencies]\nb-lib = { path = "b" }\n',
    "a/Cargo.toml": """\
[package]
name = "a-app"
[dependencies]
b-lib = { workspace = true }
other = { package = "c", path = "../c" }
rand = "0.8"
[target.'cfg(unix)'.dev-dependencies]
tester = { path = "../tester" }
[[bin]]
name = "odd"
path = "odd/start.rs"
""",
    "a/src/lib.rs": "pub mod net;\nmod util;\nmod gone;\n#[path = \"strange.rs\"]\nmod named;\nmod inline { pub mod deep; }\n",
    "a/src/main.rs": "use a_app::net::Peer;\nmod net;\n",
    "a/src/net/mod.rs": "mod peer;\npub use self::peer::Peer;\nuse super::util::{help, more::Thing};\n",
    "a/src/net/peer.rs": """\
use crate::{util as u, net::{self, Socket}, named::*};
use b_lib::codec::{Codec, self};
use other::X;
use rand::Rng;
use ::std::fmt;
use crate::gone::Lost;
mod tests { use super::*; use super::super::Socket; use crate::inline::deep::D; }
""",
    "a/src/util.rs": "pub mod more;\nuse more::Thing;\n",
    "a/src/util/more.rs": "// nothing\n",
    "a/src/strange.rs": "use b_lib::hidden::Item;\n",
    "a/src/inline/deep.rs": "use super::super::net;\n",
    "a/odd/start.rs": "mod part;\nuse crate::part::P;\n",
    "a/odd/part.rs": "use crate::part::P;\n",
    "a/tests/api.rs": "mod common;\nuse a_app::net;\nuse tester::run;\nuse common::help;\nextern crate b_lib;\n",
    "a/tests/common/mod.rs": "use crate::common::x;\n",
    "b/Cargo.toml": '[package]\nname = "b"\n[lib]\nname = "b_lib"\n',
    "b/src/lib.rs": "pub mod codec;\n#[cfg(unix)]\n#[path = \"u.rs\"]\nmod sys;\n#[cfg(windows)]\n#[path = \"w.rs\"]\nmod sys;\n",
    "b/src/codec.rs": "use crate::sys::call;\nuse a_app::net;\n",
    "b/src/u.rs": "use crate::codec::Codec;\n",
    "b/src/w.rs": "",
    "c/Cargo.toml": '[package]\nname = "c"\n[lib]\npath = "root.rs"\n',
    "c/root.rs": "",
    "tester/Cargo.toml": '[package]\nname = "tester"\nbuild = "gen/make.rs"\n[[test]]\nname = "t"\n',
    "tester/src/lib.rs": '#[cfg_attr(unix, path = "u.rs")]\nmod condition;\nmod twice;\nuse super::super::x;\n',
    "tester/gen/make.rs": "#[path = \"../build.rs\"]\nmod build;\nuse tester::run;\nuse build::x;\n",
    "tester/build.rs": "",
    "tester/src/twice.rs": "",
    "tester/src/twice/mod.rs": "",
    "rand/Cargo.toml": '[package]\nname = "rand"\n',
    "rand/src/lib.rs": "",
    "loose.rs": "mod net; use crate::net; use a_app::net;\n",
}  # fmt: skip


def test_rust():
    assert edges(RUST) == {
        "a/src/lib.rs": ("a/src/inline/deep.rs", "a/src/net/mod.rs", "a/src/strange.rs", "a/src/util.rs"),
        "a/src/main.rs": ("a/src/net/mod.rs",),
        "a/src/net/mod.rs": ("a/src/net/peer.rs", "a/src/util.rs", "a/src/util/more.rs"),
        "a/src/net/peer.rs": (
            "a/src/inline/deep.rs",
            "a/src/net/mod.rs",
            "a/src/strange.rs",
            "a/src/util.rs",
            "b/src/codec.rs",
            "c/root.rs",
        ),
        "a/src/util.rs": ("a/src/util/more.rs",),
        "a/src/strange.rs": ("b/src/lib.rs",),
        "a/src/inline/deep.rs": ("a/src/net/mod.rs",),
        "a/odd/start.rs": ("a/odd/part.rs",),
        "a/tests/api.rs": ("a/src/net/mod.rs", "a/tests/common/mod.rs", "b/src/lib.rs", "tester/src/lib.rs"),
        "tester/gen/make.rs": ("tester/build.rs", "tester/src/lib.rs"),
        "b/src/lib.rs": ("b/src/codec.rs", "b/src/u.rs", "b/src/w.rs"),
        "b/src/u.rs": ("b/src/codec.rs",),
    }


def test_rust_counts_what_is_not_sure_as_unresolved():
    found = resolved(RUST)
    assert found["tester/src/lib.rs"] == ((), 0, 2)  # two files for one module; above the root
    assert found["b/src/codec.rs"] == ((), 0, 2)  # one module of two files; a crate that is not taken
    assert found["a/src/lib.rs"].unresolved_count == 1  # no such file
    assert found["loose.rs"] == ((), 0, 3)  # in no package


@pytest.mark.parametrize(
    "manifest",
    ["not [ toml", "[package]\nname = 3\n", "package = []\n", "[package]\nname = 'b'\nlib = 3\n", "a = [" * 5_000,
     "a." * 100_000 + "b = 1", "[package]\nname='b'\n[dependencies]\nx = 1\ny = []\nz = {path = 7}\n[[bin]]\npath = '../../x'\n",
     "x = " + "9" * 5_000],
)  # fmt: skip
def test_rust_survives_any_manifest(manifest):
    files = {"Cargo.toml": manifest, "src/lib.rs": "mod a;\nuse crate::a::A;\nuse x::y;\n", "src/a.rs": ""}
    assert set(edges(files)) <= {"src/lib.rs"}


PYTHON = {
    "src/pkg/__init__.py": "from .core import run, Thing\nfrom . import (tools as t,  # why\n    sub)\n",
    "src/pkg/core.py": "import os, pkg.tools, logging\nfrom pkg.sub import deep, name\nfrom .. import climbs\n",
    "src/pkg/tools.py": "from .missing import x\nimport types\nimport numpy as np\n",
    "src/pkg/types.py": "",
    "src/pkg/sub/__init__.py": "from ..core import run\nfrom .deep import *\n",
    "src/pkg/sub/deep.py": "from pkg import core as c, __version__\n",
    "src/pkg/stub.pyi": "from .core import run\n",
    "tests/test_core.py": "from pkg.core import run\nimport helper\nimport logging\nfrom pkg import tools\n",
    "tests/helper.py": "",
    "examples/logging/__init__.py": "",
    "examples/deep/only/__init__.py": "import only.part\n",
    "examples/deep/only/part.py": "",
    "main.py": "import only\nimport twice\n",
    "x/twice/__init__.py": "",
    "y/twice/__init__.py": "",
    "demo/app/app/cli.py": "",
    "demo/app/app/parts/one.py": "from app.cli import run\nimport app.parts.two\nimport cli\n",
    "demo/app/app/parts/two.py": "import demo.app.app.cli\n",
}


def test_python():
    assert edges(PYTHON) == {
        "src/pkg/__init__.py": ("src/pkg/core.py", "src/pkg/sub/__init__.py", "src/pkg/tools.py"),
        "src/pkg/core.py": ("src/pkg/sub/__init__.py", "src/pkg/sub/deep.py", "src/pkg/tools.py"),
        "src/pkg/sub/__init__.py": ("src/pkg/core.py", "src/pkg/sub/deep.py"),
        "src/pkg/sub/deep.py": ("src/pkg/__init__.py", "src/pkg/core.py"),
        "src/pkg/stub.pyi": ("src/pkg/core.py",),
        "tests/test_core.py": ("src/pkg/core.py", "src/pkg/tools.py", "tests/helper.py"),
        "examples/deep/only/__init__.py": ("examples/deep/only/part.py",),
        "main.py": ("examples/deep/only/__init__.py",),
        "demo/app/app/parts/one.py": ("demo/app/app/cli.py", "demo/app/app/parts/two.py"),
        "demo/app/app/parts/two.py": ("demo/app/app/cli.py",),
    }


SCRIPT = {
    "src/app.ts": "import a from './a'; import b from './lib'; import c from './made.js'; import d from 'react';\n"
    "export * from '../up/b'; import e = require('./old'); import s from './style.css'; import t from './types';\n",
    "src/a.tsx": "import('./a'); import('../../climbs'); import x from './a.tsx';\n",
    "src/lib/index.ts": "const a = require('../a'); const n = require(name); other('./x'); import y from '.';\n",
    "src/made.ts": "",
    "src/old.js": "",
    "src/style.css": "",
    "src/types.d.ts": "",
    "up/b.mjs": "import z from './b';\n",
}


def test_javascript_and_typescript():
    assert edges(SCRIPT) == {
        "src/app.ts": (
            "src/a.tsx", "src/lib/index.ts", "src/made.ts", "src/old.js", "src/style.css", "src/types.d.ts", "up/b.mjs",
        ),
        "src/lib/index.ts": ("src/a.tsx",),
    }  # fmt: skip


PACKAGES = {
    "package.json": '{"name": "root", "devDependencies": {"@us/core": "workspace:^", "both": "*"}}',
    "core/package.json": '{"name": "@us/core", "main": "./lib/index.js"}',
    "core/src/index.ts": "import { kit } from 'kit';\n",
    "core/src/deep/part.ts": "",
    "core/test/all.js": "import { a } from '../lib/deep/part.js'; import lost from '../dist/none.js';\n",
    "kit/package.json": '{"name": "kit", "source": "start.mjs", "dependencies": {"@us/plain": "1"}}',
    "kit/start.mjs": "import core, { b } from '@us/core'; import x from '@us/core/lib/deep/part'; import y from 'both';\n",
    "kit/lib/built.js": "",
    "kit/src/built.js": "import plain from '@us/plain'; import self from 'kit'; import none from '@us/plain/none';\n",
    "kit/own.js": "import './lib/built.js'; import './dist/built.esm.js'; import fs from 'fs'; import scope from '@us';\n",
    "plain/package.json": '{"name": "@us/plain", "main": 7}',
    "plain/index.js": "",
    "one/package.json": '{"name": "both"}',
    "one/index.js": "",
    "two/package.json": '{"name": "both"}',
    "two/index.js": "",
}


def test_javascript_packages_of_the_repository():
    assert edges(PACKAGES) == {
        "core/test/all.js": ("core/src/deep/part.ts",),
        "kit/start.mjs": ("core/src/deep/part.ts", "core/src/index.ts"),
        "kit/src/built.js": ("kit/start.mjs", "plain/index.js"),
        "kit/own.js": ("kit/lib/built.js", "kit/src/built.js"),
    }  # `kit` is none of core's, and nobody can know which `both` is meant


@pytest.mark.parametrize(
    "manifest",
    ["not {", "[]", "[" * 5_000, '{"name": 3, "dependencies": []}', '{"name": "x", "main": "../../up", "dependencies": {"x": {}}}',
     '{"name": "x", "main": "' + "lib/" * 10_000 + '"}', '{"name": "x"}' + " " * 100_000],
)  # fmt: skip
def test_javascript_survives_any_manifest(manifest):
    files = {
        "package.json": manifest,
        "a.js": "import 'x'; import './b'; import '" + "lib/" * 10_000 + "';\n",
        "b.js": "",
    }
    assert edges(files) == {"a.js": ("b.js",)}


GO = {
    "go.mod": "// x\nmodule example.com/top/v2\n\ngo 1.22\n",
    "main.go": 'package main\nimport (\n"fmt"\nq "example.com/top/v2/a/b"\n_ "example.com/top/v2/none"\n)\n',
    "a/b/one.go": 'package b\nimport "example.com/top/v2"\nimport "example.com/inner/p"\n',
    "a/b/two.go": "package b\n",
    "a/b/two_test.go": 'package b\nimport "example.com/top/v2/a/b"\n',
    "inner/go.mod": 'module "example.com/inner"\n',
    "inner/p/p.go": "package p\n",
}


def test_go():
    assert edges(GO) == {
        "main.go": ("a/b/one.go", "a/b/two.go"),
        "a/b/one.go": ("inner/p/p.go", "main.go"),
        "a/b/two_test.go": ("a/b/one.go", "a/b/two.go"),
    }


JAVA = {
    "src/main/java/p/A.java": "package p;\nimport p.q.B;\nimport static p.q.C.make;\nimport java.util.List;\nclass A {}\n",
    "src/main/java/p/q/B.java": "package p.q;\nimport p.A.Inner;\nimport p.Twice;\nclass B {}\n",
    "src/main/java/p/q/C.java": "package p.q;\nimport p.q.*;\nclass C {}\n",
    "one/p/Twice.java": "package p;\n",
    "two/p/Twice.java": "package p;\n",
    "None.java": "import static p.A.*;\nclass None {}\n",
}


def test_java():
    assert edges(JAVA) == {
        "src/main/java/p/A.java": ("src/main/java/p/q/B.java", "src/main/java/p/q/C.java"),
        "src/main/java/p/q/B.java": ("src/main/java/p/A.java",),
        "src/main/java/p/q/C.java": ("src/main/java/p/q/B.java",),
        "None.java": ("src/main/java/p/A.java",),
    }


C = {
    "src/main.c": '#include "near.h"\n#include "lib/far.h"\n#include <lib/pub.h>\n#include <stdio.h>\n#include "../x.h"\n'
    '#include "only.h"\n#include "../../climbs.h"\n#include "many.h"\n#include MACRO\n',
    "src/near.h": '#include "near.h"\n',
    "lib/far.h": "",
    "include/lib/pub.h": "class K;\n",
    "stdio.h": "",
    "x.h": "",
    "deep/down/only.h": "",
    "one/many.h": "",
    "two/many.h": "",
    "app/k.cc": '#include "lib/pub.h"\n',
}


def test_c_and_cpp():
    assert edges(C) == {
        "src/main.c": ("deep/down/only.h", "include/lib/pub.h", "lib/far.h", "src/near.h", "x.h"),
        "app/k.cc": ("include/lib/pub.h",),
    }


def test_hostile_imports_stay_few_and_short():
    nested = "use " + "a::{" * 900 + "b" + "}" * 900 + ";\n"
    assert imports("x.rs", nested) == ()
    assert len(imports("x.rs", "mod m { use super::a; " * 300 + "}" * 300)) < 300
    assert (
        len(imports("x.py", "".join(f"import a{number}\n" for number in range(MAX_IMPORTS_PER_FILE + 5))))
        == MAX_IMPORTS_PER_FILE
    )


def test_packages_with_too_many_files_are_unresolved():
    small, large = ({f"{folder}/{number}.go": f"package {folder}\n" for number in range(count)} for folder, count in (("small", 600), ("large", MAX_TARGETS + 1)))  # fmt: skip
    other = {path.replace("small", "other"): text for path, text in small.items()}
    main = 'package main\nimport ("m/small"; "m/large"; "m/other")\n'
    files = {"go.mod": "module m\n", "main.go": main, **small, **large, **other}
    found = resolved(files)["main.go"]
    assert found.targets == tuple(sorted(small))
    assert (found.resolved_count, found.unresolved_count) == (1, 2)


def test_each_import_counts_once():
    assert imports("x.py", "import a\nimport a\n") == (("import", "a", ()),)


@pytest.mark.parametrize("files", [RUST, PYTHON, SCRIPT, PACKAGES, GO, JAVA, C], ids=lambda files: next(iter(files)))
def test_half_typed_imports_lead_nowhere(files):
    """Each run of one to three characters of a file is left out, and nothing fails."""
    for path, text in files.items():
        if detect_language(path) == PLAIN_TEXT:
            continue
        for start in range(0, len(text), 3):
            for length in (1, 2, 3):
                spoiled = text[:start] + text[start + length :]
                resolved({**files, path: spoiled})


@pytest.mark.parametrize(
    "text", ["use ::;", "use :: as x;", "use ::/*x*/;", "use {};", "use ::{self};", "mod ;", "extern crate ;"]
)
def test_rust_paths_without_a_name(text):
    files = {"Cargo.toml": '[package]\nname = "x"\n', "src/main.rs": f"{text}\nfn main() {{}}\n"}
    assert edges(files) == {}
