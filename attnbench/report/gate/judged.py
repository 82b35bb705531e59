"""A check that is over: its verdicts, between what and on what machine, what that means, and how to repeat it."""

from collections.abc import Collection
from dataclasses import dataclass

from attnbench.report.gate.verdict import FAIL_ON, OUTCOMES, Outcome, Verdict, exit_code
from attnbench.report.gate.wording import news, summary

__all__ = ["Judged"]

_MEANING = {0: "the check passes", 1: "the check fails", 3: "the check cannot judge"}


@dataclass(frozen=True, slots=True)
class Judged:
    """What every output of a check is made of.

    `baseline` and `candidate` say what was compared: `main (3f2a1c9)`, `baseline.jsonl`, `working tree at abc1234,
    changed`. `threshold` is the change of a latency that was looked for (0.05 is 5 %), `machine` is in words, `noise`
    a sentence about what the machine finds where nothing changed, `remarks` are other sentences, `seconds` is how
    long it took and `command` repeats it; each of them is empty where it is not known.
    """

    verdicts: tuple[Verdict, ...]
    baseline: str
    candidate: str
    threshold: float = 0.05
    fail_on: Collection[Outcome] = FAIL_ON
    warn_only: bool = False
    machine: str = ""
    noise: str = ""
    seconds: float = 0.0
    remarks: tuple[str, ...] = ()
    command: str = ""

    @property
    def code(self) -> int:
        """The exit code; with `warn_only` no finding is more than a warning."""
        return 0 if self.warn_only else self._finding

    @property
    def _finding(self) -> int:
        return exit_code(self.verdicts, self.fail_on)

    @property
    def news(self) -> list[Verdict]:
        """What is not the same, worst first."""
        return news(self.verdicts)

    @property
    def same(self) -> list[Verdict]:
        """What is the same, in the order in which it was judged."""
        return [found for found in self.verdicts if found.outcome == "same"]

    def fails(self, found: Verdict) -> bool:
        """Whether this verdict makes the exit code 1."""
        return not self.warn_only and found.outcome in self.fail_on

    def warns(self, found: Verdict) -> bool:
        """Whether this verdict would fail a stricter check."""
        return not self.fails(found) and found.outcome in ("worse", "changed", "missing", "undecided")

    @property
    def headline(self) -> str:
        """`1 worse, 2 undecided; 37 readings the same: the check fails.`"""
        return f"{summary(self.verdicts)}: {self._meaning}."

    @property
    def _meaning(self) -> str:
        finding, meaning = self._finding, _MEANING[self._finding]
        if finding and self.warn_only:
            return f"{meaning}, but only warns"
        if finding == 0 and any(map(self.warns, self.verdicts)):
            return f"{meaning}, for it fails on {' or '.join(self.failing)} alone"
        if finding == 3 and self.verdicts and not any(found.outcome == "undecided" for found in self.verdicts):
            return f"{meaning}, for nothing was compared"
        return meaning

    @property
    def failing(self) -> list[Outcome]:
        """The outcomes that fail, worst first."""
        return [outcome for outcome in OUTCOMES if outcome in self.fail_on]

    @property
    def compared(self) -> str:
        """`baseline main (3f2a1c9); candidate working tree at abc1234, changed; threshold 5 %; cpu`"""
        told = (f"baseline {self.baseline}", f"candidate {self.candidate}", f"threshold {self.threshold * 100:g} %")
        return "; ".join([*told, self.machine] if self.machine else told)

    @property
    def circumstances(self) -> list[str]:
        """Sentences about how it was measured: the noise, the remarks, the time it took."""
        took = [f"The check took {self.seconds:,.0f} s."] if self.seconds >= 0.5 else []
        return [sentence for sentence in (self.noise, *self.remarks, *took) if sentence]
