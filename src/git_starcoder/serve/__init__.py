"""Completes code while somebody types: an engine for editors, an HTTP server and a language server.

`engine.Engine` answers one question: what may stand at a cursor? `app` lets HTTP clients ask it, and `lsp` lets an
editor ask it over pipes.
"""
