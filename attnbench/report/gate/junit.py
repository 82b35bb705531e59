"""A check as JUnit XML, which GitLab, Jenkins and most other CI services show: a suite of readings, case by case."""

import re
from collections import Counter
from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from attnbench.report.gate.judged import Judged
from attnbench.report.gate.verdict import Verdict
from attnbench.report.gate.wording import sentence

__all__ = ["junit"]

_SUITE = "attnbench check"
# What no XML 1.0 file may hold, not even written as a number.
_FORBIDDEN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(judged: Judged) -> str:
    """A test for each reading of each case, named alike from check to check.

    It fails where the check does for its sake. What is undecided or new, or would fail a stricter check, is skipped
    with its reason; what is the same or better passes. That nothing was compared is an error.
    """
    tests = list(_tests(judged))
    counts = _attributes(judged, tests)
    suites = Element("testsuites", {"name": _SUITE, **counts})
    suite = SubElement(suites, "testsuite", {"name": _SUITE, **counts})
    del suites.attrib["skipped"]  # which Jenkins' schema knows of a suite alone
    suite.append(_properties(judged))
    suite.extend(tests)
    SubElement(suite, "system-out").text = _allowed("\n".join([judged.headline, *judged.circumstances]))
    ElementTree.indent(suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(suites, encoding="unicode")}\n'


def _attributes(judged: Judged, tests: list[Element]) -> dict[str, str]:
    plural = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    found = {name: sum(test.find(tag) is not None for test in tests) for name, tag in plural.items()}
    return {"tests": str(len(tests)), **{name: str(count) for name, count in found.items()},
            "time": f"{judged.seconds:.3f}"}  # fmt: skip


def _properties(judged: Judged) -> Element:
    told = {"baseline": judged.baseline, "candidate": judged.candidate, "threshold": str(judged.threshold),
            "fail_on": ",".join(judged.failing), "warn_only": str(judged.warn_only).lower(),
            "machine": judged.machine, "command": judged.command}  # fmt: skip
    properties = Element("properties")
    for name, value in told.items():
        SubElement(properties, "property", {"name": name, "value": _allowed(value)})
    return properties


def _tests(judged: Judged) -> Iterator[Element]:
    names: Counter[tuple[str, str]] = Counter()
    for found in judged.verdicts:
        name = (found.case, found.title or "Case")
        names[name] += 1
        # Readers take two tests of one name for one.
        yield _test(judged, found, name[1] if names[name] == 1 else f"{name[1]} ({names[name]})")
    if not judged.verdicts:
        nothing = Element("testcase", {"classname": _SUITE, "name": "Compared", "time": "0"})
        SubElement(nothing, "skipped" if judged.warn_only else "error", {"message": judged.headline})
        yield nothing


def _test(judged: Judged, found: Verdict, name: str) -> Element:
    test = Element("testcase", {"classname": _allowed(found.case), "name": _allowed(name), "time": "0"})
    if found.file:
        test.set("file", _allowed(found.file))
    told, figures = _allowed(sentence(found)), _allowed(_figures(found))
    if judged.fails(found):
        SubElement(test, "failure", {"message": told, "type": found.outcome}).text = figures
        return test
    if judged.warns(found) or found.outcome == "new":
        SubElement(test, "skipped", {"message": told})
    SubElement(test, "system-out").text = figures
    return test


def _figures(found: Verdict) -> str:
    """All figures to the last digit, a line for each."""
    ratio = found.ratio and f"{found.ratio.value} ({found.ratio.low} to {found.ratio.high})"
    told = {"outcome": found.outcome, "baseline": found.baseline, "candidate": found.candidate, "ratio": ratio,
            "threshold": found.threshold, "launches": " ".join(map(str, found.launches)) or None,
            "reason": found.reason or None, "again": found.repro or None}  # fmt: skip
    return "\n".join(f"{name}: {value}" for name, value in told.items() if value is not None)


def _allowed(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
