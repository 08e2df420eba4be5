"""Vendored and generated files, as Linguist defines them and as we do, and what only looks like them."""

from __future__ import annotations

import re
import time
from importlib.resources import files

import pytest
import yaml

from git_starcoder.parse.language import detect_language
from git_starcoder.parse.role import RoleDecision, decide_role, file_role, foreign_role_filter
from git_starcoder.parse.vendored_or_generated import (
    documentation_reason,
    generated_reason,
    read_list,
    read_table,
    vendored_reason,
)
from git_starcoder.records import NO_DECLARED_ROLES, DeclaredRoles

FOLDER = files("git_starcoder.parse") / "vendored_or_generated"
OURS = read_table("ours.toml")
THEIRS = read_table("generated.toml")


@pytest.mark.parametrize("name", ["vendor.yml", "documentation.yml"])
def test_the_lists_are_read_as_yaml_reads_them(name):
    assert read_list(name) == yaml.safe_load((FOLDER / name).read_text())


def test_every_expression_compiles_alone_and_together():
    alone = [
        *read_list("vendor.yml"),
        *read_list("documentation.yml"),
        *THEIRS["paths"].values(),
    ]
    alone += [*OURS["vendored"], *OURS["generated"], *OURS["if_head"].values()]
    alone += [rule["pattern"] for rule in THEIRS["lines"].values()]
    for one in alone:
        re.compile(one)
    assert (
        vendored_reason("src/a.py", b"") == generated_reason("src/a.py", b"") == documentation_reason("src/a.py") == ""
    )


def test_where_we_differ_there_is_something_to_differ_from():
    assert (OURS["not_vendored"].keys() | OURS["if_head"].keys()) <= set(read_list("vendor.yml"))
    assert set(OURS["not_documentation"]) <= set(read_list("documentation.yml"))
    assert not OURS["not_vendored"].keys() & OURS["if_head"].keys()
    assert all(
        reason
        for table in ("not_vendored", "vendored", "generated", "not_documentation")
        for reason in OURS[table].values()
    )


def test_the_licence_and_the_commit_are_there():
    assert "Permission is hereby granted, free of charge" in (FOLDER / "LICENSE").read_text()
    [commit] = set(re.findall(r"\b[0-9a-f]{40}\b", (FOLDER / "README.md").read_text()))
    assert commit in (FOLDER / "generated.toml").read_text()


VENDORED = """venv/lib/python3.9/site-packages/requests/api.py .venv/bin/activate env/bin/activate venv/Scripts/pip.py
    .yarn/releases/yarn-3.2.0.cjs .yarn/cache/a.zip.txt external/zlib/inflate.c app/Externals/a.c src/extern/json.hpp third-party/a.c Third_Party/b.c
    3rdparty/c.h ThirdParty/d.h node_modules/a/b.js web/bower_components/x.css Pods/A/a.m ios/Pods/A/a.m Carthage/Checkouts/a.swift
    vendor/a/b.go app/vendors/b.php Godeps/_workspace/a.go deps/lua/lua.c config.guess build-aux/config.sub m4/libtool.m4
    gradle/wrapper/gradle-wrapper.properties .mvn/wrapper/a.java mvnw.cmd lib/x.egg-info/PKG-INFO __pypackages__/3.8/lib/a.py
    python/dist-packages/a.py static/jquery-3.6.0.slim.js static/jquery.fancybox.js js/tiny_mce/plugins/a.js docs/_build/html/a.html
    erlang.mk waf tools/cpplint.py venv-3.9/lib/python3.9/x.py .virtualenv/bin/pip env/pyvenv.cfg"""
NOT_VENDORED = """src/cache/lru.rs cache/redis.go src/env/mod.rs env/settings.py packages/api/src/env/index.ts .github/workflows/ci.yml
    .gitignore .gitattributes Jenkinsfile Vagrantfile .vscode/settings.json types/index.d.ts tests/fixtures/a.json spec/fixtures/b.yml
    testdata/c.txt debian/rules docs/_templates/page.html docs/static/site.css src/styles/_import.scss resources/js/bootstrap.js
    src/react-hooks.js src/angular-app.js app/effects.js src/controls.js components/Chart.js src/d3chart.js lib/prototype-chain.js
    css/animate.css js/foundation.js fabfile.py proguard-rules.pro configure src/vendoring.py internal/external.go src/venv.py
    .yarn/patches/a.patch src/dist/mod.rs R/inst/extdata/a.csv t/app/external/my.pl"""


@pytest.mark.parametrize("path", VENDORED.split())
def test_vendored_by_path(path):
    assert decide_role(path, detect_language(path), b"")[0] == "vendored"
    assert vendored_reason(path, b"")


@pytest.mark.parametrize("path", NOT_VENDORED.split())
def test_a_projects_own_files_have_their_roles(path):
    assert file_role(path, detect_language(path), b"x = 1\n") not in {"vendored", "generated"}


