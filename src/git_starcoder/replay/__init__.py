"""Replays later commits: types their added lines as a person would, and counts what suggestions would have saved.

`typed_text` reads the lines of later commits, `person` has the rules of typing and accepting, `suggesters` are asked,
`edit_metrics` compares a suggestion with what was written, and `replay` runs it all and makes the table.
"""
