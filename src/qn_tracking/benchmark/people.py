"""Who is who: names that pretend to be others, and keys, which cannot.

A name is a claim. Two names are taken for one person's if they look alike, where that is the
careful answer, and only if they are the same where it is not.
"""

from __future__ import annotations

import re
import unicodedata

from qn_tracking.errors import printable

ACCOUNT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
LONGEST = 100

_BLANK = {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
"""Letters that show nothing, though Unicode does not call them invisible."""
_EAST_ASIA = {"CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "HANGUL", "IDEOGRAPHIC"}
"""Scripts that are written within one word."""
_ALIKE = str.maketrans(
    # Cyrillic and Greek small letters that look like Latin ones; capitals are folded before.
    "авекмнорстухіјѕԁԛԝһӏαβεηικνορτυχϲϳ",
    "abekmhopctyxijsdqwhlabenikvoptuxcj",
)


def folded(text: str) -> str:
    """A name without the differences that do not show: of case, of width, of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def skeleton(text: str) -> str:
    """What a name looks like: letters that look alike are the same, and accents are left out."""
    plain = unicodedata.normalize("NFKD", folded(text))
    bare = "".join(c for c in plain if not unicodedata.combining(c))
    return bare.translate(_ALIKE).replace("l", "i").replace("1", "i").replace("0", "o")


def name_problem(text: str, longest: int = LONGEST) -> str | None:
    """Why a text is not the name of a person; None if it is."""
    if not text.strip():
        return "is empty"
    if len(text) > longest:
        return f"longer than {longest}"
    if printable(text) != text or any(ord(c) in _BLANK for c in text):
        return "holds invisible characters"
    if any(unicodedata.category(c) in ("Co", "Cn", "Cs", "Zl", "Zp") for c in text):
        return "holds characters that have no name"
    for word in text.split():
        scripts = _scripts(word)
        # No letter of East Asia looks like a Latin one, and both are written side by side.
        if len(scripts) > 1 and scripts != {"CJK", "LATIN"}:
            return f"mixes scripts in one word: {' and '.join(sorted(scripts))}"
    return None


def account_problem(text: str) -> str | None:
    """Why a text is not the name of an account; None if it is."""
    return None if ACCOUNT.fullmatch(text) else "is no account name"


def _scripts(word: str) -> set[str]:
    """The scripts of the letters of a word, by the first word of their Unicode names."""
    found = {
        "CJK" if script in _EAST_ASIA else script
        for c in unicodedata.normalize("NFKC", word)
        if unicodedata.category(c)[0] == "L" and (script := unicodedata.name(c, "?").split()[0])
    }
    # Modifier letters, such as an apostrophe of a name, belong to any script.
    return found - {"MODIFIER"}
