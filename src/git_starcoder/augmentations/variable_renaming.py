"""Renames local variables to plausible new names (whole files, scope-aware, verified).

Every name of a function that is safe to rename (`parse.renaming`) becomes a plausible name that occurs nowhere in the
file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING_TO_CHANGE, Variant
from git_starcoder.parse.renaming import find_local_names, rename_error, rename_local_names, reserved_words

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("rename",)

ATTEMPTS_PER_NAME = 16
"""How often a name of two words is drawn, for each name that is still missing, before names count as used up."""
NOUNS = b"""
    account action address amount anchor answer area argument array aspect attribute axis backup balance band base
    batch beacon bin bit block board body border bottom bound box branch bridge bucket budget buffer bundle button
    byte cache call candidate capture card case cell center chain change channel chapter chart check child choice
    chunk circle claim class cluster code column command comment condition config content context control corner count
    counter cover credit current cursor curve data date day deal default degree delta depth detail device digest digit
    direction distance document draft edge effect element end engine entry epoch error event example expected extent
    factor failure feature feed field figure file filter flag flow folder force form format fraction fragment frame
    front gap gate goal grade graph grid group guard guess half handle handler head header height history holder hour
    image impact info inner input instance interval item job joint journal key kind label lane layer layout leaf left
    length level limit line link list load lock log loop lower map margin mark mask match matrix measure member memory
    message meter method middle minute mode model moment month mount name needle network node note notice number object
    offset operand option order origin other outer output owner packet page pair panel parcel parent part partner
    pattern payload peak period phase piece pivot place plan plane point pool port position power prefix price primary
    process product profile progress prompt property quantity query question queue quota radius range rank rate ratio
    reason record reference region remainder reply report request reserve resource response rest result reward right
    role root round route row rule sample scale scene scheme scope score second section seed segment selection sender
    sequence series session setting shape share sheet shift side sign site size slice slot smallest source space span
    speed stage stamp start state status step stock store stream string style subject suffix sum summary supply
    surface switch symbol table tail target task team term test text thread tick tile title token tool topic total
    track trail trait transfer tree trigger triple tuple turn unit update upper usage user value vector version view
    volume wave week weight wheel width window word worker wrapper year zone
""".split()
ADJECTIVES = b"""
    actual active any base best big child clean common current dark deep extra far fast final first fixed free full
    given good green half high inner known large last late left light local long low main major mean minor mixed near
    new next old open other outer own past plain prior quick raw ready real red right safe second sharp short simple
    single slow small soft some spare start still sub temp that third this tiny top total true valid whole wide
""".split()


class NameStyle:
    """The spelling of new names in a file, and the words that they must not be."""

    def __init__(self, code: Code) -> None:
        if code.language is None:
            raise ValueError("renaming needs a tree")
        self.taken = find_local_names(code).words | reserved_words(code.language.key)
        """Every word of the file and every reserved word of its language."""
        self._is_snake_case = code.language.table["rename"]["style"] == "snake"

    def join(self, words: Sequence[bytes]) -> bytes:
        """A name made of lower-case words: `max_size` or `maxSize`."""
        return b"_".join(words) if self._is_snake_case else words[0] + b"".join(map(bytes.title, words[1:]))


def vary(code: Code, random: Random) -> Variant | str:
    """The file with new names for everything that is safe to rename."""
    functions = find_local_names(code).functions
    if not functions:
        return NOTHING_TO_CHANGE
    style = NameStyle(code)
    free_nouns = [noun for noun in NOUNS if noun not in style.taken]
    new_names = [
        dict(zip(function.safe_names, _draw_names(style, free_nouns, len(function.safe_names), random), strict=False))
        for function in functions
    ]
    return Variant(rename_local_names(code, new_names))


def _draw_names(style: NameStyle, free_nouns: list[bytes], count: int, random: Random) -> list[bytes]:
    """Up to `count` different names: single nouns as long as there are any, then an adjective and a noun."""
    names = random.sample(free_nouns, min(count, len(free_nouns)))
    seen = {*names, *style.taken}
    for _ in range(ATTEMPTS_PER_NAME * (count - len(names))):
        name = style.join((random.choice(ADJECTIVES), random.choice(NOUNS)))
        if len(names) < count and name not in seen:
            seen.add(name)
            names.append(name)
    return names


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Check alpha-equivalence: only safe names differ, and each has one new name, its own, everywhere."""
    return "another text was parsed" if variant.text != after.data else rename_error(before, after)
