"""Whether something got slower, decided while one fresh process after the other tells of it: evidence, looks, Holm.

All ratios are natural logarithms here: of two that are 3 % apart the difference is 0.0296, in whichever order.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

__all__ = ["ALPHA", "SPREAD", "Decision", "Evidence", "Leaning", "Told", "chance", "evidence", "leaning",
           "rejected", "runner_spread", "t_tail"]  # fmt: skip

Leaning = Literal["worse", "better", "same"]

# The chance that a suite fails though nothing in it got slower: of all cases together, at most.
ALPHA = 0.005
# What two twins of the same code differ by from process to process beyond their errors within one, as a standard
# deviation: where nobody has looked, and at least (0.3 to 0.5 % with the errors were measured on quiet machines).
SPREAD, _LEAST = 0.0035, 0.002
# How many processes that is worth, against those of the case itself and of the control.
_WORTH, _WORTH_OF_CONTROL = 6, 4
# Of five processes and more this part is left out at each end: one that was disturbed decides nothing.
_TRIMMED = 0.2
# By more than this, in deviations of what is expected, a case's processes may not differ: then they are of another kind
# (processes of their own, a load that comes and goes), and nothing but themselves says how much they differ.
_ALIEN = 2.0
# The chance of a suspicion at one look, and of an acquittal, where the truth lies at the bound.
_TO_SUSPECT, _TO_ACQUIT = 0.01, 0.025
# An acquittal while more processes could be asked needs so much of the way to the tolerance to be free: one that is
# merely not proved slower would be acquitted when its first processes happen to be the lucky ones.
_EARLY = 0.5


@dataclass(frozen=True, slots=True)
class Told:
    """What one fresh process says: the logarithm of candidate / baseline, and its standard error within the process.

    `doubt` is what more processes do not take away: a standard error of whatever they are all held against.
    """

    log_ratio: float
    error: float
    doubt: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """The logarithm of the ratio over several processes, its standard error and the degrees of freedom of that."""

    log_ratio: float
    error: float
    freedom: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the ratio itself, not of its logarithm."""
        reach = _t_quantile(0.025, self.freedom) * self.error
        return math.exp(self.log_ratio - reach), math.exp(self.log_ratio + reach)


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided of one comparison, and why.

    `evidence` is over all processes, None where not one was heard; `told` are those that the suspicion rests on,
    `confirming` those that were asked about it afterwards.
    """

    answer: Leaning | Literal["undecided"]
    evidence: Evidence | None
    told: tuple[Told, ...] = ()
    confirming: tuple[Told, ...] = ()
    reason: str = ""


def evidence(told: Sequence[Told], spread: float = SPREAD) -> Evidence:
    """What these processes say together: their mean, each weighed by what is expected of it, from five on without the
    outermost.

    To be expected of a process is the `spread` of twins from one to the next on this runner, and its own error: one
    that was disturbed says less. How much they really differ is known badly from three of them, so that it is drawn
    towards what is expected (a scaled inverse chi-squared prior worth six processes; Gelman et al. 2013, section 2.6),
    unless they differ by so much more that they are of another kind.
    """
    ordered = sorted(told, key=lambda each: each.log_ratio)
    count, beyond = len(ordered), math.floor(_TRIMMED * len(ordered))
    inside = ordered[beyond : count - beyond]
    mean = _weighed(inside, spread)
    held = [min(max(each.log_ratio, inside[0].log_ratio), inside[-1].log_ratio) for each in ordered]
    weights = [_weight(each, spread) for each in ordered]
    own = len(inside) - 1
    # In units of what is expected; what lies outside counts as far as the outermost inside (Tukey and McLaughlin 1963).
    scatter = math.fsum(w * (ratio - mean) ** 2 for w, ratio in zip(weights, held, strict=True)) / max(1, count - 1)
    scatter *= (count / len(inside)) ** 2
    worth = 0 if scatter > _ALIEN**2 else _WORTH
    freedom = worth + own
    error = math.sqrt((worth + own * scatter) / freedom / math.fsum(weights))
    doubt = statistics.fmean(each.doubt for each in told)
    return Evidence(mean, math.hypot(error, doubt), freedom)


def _weight(told: Told, spread: float) -> float:
    return 1 / (spread**2 + told.error**2)


def _weighed(told: Sequence[Told], spread: float) -> float:
    weights = [_weight(each, spread) for each in told]
    return math.fsum(w * each.log_ratio for w, each in zip(weights, told, strict=True)) / math.fsum(weights)


def runner_spread(control: Sequence[Told], prior: float = SPREAD) -> float:
    """What two twins differ by from process to process on this runner, beyond their errors within a process: from a
    control of equal twins, whose truth is 0.

    Of five and more the outermost count as far as the next ones.
    """
    sizes = sorted(abs(each.log_ratio) for each in control)
    most = sizes[-1 - math.floor(_TRIMMED * len(sizes))] if sizes else 0.0
    beyond = math.fsum(min(size, most) ** 2 for size in sizes) - math.fsum(each.error**2 for each in control)
    return math.sqrt(max(_LEAST**2, (_WORTH_OF_CONTROL * prior**2 + beyond) / (_WORTH_OF_CONTROL + len(control))))


def leaning(
    found: Evidence, margin: float, tolerance: float, *, last: bool, both_ways: bool = False
) -> Leaning | None:
    """What one look at the evidence allows to say; None is to ask another process. `last` is when there is none.

    A change below the margin is never worse, one of the tolerance is never the same; both are fractions. `worse` and
    `better` are suspicions, to be confirmed by processes that had no part in them. `same` is not slower by the
    tolerance; with `both_ways` not faster either.
    """
    above, beyond = math.log1p(margin), _t_quantile(_TO_SUSPECT, found.freedom) * found.error
    if found.log_ratio - beyond > above:
        return "worse"
    if found.log_ratio + beyond < -above:
        return "better"
    free = math.log1p(tolerance) * (1 if last else _EARLY)
    change = abs(found.log_ratio) if both_ways else found.log_ratio
    return "same" if change + _t_quantile(_TO_ACQUIT, found.freedom) * found.error < free else None


def chance(found: Evidence, suspicion: Leaning, margin: float) -> float:
    """That of evidence as strong as this where the change is no more than the margin (one-sided t test)."""
    change = found.log_ratio if suspicion == "worse" else -found.log_ratio
    return t_tail((change - math.log1p(margin)) / found.error, found.freedom)


def rejected(chances: Sequence[float], compared: int, alpha: float = ALPHA) -> list[bool]:
    """Which hypotheses fall when the chance that any true one does is at most `alpha` (Holm 1979).

    `compared` counts all that were judged: those without a suspicion are hypotheses, too, that nobody tried to reject.
    """
    falls = [False] * len(chances)
    for rank, which in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[which] > alpha / (compared - rank):
            break
        falls[which] = True
    return falls


def t_tail(t: float, freedom: int) -> float:
    """The chance that Student's t with so many degrees of freedom is larger (Abramowitz and Stegun 26.7.3, 26.7.4).

    Below some 1e-15 the difference that it is taken from is lost, and what is given is 0.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * power / (power + 1)
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, (1 - inside) / 2)


@lru_cache(maxsize=1024)
def _t_quantile(tail: float, freedom: int) -> float:
    """Where Student's t leaves so much above it, by bisection."""
    low, high = 0.0, 1e3
    while high - low > 1e-9 * (1 + low):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, freedom) > tail else (low, middle)
    return (low + high) / 2
