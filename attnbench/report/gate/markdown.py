"""Foreign text in Markdown on GitHub: it comes out as it is, links nowhere, calls nobody, and is of bounded length."""

import re

from attnbench.report.exporters import escaped
from attnbench.report.facts import visible

__all__ = ["code_block", "literal", "paragraph", "size"]

_NOTHING = "&#8203;"  # a blank of no width: what GitHub would link is in two pieces
_LINKED = re.compile(r"@(?=\w)|#(?=\d)|\bGH-(?=\d)|:(?=//)|\bwww(?=\.)|:(?=[\w+-]+:)", re.IGNORECASE)
# What makes a heading, a list or a rule of the line that it begins: all but the digits of `1.`
_OPENS_A_BLOCK = re.compile(r"^(\d{0,9})([#+=.)-])")


def literal(text: str, most: int = 300) -> str:
    """At most so many characters of the text, on one line, with nothing in it that means something to GitHub.

    Beyond what Markdown and HTML read as an instruction these are mentions (`@name`), issues (`#1`), addresses, emoji
    (`:tada:`) and formulas (`$x$`).
    """
    text = escaped(_clipped(visible(" ".join(text.split())), most)).replace("$", "<span>$</span>")
    return _LINKED.sub(lambda found: found[0] + _NOTHING, text)


def paragraph(text: str, most: int = 500) -> str:
    """The same at the beginning of a line, where it opens no heading and no list either."""
    return _OPENS_A_BLOCK.sub(r"\1\\\2", literal(text, most))


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def code_block(text: str) -> str:
    """A command to copy; nothing in it can end the block."""
    text = visible(" ".join(text.split()))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}sh\n{text}\n{fence}"


def size(text: str) -> int:
    """Bytes in UTF-8: at least as many as the characters that GitHub counts, however it counts them."""
    return len(text.encode("utf-8", "replace"))
