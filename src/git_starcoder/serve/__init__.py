"""Completes code while somebody types: an engine for editors, and an HTTP server around it.

`engine.Engine` answers one question: what may stand at a cursor? `app` lets HTTP clients ask it. The engine needs no
HTTP, so a language server can use it as well.
"""
