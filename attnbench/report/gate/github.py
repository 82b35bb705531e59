"""What GitHub Actions shows of a check: annotations beside the code, and the summary of the step."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from attnbench.report.facts import visible
from attnbench.report.gate.comment import comment
from attnbench.report.gate.judged import Judged
from attnbench.report.gate.markdown import size
from attnbench.report.gate.verdict import Verdict
from attnbench.report.gate.wording import sentence

__all__ = ["annotations", "write_summary"]

# GitHub shows no more of each kind for a step.
_MOST = 10
# GitHub drops a step's whole summary when it is longer: 1 MiB.
_MOST_SUMMARY = 1_048_576
# The runner cuts a message of more than 4,096 characters.
_LONGEST, _LONGEST_TITLE = 3_000, 200


def annotations(judged: Judged) -> list[str]:
    """Workflow commands to print, a line each: `::error` for cases that fail, `::warning` for what might have to.

    A case has one of each kind at most, with all its readings. Of more than ten cases of a kind the tenth says how
    many there are beyond it. What is better or new is no annotation.
    """
    failing = [found for found in judged.news if judged.fails(found)]
    doubtful = [found for found in judged.news if judged.warns(found)]
    return [*_commands("error", failing), *_commands("warning", doubtful)]


def _commands(kind: str, verdicts: Sequence[Verdict]) -> list[str]:
    cases: dict[str, list[Verdict]] = {}
    for found in verdicts:
        cases.setdefault(found.case, []).append(found)
    shown = list(cases.values())[:_MOST]
    more = len(cases) - len(shown)
    beyond = f"\n{more:,} more case{'' if more == 1 else 's'} with {kind}s: see the summary of the step."
    return [_command(kind, found, beyond if more and found is shown[-1] else "") for found in shown]


def _command(kind: str, verdicts: Sequence[Verdict], beyond: str) -> str:
    """`::error file=my_attn.py,line=12,title=...::message`"""
    first = verdicts[0]
    title = f"{first.case[:_LONGEST_TITLE]}: {first.outcome}"
    told = {"file": first.file, "line": str(first.line) if first.file and first.line > 0 else "", "title": title}
    properties = ",".join(f"{name}={_property(visible(value))}" for name, value in told.items() if value)
    return f"::{kind} {properties}::{_data(_message(verdicts) + beyond)}"


def _message(verdicts: Sequence[Verdict]) -> str:
    repro = next((found.repro for found in verdicts if found.repro), "")
    lines = [sentence(found) for found in verdicts] + ([f"Again: {repro}"] if repro else [])
    return "\n".join(map(visible, lines))[:_LONGEST]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def write_summary(judged: Judged, environ: Mapping[str, str], name: str = "") -> str | None:
    """Append the comment to the summary of the step, where GitHub Actions runs; else nothing.

    What is given back is a sentence about why it could not be written, to warn of and go on.
    """
    path = environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return None
    text = f"{comment(judged, name)}\n"
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            if file.tell() + size(text) > _MOST_SUMMARY:
                return f"the step's summary {path} is full: GitHub drops one of more than 1 MiB."
            file.write(text)
    except (OSError, ValueError) as error:
        return f"cannot write the step's summary {path}: {getattr(error, 'strerror', None) or error}."
    return None