LIBRARIES = {
    "js/bootstrap.js": b"/*!\n  * Bootstrap v5.3.0 (https://getbootstrap.com/)\n",
    "js/effects.js": b"// script.aculo.us effects.js v1.9.0\n",
    "js/react.js": b"/** @license React v16.13.1\n",
    "js/angular-route.js": b"/**\n * @license AngularJS v1.8.2\n",
    "css/animate.css": b"@charset 'UTF-8';\n/*!\nAnimate.css - http://daneden.me/animate\n",
    "js/d3.js": b"// https://d3js.org v7.8.5 Copyright 2010-2023 Mike Bostock\n",
}


@pytest.mark.parametrize("path", LIBRARIES)
def test_libraries_with_common_names_are_known_by_their_heads(path):
    rule = decide_role(path, detect_language(path), LIBRARIES[path])
    assert (rule.role, "its head says so" in rule.reason) == ("vendored", True)
    assert file_role(path, detect_language(path), b"import a from 'b';\n") != "vendored"


GENERATED = {
    "Model.cs": "// <auto-generated/>\nclass A {}",
    "Model2.cs": "//------\n// <auto-generated>\n//     This code was generated by a tool.\n// </auto-generated>\n",
    "service.js": "//\n// Autogenerated by Thrift Compiler (0.13.0)\n//\n// DO NOT EDIT UNLESS YOU ARE SURE\n",
    "bindings.rs": "/* automatically generated by rust-bindgen 0.59.2 */\n",
    "Assets.swift": "// swiftlint:disable all\n// Generated using SwiftGen — https://github.com/SwiftGen/SwiftGen\n",
    "ExprLexer.js": "// Generated from Expr.g4 by ANTLR 4.9.2\n// jshint ignore: start\n",
    "ExprLexer.py": "# Generated from Expr.g4 by ANTLR 4.9.2\n",
    "fast.c": "/* Generated by Cython 0.29.21 */\n#include <Python.h>\n",
    "parse.c": "/* A Bison parser, made by GNU Bison 3.8.2.  */\n\n/* Bison implementation */\n",
    "scan.c": "/* A lexical scanner generated by flex */\n",
    "lex.yy.c": '\n#line 2 "lex.yy.c"\n\n#define  YY_INT_ALIGNED short int\n\n/* A lexical scanner generated by flex */\n',
    "moc_main.cpp": "/****\n** Meta object code from reading C++ file 'main.h'\n**\n",
    "ui_main.h": "/********\n** Form generated from reading UI file 'main.ui'\n**\n** Created by: Qt User Interface Compiler\n",
    "ui_main.py": "# -*- coding: utf-8 -*-\n\n# Form implementation generated from reading ui file 'main.ui'\n#\n",
    "configure": "#! /bin/sh\n# Guess values for system-dependent variables.\n# Generated by GNU Autoconf 2.69.\n",
    "Makefile.in": "# Makefile.in generated by automake 1.16.1 from Makefile.am.\n",
    "config.h.in": "/* config.h.in.  Generated from configure.ac by autoheader.  */\n",
    "hash.c": "/* ANSI-C code produced by gperf version 3.1 */\n",
    "wrap.cxx": "/* ----\n * This file was automatically generated by SWIG (http://www.swig.org).\n",
    "Api.java": "/*\n * Petstore\n *\n * NOTE: This class is auto generated by OpenAPI Generator (https://openapi-generator.tech).\n */\n",
    "R.java": "/* AUTO-GENERATED FILE.  DO NOT MODIFY.\n *\n * This class was automatically generated by the\n * aapt tool\n */\n",
    "core.py": "# AUTOGENERATED! DO NOT EDIT! File to edit: ../nbs/00_core.ipynb.\n\n__all__ = []\n",
    "requirements.txt": "#\n# This file is autogenerated by pip-compile with Python 3.11\n#\n",
    "schema.rb": "# This file is auto-generated from the current state of the database. Instead\n",
    "parser.rb": "#\n# DO NOT MODIFY!!!!\n# This file is automatically generated by Racc 1.4.5\n",
    "a.rs": "// This file is @generated by prost-build.\n",
    "grammar.rs": '// auto-generated: "lalrpop 0.19.9"\n// sha3: 1\n',
    "model.g.txt": "/* Generated file, do not edit */\n",
    "query.sql": "-- Code generated by sqlc. DO NOT EDIT.\n",
    "a.html": '<!DOCTYPE html>\n<html>\n<head>\n<meta content="groff 1.2" name="generator">\n',
    "b.html": "<html>\n<!-- Generated by Doxygen 1.9.1 -->\n",
    "toc.md": "<!-- Generated by doctoc -->\n# Title\n",
    "a.css": ".a{b:c}\n" + ".abc{color:red;margin:0}" * 20 + "\n",
    "b.css": ".a { b: c }\n/*# sourceMappingURL=b.css.map */\n",
    "c.js": "let a = 1;\n//# sourceMappingURL=c.js.map\n",
    "data.map": '{"version":3,"sources":[]}\n',
    "cassette.yml": "---\nhttp_interactions: []\nrecorded_with: VCR 6.0.0\n",
    "Tiles.meta": "fileFormatVersion: 2\nguid: 1\n",
    "x.go": "package x\n\n" + "// c\n" * 20 + '// Code generated by "stringer"; DO NOT EDIT.\n',
    "old.js": "(function() {\n  var _i, _len, _ref, __bind = 1;\n}).call(this);\n",
}  # fmt: skip


