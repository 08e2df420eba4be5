from __future__ import annotations

import pytest

from git_starcoder.text.licences import LICENCE_FILE, UNKNOWN_LICENCE, licence_type, recognise_licence

MIT = "MIT License\n\nCopyright (c) 2026 Ada\n\nPermission is hereby granted, free of charge, to any person\nobtaining a copy"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (MIT, "MIT"),
        ("   Apache License\n   Version 2.0, January 2004\n", "Apache-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007\n", "GPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n", "LGPL-3.0"),
        ("GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1, February 1999\n", "LGPL-2.1"),
        ("Boost Software License - Version 1.0 - August 17th, 2003\n\n" + MIT, "BSL-1.0"),
        ("// SPDX-License-Identifier: CDDL-1.0\n" + MIT, "CDDL-1.0"),
        ("All rights reserved. You may look at it.", UNKNOWN_LICENCE),
        ("", UNKNOWN_LICENCE),
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


@pytest.mark.parametrize(
    ("licences", "kind"),
    [
        ((), "no_license"),
        (("Apache-2.0", "MIT"), "permissive"),
        (("GPL-3.0", "MIT"), "copyleft"),
        (("MIT", UNKNOWN_LICENCE), "unknown"),
    ],
)
def test_the_type_of_licences(licences, kind):
    assert licence_type(licences) == kind
