"""The audit: what a target claims to cost in the number of tokens N, beside what was counted; plain arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from attnbench.core.order import Order, parse_order
from attnbench.core.polynomial import Polynomial
from attnbench.core.record import Record
from attnbench.core.units import significant
from attnbench.report.facts import Fact, visible
from attnbench.report.growth import FEWEST_SIDES, Growth, blocks, growths, nearest_order
from attnbench.report.timed_growth import Measured

__all__ = ["VERDICTS", "Audit", "audit"]

Outcome = Literal["holds", "refuted", "not polynomial", "cannot tell", "no claim"]
VERDICTS: tuple[Outcome, ...] = ("refuted", "cannot tell", "not polynomial", "no claim", "holds")

_LINEAR, _CONSTANT = Order(Fraction(1)), Order(Fraction(0))
_UNITS = {"MACs": "MACs", "elementwise work": "elementwise", "FFT work": "FFT FLOPs", "memory": "bytes of memory"}
# The side at which people are told how much more than claimed a target costs.
_TOLD_AT = 256
# A figure that fits nothing exact refutes a claim when its exponent is above it by more than padding or a logarithm
# can explain at these sizes.
_CLEARLY_ABOVE = 0.4
_MOST_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class Audit:
    """A target's claim, what was found, and the verdict with its evidence in one line.

    `found` is the largest order among the growths. Where not `complete` a figure is missing, and the truth may be
    larger; where not `exact` it is the nearest half power to what was seen. `blocks` are the deepest submodules that
    grow as fast as the whole.
    """

    target: str
    kind: str
    claim: Order | None
    found: Order | None
    complete: bool
    exact: bool
    verdict: Outcome
    evidence: str
    growths: tuple[Growth, ...] = ()
    blocks: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    measured: Measured | None = None

    @property
    def macs(self) -> Growth | None:
        return next((growth for growth in self.growths if growth.name == "MACs"), None)


def audit(
    records: Sequence[Record],
    claim: Order | None = None,
    latency: Measured | None = None,
    facts: Sequence[Fact] = (),
) -> Audit:
    """The verdict on one target from its static records at several sides.

    `claim` stands in for the spec's own; `facts` tell the target from others of its name. O(...) is an upper bound: a
    target that is cheaper than it claims holds. A target is as bad as its worst figure: MACs, elementwise work, FFT
    work or peak memory. A claim below O(N), such as O(1), is about the MACs; reading the map takes O(N) elementwise
    work and memory in any case and is allowed.

    `refuted` needs one proof, also where other figures are missing. `holds` needs all of them. Between the two,
    `cannot tell` says what is missing, and `not polynomial` that a figure follows no exact law.
    """
    claim = claim or _declared(records)
    found = growths(records)
    missing = _missing(records, found)
    orders = [growth.order or nearest_order(growth.exponent or 0) for growth in found]
    case = records[0].case
    judged = Audit(
        target=_title(records[0], facts),
        kind=case.kind,
        claim=claim,
        found=max(orders, default=None),
        complete=not missing,
        exact=all(growth.order is not None for growth in found),
        verdict=_verdict(claim, found, missing),
        evidence="",
        growths=tuple(found),
        blocks=tuple(blocks(records)) if case.kind == "network" else (),
        doubts=_doubts(records),
        measured=latency,
    )
    return replace(judged, evidence=_evidence(judged, missing))


def _title(record: Record, facts: Sequence[Fact]) -> str:
    words = [fact.phrase.format(fact.of(record)) for fact in facts if fact.of(record) not in (None, "")]
    return visible(" ".join([record.case.name, *words]))


def _declared(records: Sequence[Record]) -> Order | None:
    claims = (record.value("static.claimed_complexity") for record in records)
    text = next((claim for claim in claims if claim), None)
    return None if text is None else parse_order(text)


def _missing(records: Sequence[Record], found: Sequence[Growth]) -> list[str]:
    """What keeps the figures from being the whole truth, in words."""
    uncounted = {name for record in records for name in record.value("static.uncounted_ops") or ()}
    reasons = [f"not counted: {', '.join(sorted(uncounted))}"] if uncounted else []
    if not uncounted:  # the counter whose list that is may itself have failed
        reasons += [note.text for record in records for note in record.notes if note.kind == "uncounted"][:1]
    names = {growth.name for growth in found}
    # Whatever went wrong at some sides tells why a figure is missing at all of them.
    why = next((record.reason for record in records if record.reason), "")
    notes = (note.text for record in records for note in record.notes if note.kind in ("uncounted", "not_extrapolated"))
    because = f" ({why or next(notes, 'nothing was counted')})"
    if "MACs" not in names:
        reasons.append(f"no MACs{because}")
    elif len(found[0].sides) < FEWEST_SIDES:
        reasons.append(f"counted at {len(found[0].sides)} sides only{because}")
    if "memory" not in names:
        reasons.append("no figure of memory")
    return reasons


def _limit(claim: Order, growth: Growth) -> Order:
    return claim if growth.name == "MACs" else max(claim, _LINEAR)


def _exceeds(claim: Order, growth: Growth) -> bool:
    limit = _limit(claim, growth)
    if growth.order is not None:
        return growth.order > limit
    return growth.exponent is not None and growth.exponent > float(limit.power) + _CLEARLY_ABOVE


def _verdict(claim: Order | None, found: Sequence[Growth], missing: Sequence[str]) -> Outcome:
    if claim is None:
        return "no claim"
    if any(_exceeds(claim, growth) for growth in found):
        return "refuted"
    if missing:
        return "cannot tell"
    return "not polynomial" if any(growth.order is None for growth in found) else "holds"


def _doubts(records: Sequence[Record]) -> tuple[str, ...]:
    """What the records say against their own figures, without the numbers of each size."""
    notes = {note.kind for record in records for note in record.notes}
    doubts = ["its MACs are unverified"] if "unverified" in notes else []
    if all(record.value("static.elementwise") is None for record in records):
        doubts.append("elementwise work is not counted")
    training = [record for record in records if record.case.differentiates]
    if training and all(record.value("static.backward_macs") is None for record in training):
        doubts.append("the MACs of the backward are not counted")
    return tuple(doubts)


def _evidence(judged: Audit, missing: Sequence[str]) -> str:
    """What refutes the claim first, then what was counted besides, what is missing and what was measured."""
    worst = _culprit(judged)
    exact = [growth for growth in judged.growths if growth is worst or growth.name == "MACs" or growth.order is None]
    first = [growth for growth in (worst, *exact) if growth is not None]
    parts = [*([] if judged.verdict == "refuted" else missing)]
    for growth in dict.fromkeys(first):
        parts.append(_told(growth) + (_times(judged.claim, growth) if growth is worst else ""))
        if growth.name == "MACs" and judged.blocks and growth.order is not None and growth.order > _LINEAR:
            parts.append(f"{growth.order} {_in_blocks(judged.blocks)}")
    parts += _others([growth for growth in judged.growths if growth not in first])
    return visible("; ".join([*parts, *judged.doubts, *([str(judged.measured)] if judged.measured else [])]))


def _others(beside: Sequence[Growth]) -> list[str]:
    """`elementwise work and memory N²`: figures of one order in one phrase."""
    names: dict[str, list[str]] = {}
    for growth in beside:
        names.setdefault(f"{growth.order}{_where(growth)}", []).append(growth.name)
    return [f"{' and '.join(together)} {order}" for order, together in names.items()]


def _in_blocks(names: Sequence[str]) -> str:
    more = len(names) - _MOST_BLOCKS
    return f"in {', '.join(names[:_MOST_BLOCKS])}" + (f" and {more} more" if more > 0 else "")


def _culprit(judged: Audit) -> Growth | None:
    """The figure that refutes the claim: of those that do the fastest, and MACs before others."""
    claim = judged.claim
    if claim is None:
        return None
    above = [growth for growth in judged.growths if _exceeds(claim, growth)]
    return max(above, key=lambda growth: growth.order or Order(Fraction(growth.exponent or 0)), default=None)


def _told(growth: Growth) -> str:
    """`72 s⁴ + 9216 s² MACs: N²`, or how it grows where no exact law is known."""
    if not growth.exact and growth.order is None:
        return f"{growth.name}: no polynomial in s, {growth.text} up to {growth.sides[-1]}x{growth.sides[-1]}"
    order = "constant" if growth.order == _CONSTANT else str(growth.order)
    told = f"{growth.text} {_UNITS[growth.name]}" if growth.exact else growth.name
    return f"{told}: {order}{_where(growth)}"


def _where(growth: Growth) -> str:
    facts = [f"from s = {growth.since} on"] if growth.since is not None else []
    facts += [f"where s is {growth.lattice}"] if growth.lattice else []
    return f" ({', '.join(facts)})" if facts else ""


def _times(claim: Order | None, growth: Growth) -> str:
    """How much dearer than claimed it is at a size that people know."""
    if claim is None or growth.polynomial is None:
        return ""
    times = _excess(growth.polynomial, _limit(claim, growth), growth.sides[0])
    if times is None or times <= 1:
        return ""
    what = _limit(claim, growth).big_o
    return f"; at {_TOLD_AT}x{_TOLD_AT} it is {significant(float(times), 3)} times what {what} would be"


def _excess(cost: Polynomial, limit: Order, smallest: int) -> Fraction | None:
    """Times what the claim would be: the terms that it allows or, where there are none, the smallest side scaled up."""
    allowed = cost.up_to(2 * limit.power)(_TOLD_AT)
    if allowed <= 0 and (2 * limit.power).denominator == 1:
        allowed = cost(smallest) * Fraction(_TOLD_AT, smallest) ** int(2 * limit.power)
    return cost(_TOLD_AT) / allowed if allowed > 0 else None
