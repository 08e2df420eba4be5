"""Names of encodings → Python's codecs for them: every name that Python, glibc or libiconv has, and those of editors.

Only encodings of text in which ASCII is ASCII (in ISO 2022 and HZ until an escape) are known. Python's table has others
that decompress, run long or change the text, and some, as UTF-16 and EBCDIC, in which nobody could have declared them.
"""

from __future__ import annotations

import re
from encodings.aliases import aliases
from functools import lru_cache

_CODECS = """
    ascii utf_8 latin_1 big5 big5hkscs cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz
    iso2022_jp iso2022_jp_1 iso2022_jp_2 iso2022_jp_2004 iso2022_jp_3 iso2022_jp_ext iso2022_kr johab shift_jis
    shift_jis_2004 shift_jisx0213 hp_roman8 koi8_r koi8_t koi8_u kz1048 palmos ptcp154 tis_620
    cp437 cp720 cp737 cp775 cp850 cp852 cp855 cp856 cp857 cp858 cp860 cp861 cp862 cp863 cp864 cp865 cp866 cp869 cp874
    cp1006 cp1125 cp1250 cp1251 cp1252 cp1253 cp1254 cp1255 cp1256 cp1257 cp1258
    iso8859_2 iso8859_3 iso8859_4 iso8859_5 iso8859_6 iso8859_7 iso8859_8 iso8859_9 iso8859_10 iso8859_11 iso8859_13
    iso8859_14 iso8859_15 iso8859_16
    mac_arabic mac_croatian mac_cyrillic mac_farsi mac_greek mac_iceland mac_latin2 mac_roman mac_romanian mac_turkish
"""
CODECS = frozenset(_CODECS.split())
MORE = {
    "ascii": "ansix34 osf00010020",
    "big5": "bigfive chinesebig5 cnbig5",
    "big5hkscs": "big5hkscs1999 big5hkscs2001 big5hkscs2004 big5hkscs2008",
    "cp1125": "ibm848",
    "cp1250": "msee",
    "cp1251": "cp5347 mscyrl",
    "cp1252": "ansinew cp1004 ibm1004 msansi os2latin1",
    "cp1253": "msgreek",
    "cp1254": "msturk",
    "cp1255": "mshebr",
    "cp1256": "cp9448 msarab",
    "cp1257": "winbaltrim",
    "cp437": "osf100201b5",
    "cp850": "osf10020352",
    "cp852": "osf10020354",
    "cp855": "osf10020357",
    "cp857": "osf10020359",
    "cp858": "pc858multilingual",
    "cp861": "cpibm861 osf1002035d",
    "cp862": "osf1002035e",
    "cp863": "osf1002035f",
    "cp864": "osf10020360",
    "cp866": "cyrillicalternativnyj",
    "cp869": "osf10020365",
    "cp874": "874",
    "cp932": "cp943 cp943c cp31j mscp932 sjisopen sjiswin windows31j",
    "cp949": "ks949 osf100203b5",
    "euc_jp": "cp51932 eucjapan eucjapan1990 eucjpms eucjpopen eucjpwin eucpkdfmtjapanese japaneseiso8bit osf00030010"
    " extendedunixcodepackedformatforjapanese",
    "euc_kr": "cseuckr euckorea koreaniso8bit osf0004000a",
    "gb18030": "chinesegb18030 cp54936 gb180302005",
    "gb2312": "chineseiso8bit cngb cngb2312",
    "gbk": "chinesegbk cp1386 gb13000",
    "hp_roman8": "osf10010001",
    "iso2022_jp": "cp50220 cp50221 cp50222 iso2022jpms junet",
    "iso8859_10": "isolatin6 osf0001000a",
    "iso8859_11": "hpthai8 thai8",
    "iso8859_13": "baltic cp921 isoir179 isolatin7",
    "iso8859_14": "isolatin8",
    "iso8859_15": "isoir203 isolatin9 latin0",
    "iso8859_16": "isolatin10",
    "iso8859_2": "88592 cp912 isolatin2 osf00010002",
    "iso8859_3": "88593 isolatin3 osf00010003",
    "iso8859_4": "88594 isolatin4 osf00010004",
    "iso8859_5": "88595 cp915 iso153gost1976874 cyrilliciso8bit gost19768 gost1976874 isoir153 osf00010005 stsev35888",
    "iso8859_6": "88596 cp1089 osf00010006",
    "iso8859_7": "88597 cp813 greekiso8bit osf00010007",
    "iso8859_8": "88598 cp916 hebrewiso8bit iso88598e iso88598i osf00010008",
    "iso8859_9": "88599 cp920 ecma128 isolatin5 osf00010009 ts5881",
    "johab": "cp1361",
    "koi8_r": "cp20866 cyrillickoi8",
    "koi8_u": "cp21866",
    "latin_1": "88591 isolatin isolatin1 osf00010001",
    "mac_cyrillic": "cp10007 macuk macukrainian msmaccyrillic",
    "mac_greek": "cp10006",
    "mac_iceland": "cp10079",
    "mac_latin2": "cp10029 cp1282 macce macintoshce maccentraleurope",
    "mac_roman": "applemac cp10000 mac",
    "mac_turkish": "cp10081",
    "shift_jis": "japaneseshiftjis",
    "tis_620": "tis62025330",
    "utf_8": "iso10646utf8 muleutf8 osf05010001 preferutf8 unicode11utf8 utf8mac utf8mb3 utf8mb4 utf8sig",
}
"""Names that Python does not have. Those that glibc has were compared with the codec, byte by byte."""
WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "shift_jis": "cp932", "big5": "cp950"}
"""What programs write that say the first: the same characters and more."""
_NUMBERED = re.compile(r"(?:cp|ibm|windows|win|ms|mscp|microsoftcp|dos|ccsid|ansi)(\d{3,5})")
_YEAR = re.compile(r":(?:19|20)\d\d$")


def _plain(name: str) -> str:
    """A name as Python and iconv compare it: letters and digits."""
    return re.sub(r"[^0-9a-z]", "", name.lower())


_BY_NAME = {
    **{_plain(alias): codec for alias, codec in aliases.items() if codec in CODECS},
    **{_plain(codec): codec for codec in CODECS},
    **{name: codec for codec, names in MORE.items() for name in names.split()},
}


@lru_cache(256)
def codec_of(name: str) -> str:
    """Python's codec for the name of an encoding, or "" where there is none that is safe.

    What iconv and Emacs allow behind a name is passed over: `//TRANSLIT`, `-unix`.
    """
    name = name.strip(" \t\"'").partition("//")[0]
    for spelling in (name, _YEAR.sub("", name), re.sub(r"-(?:unix|dos|mac)$", "", name, flags=re.IGNORECASE)):
        plain = _plain(spelling)
        for known in (plain, plain.removeprefix("x"), plain.removeprefix("cs")):
            numbered = _NUMBERED.fullmatch(known)
            if codec := _BY_NAME.get(known) or (_BY_NAME.get(f"cp{numbered[1]}") if numbered else None):
                return codec
    return ""
