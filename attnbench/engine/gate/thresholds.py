"""How much slower fails: the two numbers of each case and reading, from the command line, the file, or the defaults."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from attnbench.core.errors import UsageError
from attnbench.core.reading import SECTIONS
from attnbench.core.registry import did_you_mean
from attnbench.metrics.metric import known

__all__ = ["THRESHOLD", "Rule", "Threshold", "Thresholds", "is_counted", "margin_for", "reads_sampled",
           "refuse_unknown", "refuse_unused", "threshold_of", "unused"]  # fmt: skip

THRESHOLD: Final = 0.05
_SMALLEST_MARGIN: Final = 0.008
_LATENCY: Final = "latency.median_ms"
# Sections whose figures are the same twice; all others are sampled.
_COUNTED: Final = ("static", "memory")
_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a change of one reading is held against, both as fractions (0.05 is 5 %).

    Sampled: a slowdown of `tolerance` never passes, one below `margin` never fails, and between the two a slowdown
    that is proved fails. Counted: growth within `tolerance` is the same; 0 is equality, and `margin` is no other.
    """

    tolerance: float
    margin: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A threshold of their own for some cases and readings; `where` is the place that an error names.

    `case` is a pattern for the name that tables show, or for as many of its words as it has; `metric` one for the
    dotted names of readings, or for a whole section of them (`latency`).
    """

    case: str
    metric: str
    threshold: Threshold
    where: str = ""

    def is_for(self, case: str) -> bool:
        """Whether `linear_*`, `self_attn`, `self_attn 32x32` or `*fwd_bwd` means the case `self_attn 32x32 fwd_bwd`."""
        own = self.case
        return case == own or case.startswith(f"{own} ") or fnmatchcase(case, own) or fnmatchcase(case, f"{own} *")

    def reads(self, reading: str) -> bool:
        """Whether it is about that reading."""
        return fnmatchcase(reading, self.metric) or fnmatchcase(_section(reading), self.metric)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The threshold of all sampled readings, and the rules that differ from it; the last that matches wins."""

    latency: Threshold
    rules: tuple[Rule, ...] = ()

    def of(self, case: str, reading: str = _LATENCY) -> Threshold:
        """What the reading of that dotted name is held against, in the case of that name; `latency` is its median."""
        name = _LATENCY if reading == "latency" else reading
        for rule in reversed(self.rules):
            if rule.is_for(case) and rule.reads(name):
                return rule.threshold
        return Threshold(0.0, 0.0) if is_counted(name) else self.latency


def is_counted(reading: str) -> bool:
    """Whether a reading is the same twice, so that only a rule which names it lets it change: MACs, bytes."""
    return _section(reading) in _COUNTED


def margin_for(threshold: float) -> float:
    """The margin where none is given: a fifth of the threshold, and at least what two runs of one code differ by."""
    return max(_SMALLEST_MARGIN, threshold / 5)


def threshold_of(threshold: float | None = None, margin: float | None = None) -> Threshold:
    """What a latency is held against, the defaults where nothing is given.

    Raises:
        UsageError: the margin is not smaller than the threshold.
    """
    tolerance = THRESHOLD if threshold is None else threshold
    least = margin_for(tolerance) if margin is None else margin
    if least < tolerance:
        return Threshold(tolerance, least)
    said, advice = (" (the default)", "give a smaller margin too") if margin is None else ("", "make it smaller")
    raise UsageError(f"--margin {_percent(least)}{said} is not smaller than --threshold {_percent(tolerance)}: below "
                     f"the margin nothing fails, from the threshold on nothing passes; {advice}.")  # fmt: skip


def unused(rules: Sequence[Rule], names: Collection[str]) -> list[Rule]:
    """The rules that are for none of the cases of these names."""
    return [rule for rule in rules if not any(map(rule.is_for, names))]


def refuse_unused(rules: Sequence[Rule], names: Collection[str]) -> None:
    """See that each rule is for a case at least, where the names of all are known: one that is for none is a slip.

    Raises:
        UsageError: one is not.
    """
    for rule in unused(rules, names):
        near = did_you_mean(rule.case, [*names, *(name.partition(" ")[0] for name in names)])
        first = ", ".join(list(names)[:_MOST_NAMED])
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        raise UsageError(f"{rule.where}: no case is called {rule.case!r}.{near} There are: {first}{more}.")


def refuse_unknown(metric: str) -> None:
    """See that a pattern is for a reading at least.

    Raises:
        UsageError: it is for none; the message offers the nearest.
    """
    names = _readings()
    if not any(fnmatchcase(name, metric) for name in names) and _section(metric) not in set(names) - set(SECTIONS):
        near = did_you_mean(metric, names) or " Write latency, static.macs, memory.* or another field of a record."
        raise UsageError(f"--metric {metric!r} is the name of no reading.{near}")


def reads_sampled(metric: str) -> bool:
    """Whether a pattern is for sampled readings, and not for counted ones alone."""
    return not (is_counted(metric) or all(is_counted(name) for name in _readings() if fnmatchcase(name, metric)))


def _readings() -> list[str]:
    """Every section and every field that a record may have, those of other packages' instruments too."""
    fields = [f"{section}.{field}" for section, own in SECTIONS.items() for field in own]
    others = [field for each in known().values() for field in each.fields]
    return list(dict.fromkeys([*SECTIONS, *fields, *others]))


def _section(reading: str) -> str:
    return reading.partition(".")[0]


def _percent(value: float) -> str:
    return f"{value * 100:g}%"
