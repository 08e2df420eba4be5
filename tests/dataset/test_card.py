from __future__ import annotations

import pytest

from git_starcoder.dataset.write_card import LICENCE_FILE, recognise_licence

MIT = "MIT License\n\nCopyright (c) 2026 Ada\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (MIT, "mit"),
        ("   Apache License\n   Version 2.0, January 2004\n", "apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007\n", "gpl-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n", "lgpl-3.0"),
        ("All rights reserved. You may look at it.", "other"),
        ("", "other"),
    ],
)
def test_a_licence_is_known_by_its_words(text, key):
    assert recognise_licence(text) == key


@pytest.mark.parametrize("name", ["LICENSE", "LICENCE.md", "LICENSE-MIT", "COPYING", "UNLICENSE", "license.txt"])
def test_names_of_licence_files(name):
    assert LICENCE_FILE.fullmatch(name)


@pytest.mark.parametrize("name", ["src/LICENSE", "licenses", "README.md", "license_check.py/x"])
def test_other_names(name):
    assert not LICENCE_FILE.fullmatch(name)
