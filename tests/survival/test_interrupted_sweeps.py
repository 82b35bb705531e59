"""Ctrl-C and SIGTERM at random moments: exit code 130, the table of what there is, every record kept, no torn line."""

import os
import random
import re
import signal
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import pytest
from survivor import Command, Moments, Strike, Toll, instant_site, keys, struck, torn_lines

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are of POSIX")

STRIKES = 20
SIZES = range(20, 60)
ENV = {"INSTANT_MS": "3", "INSTANT_NOTE": "100000", "INSTANT_DISK": "30000"}
_INTERRUPTED = 130


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instant_site(tmp_path_factory.mktemp("site"))


def commands(folder: Path, site: Path) -> Iterator[Command]:
    words = ["--executor", "instant", "-m", "se", "--res", ",".join(map(str, SIZES))]
    for number, lanes in enumerate(cycle(((), ("--devices", "cpu,cpu")))):
        yield Command([*words, *lanes], folder / f"{number}.jsonl", len(SIZES), {**ENV, "PYTHONPATH": str(site)})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_sweep_keeps_its_records_and_prints_them(
    number: signal.Signals, tmp_path: Path, site: Path
) -> None:
    fresh, moments = commands(tmp_path, site), Moments(random.Random(int(number)), start=0.5, late=0.15)
    found, command = Toll(), next(fresh)
    for _ in range(STRIKES):
        strike = struck(command, number, moments)
        found.add(strike)
        check(strike, number, *command.said())
        if len(keys(strike.after)) == len(SIZES):
            found.close(command, 0)
            command = next(fresh)
    found.close(command, command.start().wait())
    assert (found.lost, found.twice, found.torn, found.failures) == (0, 0, 0, [])


def check(strike: Strike, number: signal.Signals, out: str, err: str) -> None:
    stored = len(keys(strike.after))
    assert strike.lost == 0
    assert torn_lines(strike.after) == []
    if stored == len(SIZES):  # it came while the table was being printed, or when all was over
        assert strike.code in (0, _INTERRUPTED, -number), err
    elif strike.phase == "start":  # perhaps before anybody could hear it
        assert strike.code in (_INTERRUPTED, -number) or "init_import_site" in err, err
    else:
        assert strike.code == _INTERRUPTED, err
        told = re.search(r"^(\d+) records? in ", err, re.MULTILINE)
        shown = int(told[1]) if told else 0
        # The signal may come in the moment between a record's being kept and its being counted.
        assert stored - 1 <= shown <= stored, err
        assert out.count("\nse ") == shown
        assert err.endswith("attnbench: interrupted; what was measured is kept.\n")
