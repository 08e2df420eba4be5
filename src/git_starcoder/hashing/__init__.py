"""Hashes of token and byte sequences, and the searches for equal and similar text that are built on them.

`arrays` and `rolling` are the basis: helpers for numpy arrays, and hash functions. `shingles` and `lines` turn texts
into hashes. `near_duplicates` finds texts that are copies of each other, `overlap` counts token runs that files share.
"""
