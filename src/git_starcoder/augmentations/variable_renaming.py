"""Renames local variables in ways that cannot change meaning (whole files, scope-aware, checked).

Every safe name of every function (`parse.scope`) gets a natural name that stands nowhere in the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from git_starcoder.augmentations import NOTHING, Variant
from git_starcoder.parse.renaming import find_local_names, rename_error, rename_local_names, reserved_words

if TYPE_CHECKING:
    from random import Random

    from git_starcoder.parse.tree import Code

NEEDS = "tree"
TABLES = ("rename",)

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
FIRST = b"""
    actual active any base best big child clean common current dark deep extra far fast final first fixed free full
    given good green half high inner known large last late left light local long low main major mean minor mixed near
    new next old open other outer own past plain prior quick raw ready real red right safe second sharp short simple
    single slow small soft some spare start still sub temp that third this tiny top total true valid whole wide
""".split()


def vary(code: Code, random: Random) -> Variant | str:
    """The file with its safe names replaced."""
    functions = find_local_names(code).functions
    if not functions:
        return NOTHING
    fresh = _Names(code, random)
    names = [dict(zip(one.safe_names, fresh.take(len(one.safe_names)), strict=False)) for one in functions]
    return Variant(rename_local_names(code, names))


class _Names:
    """Words that a file does not have."""

    def __init__(self, code: Code, random: Random) -> None:
        if code.language is None:
            raise ValueError("renaming needs a tree")
        self._random = random
        self._taken = find_local_names(code).words | reserved_words(code.language.key)
        self._nouns = [noun for noun in NOUNS if noun not in self._taken]
        self._snake = code.language.table["rename"]["style"] == "snake"

    def take(self, count: int) -> list[bytes]:
        """So many different words, or fewer where they run out: of one part as long as there are any, then of two."""
        words = self._random.sample(self._nouns, min(count, len(self._nouns)))
        seen = {*words, *self._taken}
        for _ in range(16 * (count - len(words))):
            one, two = self._random.choice(FIRST), self._random.choice(NOUNS)
            word = b"%s_%s" % (one, two) if self._snake else one + two.title()
            if len(words) < count and word not in seen:
                seen.add(word)
                words.append(word)
        return words


def verify(before: Code, variant: Variant, after: Code) -> str:
    """Alpha-equivalence: nothing but safe names differs, and each has one new name, its own, everywhere."""
    return "another text was parsed" if variant.text != after.data else rename_error(before, after)
