"""The Markdown of results/counting.md: who counts what, case by case, and who calls a quadratic attention linear."""

import math
from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence

from hand_case import SIZES, HandCase, Sizes
from outside_counters import Answer, Counter

__all__ = ["SIDES", "Answers", "markdown"]

# By (name of the counter, name of the case, side of the map or None for the sizes of the first table): an answer, or
# the reason why there is none.
Answers = Mapping[tuple[str, str, int | None], Answer | str]

SIDES = (16, 32)
# An exponent below this is what a reader takes for linear; the least of a truly quadratic case in the table is 1.5.
LINEAR = 1.1


def truth(case: HandCase, counter: Counter, side: int | None = None, field: str = "macs") -> int:
    """The figure by hand, for as many samples as the counter was asked about."""
    sizes = SIZES if side is None else SIZES.at(side)
    return case.value(field, sizes if not counter.one_sample else one_sample(sizes))


def one_sample(sizes: Sizes) -> Sizes:
    return sizes.at(sizes.H)


def cell(answer: Answer | str, right: int) -> str:
    """A tick when equal, else the ratio; a dash for a refusal; `open` when the counter says itself that it is."""
    if isinstance(answer, str):
        return "–"
    if answer.macs == right:
        return "✓"
    if answer.open:
        return "open"
    return ratio(answer.macs / right)


def ratio(value: float) -> str:
    """Three digits that are never `1`: what is nearly right is not right."""
    if value == 0:
        return "0"
    if abs(value - 1) < 0.005:
        return f"{value:.5f}x"
    return f"{value:.0f}x" if value >= 100 else f"{value:.3g}x"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> Iterator[str]:
    """A Markdown table; all but the first `left` columns stand at the right."""
    yield f"| {' | '.join(head)} |"
    yield "|" + "|".join("---" if column < left else "--:" for column in range(len(head))) + "|"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def markdown(cases: Sequence[HandCase], counters: Sequence[Counter], missing: Sequence[str], answers: Answers,
             versions: str) -> str:  # fmt: skip
    """The whole page."""
    kinds = len({case.kind for case in cases})
    return "\n".join([
        "# Who counts attention right", "",
        "Made by `python tests/bench/bench_counting.py`; not edited by hand.", "",
        f"{len(cases)} cases of {kinds} kinds, each derived by hand in `tests/counting/cases_*.py`. The figures are",
        "the contraction multiply-accumulates (MACs) of one forward; counters that give FLOPs are halved. In eval mode",
        "and without gradients, but where the case says train; every counter and case in a process of its own. ptflops",
        f"is made for one sample, gets one, and is held to what one costs. {versions}.",
        *([f"Not installed, and so not asked: {', '.join(missing)}."] if missing else []), "",
        "## Who is right", "",
        *table(["counter", "version", "exact", "within 5 %", "too low", "of these 0", "too high", "open", "refused",
                "parameters exact"], [summary(counter, cases, answers) for counter in counters], left=2), "",
        "`too low`, `too high`: a wrong figure; fvcore, thop and torchprofile can log what they passed over, and"
        " return",
        "the figure all the same. `open`: not the hand count, and the answer itself says that something was left out.",
        "`refused`: it raised. `parameters exact`: of the cases that it answered; a dash where it gives none.",
        f"attnbench calls {verified(cases, answers)} of the {len(cases)} `verified`: another counter, which could"
        " count",
        "all of it, came to the same integer.", "",
        *missed(cases, counters, answers),
        "## Case by case", "",
        f"At {sizes_text()}. ✓ equal as integers; otherwise the counter's figure over the hand count.", "",
        *table(["case", "derivation", "MACs by hand", *(counter.name for counter in counters)],
               [case_row(case, counters, answers) for case in cases], left=2), "",
        "## Who calls a quadratic attention linear", "",
        *growth(cases, counters, answers), "",
    ])  # fmt: skip


def sizes_text() -> str:
    fields = ("B", "N", "C", "h", "d", "g", "L", "k", "m", "a", "r", "w", "f", "S")
    return ", ".join(f"{name} = {getattr(SIZES, name)}" for name in fields) + f" (a map of {SIZES.H}x{SIZES.W})"


def summary(counter: Counter, cases: Sequence[HandCase], answers: Answers) -> list[str]:
    pairs = [(answers[counter.name, case.name, None], truth(case, counter)) for case in cases]
    refused = sum(isinstance(answer, str) for answer, _ in pairs)
    said = [(answer, right) for answer, right in pairs if isinstance(answer, Answer)]
    exact = sum(answer.macs == right for answer, right in said)
    wrong = [(answer, right) for answer, right in said if answer.macs != right and not answer.open]
    near = exact + sum(abs(answer.macs / right - 1) <= 0.05 for answer, right in wrong)
    low = sum(answer.macs < right for answer, right in wrong)
    zero = sum(answer.macs == 0 for answer, _ in wrong)
    left_open = len(said) - exact - len(wrong)
    counts = [exact, near, low, zero, len(wrong) - low, left_open, refused]
    shown = [f"**{exact} of {len(cases)}**", *map(str, counts[1:])]
    return [counter.name, counter.version or "", *shown, parameters(counter, cases, answers)]