@pytest.mark.parametrize("path", GENERATED)
def test_generated_by_what_the_text_says(path):
    judged = decide_role(path, detect_language(path), GENERATED[path].encode())
    assert judged.role == "generated"
    assert judged.reason


OWN = {
    "a.py": "# Tables are built by tools/build.py; see there for how they are\n# generated from the sources.\nx = 1\n",
    "b.rs": "//! Reads code\n//! generated by other programs.\nfn main() {}\n",
    "c.py": '"""A report of what was generated by a build."""\n',
    "0001_initial.py": "# Generated by Django 4.2.1 on 2023-05-01 10:00\n\nfrom django.db import migrations\n",
    "settings.py": '"""\nDjango settings for x.\n\nGenerated by \'django-admin startproject\' using Django 4.2.\n"""\n',
    "d.go": "package x\n\nvar s = \"// Generated by x\"\n",
    "e.md": "# Generated code\n\nGenerated by hand. Do not edit what is generated.\n",
    "f.md": "## Generated and script maintained files: do not edit\n",
    "g.js": "// Tests for what is generated\nlet a = 1;\n",
    "h.css": ".a { color: red; }\n.b { margin: 0 auto; }\n",
    "i.xml": "<?xml version='1.0'?>\n<!-- Load sample data generated with Faker.js -->\n<a/>\n",
    "j.psd1": "#\n# Module manifest for module 'PSGet_A'\n#\n# Generated by: Ada\n#\n",
    "k.c": "/* The generator: emits code that is automatically generated from a grammar. */\nint a;\n",
    "configure": "#!/bin/sh\n# Looks for a compiler.\nset -e\n",
    "l.map": "# Codes of Latin-1\n1 2\n",
    "m.ipynb": "# %% [markdown]\n# # Generated by me, do not edit: generated\n\n# %%\nx = 1\n",
}  # fmt: skip


@pytest.mark.parametrize("path", OWN)
def test_what_only_talks_of_it_is_the_projects_own(path):
    assert file_role(path, detect_language(path, OWN[path].encode()), OWN[path].encode()) not in {
        "generated",
        "vendored",
    }


def test_what_the_repository_says_goes_first():
    assert decide_role("vendor/a.go", "go", b"", DeclaredRoles(vendored=False)) == RoleDecision("core")
    assert decide_role("src/a.go", "go", b"", DeclaredRoles(vendored=True)) == RoleDecision(
        "vendored", "linguist-vendored in .gitattributes"
    )
    assert decide_role("a.pb.go", "go", b"// @generated\n", DeclaredRoles(generated=False)).role == "core"
    assert decide_role("a.go", "go", b"", DeclaredRoles(generated=True)) == RoleDecision(
        "generated", "linguist-generated in .gitattributes"
    )
    assert decide_role("src/a.py", "python", b"", DeclaredRoles(documentation=True)).role == "docs"
    assert decide_role("docs/a.py", "python", b"", DeclaredRoles(documentation=False)).role == "core"
    assert decide_role("x/README.md", "text", b"", DeclaredRoles(documentation=False)).role != "docs"
    assert decide_role("target/a.rs", "rust", b"", DeclaredRoles(generated=False)).role == "core"


def test_documentation_as_linguist_has_it():
    for path in (
        "CITATION.cff",
        "Javadoc/a.html",
        "lib/documentation/conf.py",
        "Man/a.1",
        "CHANGE.log",
        "inst/doc/a.R",
    ):
        assert file_role(path, detect_language(path), b"") == "docs", path
    for path in ("examples/a.py", "src/documentation/gen.rs", "demo/a.js", "samples/a.c", "src/license.go"):
        assert file_role(path, detect_language(path), b"") != "docs", path


def test_paths_alone_say_which_changes_are_not_read():
    skip = foreign_role_filter(lambda path: DeclaredRoles(vendored=True) if path == "mine.py" else NO_DECLARED_ROLES)
    assert [skip(path) for path in ("vendor/a.c", "mine.py", "a.pb.go", "a.py")] == [
        "vendored",
        "vendored",
        "generated",
        "",
    ]


def test_hostile_paths_and_texts_cost_what_their_size_is():
    begin = time.process_time()
    for path in (
        "packages/" * 5_000 + "a.1",
        "a." * 50_000,
        "jquery" * 20_000 + ".js",
        "/".join(["yui"] * 9_000),
        "bootstrap." * 900,
    ):
        file_role(path, detect_language(path), b"")
    for text in (
        b"<!--" * 5_000,
        b"/*" * 3_000,
        b"// generated " * 400,
        b"%%Creator: " * 900,
        b"<meta " * 900,
        b"# " + b"auto " * 900,
        b"/* /" * 1_000,
    ):
        for suffix in (".js", ".ps", ".html", ".py", ".md", ".css", ".go", ".yy"):
            file_role(f"a{suffix}", "text", text * 10)
    assert time.process_time() - begin < 5
