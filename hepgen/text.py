"""Text from anywhere, made safe for a terminal and for the report."""

import re
from collections.abc import Sequence

__all__ = ["few", "printable", "restructured", "short", "verbatim"]


def few(names: Sequence[str], most: int = 3) -> str:
    """The first of many names, and how many more there are.

    >>> few("abc"), few("abcd")
    ('a, b, c', 'a, b, c and 1 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def short(text: str, most: int = 60) -> str:
    """A text of at most so many letters.

    >>> short("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else f"{text[: most - 1]}…"


def printable(text: str) -> str:
    r"""A text in one line; line breaks, control and invisible characters are shown by their codes.

    A name in a file could otherwise clear a terminal, or end a comment and be read as what follows it.

    >>> printable("a\x1b[2J\u202eb")
    'a\\x1b[2J\\u202eb'
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def restructured(text: str) -> str:
    r"""A text as reStructuredText that shows it as it is, whatever markup it holds.

    >>> restructured("a_ :b:"), restructured(".. raw:: html")
    ('a\\_ \\:b\\:', '\\ .. raw\\:\\: html')
    """
    plain = " ".join(printable(text).split())
    escaped = re.sub(r"[\\*`|_:@]", r"\\\g<0>", plain)
    # A block such as a list or a directive is known by how its line begins: by a sign, or by a number with a stop.
    return rf"\ {escaped}" if re.match(r"[!-/:-@\[-`{-~•‣⁃]|\w+[.)]( |$)|$", plain) else escaped


def verbatim(text: str) -> str:
    r"""A text for a figure that shows it as it is, rather than as mathtext, which need not be any.

    >>> verbatim("$10")
    '\\$10'
    """
    return printable(text).replace("$", r"\$")
