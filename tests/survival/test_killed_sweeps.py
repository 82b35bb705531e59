"""A sweep that is killed at two hundred random moments and resumed each time has every case once, and lost none."""

import os
import random
from itertools import cycle
from pathlib import Path

import pytest
from survivor import Command, Moments, Toll, instant_site, toll

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is of POSIX")

KILLS = 200
SIZES = range(20, 60)
# Records of a hundred KiB that take the disk some milliseconds: as long as a case, so that as many kills fall into
# the write of a record as between two.
ENV = {"INSTANT_MS": "3", "INSTANT_NOTE": "100000", "INSTANT_DISK": "30000"}
LANES: tuple[tuple[str, ...], ...] = ((), ("--devices", "cpu,cpu"))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Toll:
    folder = tmp_path_factory.mktemp("killed")
    site, lanes = instant_site(folder / "site"), cycle(LANES)

    def fresh(number: int) -> Command:
        words = ["--executor", "instant", "-m", "se", "--res", ",".join(map(str, SIZES)), *next(lanes)]
        return Command(words, folder / f"{number}.jsonl", len(SIZES), {**ENV, "PYTHONPATH": str(site)})

    return toll(fresh, KILLS, Moments(random.Random(2026), start=0.4, late=0.15))


def test_no_case_is_lost_and_none_is_there_twice(found: Toll) -> None:
    assert found.kills.total() == KILLS
    assert found.failures == []
    assert found.lost == 0
    assert found.twice == 0
    assert found.records == found.sweeps * len(SIZES)


def test_the_kills_fell_everywhere(found: Toll) -> None:
    print(found)  # noqa: T201 - how many fell where, for whoever asks with -s
    assert {"start", "between", "inside"} <= found.kills.keys()
    assert found.sweeps > 1


def test_each_line_that_a_kill_cut_short_was_named(found: Toll) -> None:
    assert 0 < found.torn <= found.kills["inside"]
    assert found.unsaid == 0


def test_a_kill_in_the_first_write_of_all_leaves_a_file_that_can_be_resumed(tmp_path: Path) -> None:
    store = tmp_path / "r.jsonl"
    store.write_bytes(b'{"schema":1,"key":"0c')
    site = instant_site(tmp_path / "site")
    command = Command(["--executor", "instant", "-m", "se", "--res", "4"], store, 1, {"PYTHONPATH": str(site)})
    whole = Toll()
    whole.close(command, command.start().wait())
    assert (whole.records, whole.lost, whole.twice, whole.torn, whole.unsaid, whole.failures) == (1, 0, 0, 1, 0, [])
