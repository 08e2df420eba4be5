"""Recognises licences by the beginning of their texts.

A licence is known by an SPDX identifier (https://spdx.org/licenses). The texts of the GNU licences do not say whether
later versions may be used, so they have the identifiers without `-only` and `-or-later`, as on GitHub.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

LICENCE_FILE = re.compile(r"(licen[cs]e|copying|unlicense)([-_.][\w.-]+)?", re.IGNORECASE)
"""The names of licence files in the root folder."""
PERMISSIVE_PHRASES = {
    "Apache-2.0": "Apache License Version 2.0, January 2004",
    "BSL-1.0": "Boost Software License - Version 1.0",
    "MIT": "Permission is hereby granted, free of charge, to any person obtaining a copy",
    "BSD-3-Clause": "Neither the name of",
    "BSD-2-Clause": "Redistributions in binary form must reproduce the above copyright notice",
    "ISC": "Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is "
    "hereby granted, provided that",
    "0BSD": "Permission to use, copy, modify, and/or distribute this software for any purpose",
    "Unlicense": "This is free and unencumbered software released into the public domain",
    "Zlib": "The origin of this software must not be misrepresented",
    "CC0-1.0": "CC0 1.0 Universal",
    "CC-BY-4.0": "Attribution 4.0 International",
    "PSF-2.0": "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2",
    "PostgreSQL": "Permission to use, copy, modify, and distribute this software and its documentation for any purpose",
    "Artistic-2.0": "The Artistic License 2.0",
    "WTFPL": "DO WHAT THE FUCK YOU WANT TO PUBLIC LICENSE",
    "BlueOak-1.0.0": "Blue Oak Model License",
    "MulanPSL-2.0": "Mulan Permissive Software License,Version 2",
}
"""A phrase near the beginning of each licence that asks for little more than to be named."""
COPYLEFT_PHRASES = {
    "MPL-2.0": "Mozilla Public License Version 2.0",
    "AGPL-3.0": "GNU AFFERO GENERAL PUBLIC LICENSE Version 3",
    "LGPL-3.0": "GNU LESSER GENERAL PUBLIC LICENSE Version 3",
    "LGPL-2.1": "GNU LESSER GENERAL PUBLIC LICENSE Version 2.1",
    "GPL-3.0": "GNU GENERAL PUBLIC LICENSE Version 3",
    "GPL-2.0": "GNU GENERAL PUBLIC LICENSE Version 2",
    "EPL-2.0": "Eclipse Public License - v 2.0",
    "EPL-1.0": "Eclipse Public License - v 1.0",
    "CC-BY-SA-4.0": "Attribution-ShareAlike 4.0 International",
    "EUPL-1.2": "EUROPEAN UNION PUBLIC LICENCE v. 1.2",
    "OFL-1.1": "SIL OPEN FONT LICENSE Version 1.1",
}
"""The same of licences that ask for their own terms to be kept."""
LICENCE_PHRASES = PERMISSIVE_PHRASES | COPYLEFT_PHRASES
"""All phrases. No licence has the phrase of one that stands before it."""
LICENCE_CHARACTERS = 2000
"""The beginning of a licence file that is searched for the phrases."""
TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([\w.+-]+)")
"""How a file says its licence itself; https://spdx.dev/learn/handling-license-info."""
UNKNOWN_LICENCE = "LicenseRef-unknown"
"""The identifier of a licence that is not recognised."""


def recognise_licence(text: str) -> str:
    """The SPDX identifier of a licence text, or `UNKNOWN_LICENCE`."""
    beginning = text[:LICENCE_CHARACTERS]
    if tag := TAG.search(beginning):
        return tag[1]
    words = " ".join(beginning.split()).lower()
    found = (identifier for identifier, phrase in LICENCE_PHRASES.items() if phrase.lower() in words)
    return next(found, UNKNOWN_LICENCE)


def licence_type(licences: Sequence[str]) -> str:
    """What The Stack v2 calls the type of a repository's licences: `permissive` or `no_license`.

    Others, which it does not contain, are `copyleft` or `unknown`.
    """
    if not licences:
        return "no_license"
    if all(licence in PERMISSIVE_PHRASES for licence in licences):
        return "permissive"
    return "copyleft" if any(licence in COPYLEFT_PHRASES for licence in licences) else "unknown"