def verified(cases: Sequence[HandCase], answers: Answers) -> int:
    said = [answers["attnbench", case.name, None] for case in cases]
    return sum(isinstance(answer, Answer) and answer.verified for answer in said)


def parameters(counter: Counter, cases: Sequence[HandCase], answers: Answers) -> str:
    """How often the parameters are right, of the cases that it gave an answer for."""
    said = [(case, answers[counter.name, case.name, None]) for case in cases]
    given = [(case, answer.params) for case, answer in said if isinstance(answer, Answer) and answer.params is not None]
    right = sum(params == truth(case, counter, field="params") for case, params in given)
    return f"{right} of {len(given)}" if given else "–"


def missed(cases: Sequence[HandCase], counters: Sequence[Counter], answers: Answers) -> Iterator[str]:
    """For each counter the kinds that it did not get right in every writing."""
    yield "What each missed, by kind (how many of its writings, where not all):"
    yield ""
    writings = Tally(case.kind for case in cases)
    for counter in counters:
        wrong = Tally(case.kind for case in cases if not exact(answers[counter.name, case.name, None],
                                                               truth(case, counter)))  # fmt: skip
        listed = [kind if n == writings[kind] else f"{kind} ({n} of {writings[kind]})" for kind, n in wrong.items()]
        yield f"- **{counter.name}**: {', '.join(listed) or 'nothing'}{refusals(counter, cases, answers)}"
    yield ""


def refusals(counter: Counter, cases: Sequence[HandCase], answers: Answers) -> str:
    """How it refused, so that a module without parameters is not taken for one that it cannot count."""
    said = [answers[counter.name, case.name, None] for case in cases]
    reasons = Tally(answer.rstrip(": ")[:70] for answer in said if isinstance(answer, str))
    listed = "; ".join(f"`{reason}` ({times})" for reason, times in reasons.items())
    return f". It raised {listed}" if listed else ""


def exact(answer: Answer | str, right: int) -> bool:
    return isinstance(answer, Answer) and answer.macs == right


def case_row(case: HandCase, counters: Sequence[Counter], answers: Answers) -> list[str]:
    cells = [cell(answers[counter.name, case.name, None], truth(case, counter)) for counter in counters]
    return [case.name, f"`{case.macs}`", f"{case.value('macs'):,}", *cells]


def growth(cases: Sequence[HandCase], counters: Sequence[Counter], answers: Answers) -> Iterator[str]:
    """The degree in N that each counter's figures have."""
    quadratic = [case for case in cases if case.quadratic]
    small, large = (SIZES.at(side).N for side in SIDES)
    yield f"The {len(quadratic)} cases whose MACs hold a term in N². The exponent p of N between N = {small} and"
    yield f"N = {large} at one sample, from MACs ~ N^p: less than 2 while the projections still weigh. Below {LINEAR},"
    yield "in bold, a reader takes it for linear; so he does where a counter says 0. A dash: it refused, or said itself"
    yield "that it left something out."
    yield ""
    rows = []
    linear: Tally[str] = Tally()
    for case in quadratic:
        true = exponent([case.value("macs", SIZES.at(side)) for side in SIDES])
        row = [case.name, f"{true:.2f}"]
        for counter in counters:
            found = figures(case, counter, answers)
            shown = growth_cell(found)
            linear[counter.name] += shown.startswith("**")
            row.append(shown)
        rows.append(row)
    said = [f"{linear[counter.name]} of {sum(figures(case, counter, answers) is not None for case in quadratic)}"
            for counter in counters]  # fmt: skip
    yield from table(["case", "by hand", *(counter.name for counter in counters)],
                     [["**calls linear**", "", *said], *rows])  # fmt: skip


def figures(case: HandCase, counter: Counter, answers: Answers) -> list[int] | None:
    found = [answers[counter.name, case.name, side] for side in SIDES]
    said = [answer.macs for answer in found if isinstance(answer, Answer) and not answer.open]
    return said if len(said) == len(SIDES) else None


def growth_cell(found: list[int] | None) -> str:
    if found is None:
        return "–"
    if not all(found):
        return "**0 MACs**"
    p = exponent(found)
    return f"**{p:.2f}**" if p < LINEAR else f"{p:.2f}"


def exponent(found: Sequence[int]) -> float:
    small, large = found
    return math.log(large / small, SIZES.at(SIDES[1]).N / SIZES.at(SIDES[0]).N)
