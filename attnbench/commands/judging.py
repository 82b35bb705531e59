"""What the commands of the gate share: what was asked, by options or by pyproject.toml, and how a finding is told."""

import os
import shlex
import sys
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnbench.commands import options as opt
from attnbench.commands.planned import planned, typed_with
from attnbench.commands.terminal import new_console
from attnbench.core.errors import UsageError

if TYPE_CHECKING:
    from attnbench.engine.gate.contest import Limits
    from attnbench.engine.gate.settings import Settings
    from attnbench.engine.gate.thresholds import Thresholds
    from attnbench.engine.question import Question
    from attnbench.report.gate.judged import Judged
    from attnbench.report.gate.verdict import Outcome

__all__ = ["Asked", "MaxTime", "Threshold", "told"]

Threshold = Annotated[str | None, typer.Option(help="A slowdown of so much never passes.  [default: 5%]")]
MaxTime = Annotated[float | None, typer.Option(help="Seconds for each case.  [default: 60, stored baseline 120]")]

# What says which cases are measured.
_CASES = ("module", "network", "suite")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a check is to find out, and where it is to be told; every value is checked."""

    typed: dict[str, Any]
    settings: "Settings"
    thresholds: "Thresholds"
    fail_on: "frozenset[Outcome]"
    warn_only: bool
    out: tuple[Path, ...]
    format: str

    @classmethod
    def of(cls, context: typer.Context) -> "Asked":
        """From the options; what is not given among them is read from the nearest pyproject.toml.

        Raises:
            UsageError: a value is none, or two contradict each other.
        """
        from attnbench.engine.gate.settings import settings
        from attnbench.report.gate.outputs import check_outputs, format_named
        from attnbench.report.gate.verdict import parsed_fail_on

        typed, said = typed_with(context), settings()
        threshold, margin = (_fraction(f"--{name}", typed.get(name)) for name in ("threshold", "margin"))
        warn_only = typed.get("warn_only")
        out = tuple(typed.get("out") or ())
        if "out" in typed:
            format_named(typed["format_"])
        check_outputs(out)
        return cls(
            typed, said, said.thresholds(threshold, margin), parsed_fail_on(typed.get("fail_on") or said.fail_on or ()),
            bool(said.warn_only if warn_only is None else warn_only), out, typed.get("format_", ""),
        )  # fmt: skip

    @property
    def threshold(self) -> float:
        """The slowdown that never passes, where no rule says otherwise."""
        return self.thresholds.latency.tolerance

    def tolerance(self, case: str, reading: str) -> float:
        """By how much an exact figure may differ."""
        return self.thresholds.of(case, reading).tolerance

    @property
    def baseline(self) -> Path | None:
        """The stored baseline to hold on to; a file that was typed wins over a revision that the settings name."""
        typed: Path | None = self.typed.get("baseline")
        if typed is not None or self.typed.get("base") is not None:
            return typed
        return self.settings.baseline if self.settings.base is None else None

    @property
    def base(self) -> str | None:
        """The revision to compare with; None where it is a stored baseline."""
        if self.typed.get("base") is not None and self.typed.get("baseline") is not None:
            raise UsageError(f"--base {self.typed['base']} and {self.typed['baseline']} exclude each other: give one.")
        return self.typed.get("base") or (None if self.baseline else self.settings.base)

    @property
    def suite(self) -> str | None:
        """The suite whose cases are measured; None where they are typed."""
        typed: str | None = self.typed.get("suite")
        return typed if any(self.typed.get(name) for name in _CASES) else self.settings.suite

    @property
    def asks(self) -> bool:
        """Whether anything says which cases are measured."""
        return self.suite is not None or any(self.typed.get(name) for name in _CASES)

    @property
    def threads(self) -> int:
        """One, where nobody says another number."""
        typed: int | None = self.typed["threads"]
        return typed if typed is not None else self.settings.threads or 1

    @property
    def questions(self) -> "list[Question]":
        """What is to be measured, on one thread of the CPU where nobody says another number.

        Raises:
            UsageError: nothing is asked, or a value is none.
        """
        if not self.asks:
            raise UsageError("nothing is asked: give --module, --network or --suite, or a suite in "
                             "[tool.attnbench.check].")  # fmt: skip
        return self.questions_of(self.suite)

    def questions_of(self, suite: str | None) -> "list[Question]":
        """The same for that suite instead; None is what was typed."""
        from attnbench.engine.executors.executor import Wanted

        device = self.typed["device"]
        given = self.typed["given"] - {"max_time"} | {"threads"}
        typed = {**self.typed, "suite": suite, "threads": self.threads, "given": given}
        typed.pop("max_time", None)  # which is here for all of a case, and not for one of its samplings
        return planned(typed, Wanted(device=(self.settings.device or device) if device == "auto" else device))

    def questions_about(self, target: str) -> "list[Question]":
        """The questions that are typed, about this target."""
        modules, networks = opt.by_kind([target])
        beside = dict.fromkeys(("attn", "swap", "at"))
        return replace(self, typed={**self.typed, **beside, "module": modules, "network": networks}).questions_of(None)

    def refuse_measuring(self) -> None:
        """See that nothing is to be measured, where two files of records are compared.

        Raises:
            UsageError: something is.
        """
        given = [f"--{name}" for name in ("base", *_CASES) if self.typed.get(name)]
        if given:
            raise UsageError(f"two files of records are compared as they are, and {' and '.join(given)} would be "
                             "measured: give the one or the other.")  # fmt: skip

    def refuse_unused(self, names: Collection[str]) -> None:
        """See that the rules of the settings are for cases of these names, where it is their suite that is measured.

        Raises:
            UsageError: one is for none.
        """
        from attnbench.engine.gate.thresholds import refuse_unused

        if self.suite is not None and self.suite == self.settings.suite:
            refuse_unused(self.settings.rules, names)

    def limits(self, usual: "Limits") -> "Limits":
        """How long a case may take, where nobody says as long as is usual."""
        from attnbench.metrics.asked import measuring

        typed = self.typed.get("max_time")
        seconds = typed if typed is not None else self.settings.max_time or usual.max_time
        measuring((), "1%", seconds, self.typed["timeout"], None)
        return replace(usual, max_time=seconds)

    @property
    def command(self) -> str:
        """The command line that repeats it."""
        return shlex.join(["attnbench", *sys.argv[1:]])


def _fraction(option: str, text: str | None) -> float | None:
    try:
        return None if text is None else opt.fraction(text)
    except UsageError as error:
        raise UsageError(f"{option} {error}") from None


def told(judged: "Judged", asked: Asked) -> int:
    """Print it and write it wherever it is to be read; the exit code."""
    from attnbench.report.gate.github import annotations, write_summary
    from attnbench.report.gate.outputs import as_text, write
    from attnbench.report.gate.screen import render_judged

    if asked.format == "table":
        console = new_console()
        console.print(render_judged(judged, console.width))
    else:
        typer.echo(as_text(judged, asked.format), nl=False)
    for path in asked.out:
        write(judged, path)
    if os.environ.get("GITHUB_ACTIONS") == "true":
        # On standard error, where the runner looks as well: standard output may be somebody's JSON.
        for line in annotations(judged):
            typer.echo(line, err=True)
    _warn(write_summary(judged, os.environ))
    return judged.code


def _warn(sentence: str | None) -> None:
    if sentence:
        typer.echo(f"attnbench: {sentence}", err=True)

