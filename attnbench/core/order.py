"""Orders of growth in the number of tokens N: read from a claim, compared, and printed."""

import re
from dataclasses import dataclass
from fractions import Fraction

from attnbench.core.errors import UsageError

__all__ = ["Order", "parse_order"]

_SUPERSCRIPTS = str.maketrans("0123456789.", "⁰¹²³⁴⁵⁶⁷⁸⁹·")
_NORMAL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹", "0123456789")
_FACTOR = re.compile(
    r"""\s* (?:
        (?P<log> log \s* (?:_?2|₂)? \s* (?:\(\s*N\s*\)|N) )
      | (?P<root> sqrt\s*\(\s*N\s*\) | √\s*N )
      | (?P<N> N ) (?:
            (?:\^|\*\*) \s* [({]? \s* (?P<power> \d{1,3} (?:\.\d{1,6} | \s*/\s*[1-9]\d?)? ) \s* [)}]?
          | (?P<raised> [⁰¹²³⁴⁵⁶⁷⁸⁹]{1,3} )
        )?
      | 1
    ) \s* (?:[*·×](?!\*))?""",
    re.IGNORECASE | re.VERBOSE,
)


@dataclass(frozen=True, slots=True, order=True)
class Order:
    """N to the `power`, times so many factors of log N; the larger grows faster."""

    power: Fraction
    logs: int = 0

    def __str__(self) -> str:
        """`N²`, `N¹·⁵`, `N log N`, `1`."""
        base, _, exponent = self.plain.partition("^")
        digits, blank, logs = exponent.partition(" ")
        return base + digits.translate(_SUPERSCRIPTS) + blank + logs

    @property
    def plain(self) -> str:
        """As the catalogue writes it: `N^2`, `N^1.5`, `N log N`, `1`."""
        base = "" if self.power == 0 else "N" if self.power == 1 else f"N^{float(self.power):g}"
        return " ".join([*([base] if base else []), *["log N"] * self.logs]) or "1"

    @property
    def big_o(self) -> str:
        """`O(N²)`."""
        return f"O({self})"


def parse_order(text: str) -> Order:
    """A claim as people write it: `O(N)`, `N^2`, `O(N²)`, `N log N`, `O(N*sqrt(N))`, `O(N^1.5)`, `O(1)`.

    Raises:
        UsageError: it is none, or names something besides N.
    """
    claim = text.strip()
    if wrapped := re.fullmatch(r"[Oo]\s*\((.*)\)", claim):
        claim = wrapped[1].strip()
    power, logs, place = Fraction(0), 0, 0
    while place < len(claim):
        factor = _FACTOR.match(claim, place)
        if factor is None:
            break
        power, logs, place = power + _power(factor), logs + bool(factor["log"]), factor.end()
    if not claim or place < len(claim) or claim[-1] in "*·×":
        raise UsageError(f"{text!r} is no claim in the number of tokens N: write it like O(N), O(N log N), O(N^1.5), "
                         "O(N^2) or O(1).")  # fmt: skip
    return Order(power, logs)


def _power(factor: re.Match[str]) -> Fraction:
    if factor["root"]:
        return Fraction(1, 2)
    if not factor["N"]:
        return Fraction(0)
    typed = factor["power"] or (factor["raised"] or "1").translate(_NORMAL)
    return Fraction(re.sub(r"\s", "", typed))
