"""A sweep over a real Ray cluster of four nodes, three of which die meanwhile: every case once, and none lost."""

import json
import os
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from attnbench.core.store import load

SCRIPT = Path(__file__).with_name("ray_sweep.py")
COUNT = 200

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install 'attnbench[ray]'")


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    """In a process of its own, since Ray has threads, handlers and warnings."""
    folder = tmp_path_factory.mktemp("sweep")
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, str(SCRIPT), str(folder), str(COUNT)], capture_output=True, text=True,
                          env=env, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    *before, said = done.stdout.strip().splitlines()
    assert not before, "Ray spoke where tables and JSON go"
    return json.loads(said)["records"], folder


def test_each_case_is_there_once_though_nodes_died(sweep: tuple[list[dict[str, Any]], Path]) -> None:
    records, folder = sweep
    assert sorted(record["seed"] for record in records) == list(range(COUNT))
    kept = load(folder / "mine" / "kept.jsonl").records
    assert sorted(record.case.seed for record in kept) == list(range(COUNT))
    assert Counter(record["status"] for record in records) == {"ok": COUNT - 2, "unsupported": 1, "crashed": 1}
    assert len({record["node"] for record in records}) >= 3


def test_a_case_that_takes_two_nodes_with_it_is_a_crash_and_the_last_node_goes_on(
    sweep: tuple[list[dict[str, Any]], Path],
) -> None:
    (crash,) = [record for record in sweep[0] if record["status"] == "crashed"]
    assert crash["seed"] == COUNT // 2 + 1
    assert crash["reason"].startswith("2 machines were lost while they measured it: ")


def test_the_users_file_was_there_under_another_name_and_records_have_the_users_own(
    sweep: tuple[list[dict[str, Any]], Path],
) -> None:
    """The original was deleted when the first record came, and what lost its node was started again without it."""
    records, folder = sweep
    (told,) = [record for record in records if record["status"] == "unsupported"]
    *_, there = told["reason"].rpartition(" ")
    assert there[::-1].endswith("/naps.py")
    assert "attnbench-" in there[::-1]
    assert str(folder) not in there[::-1]
    assert {record["target"] for record in records} == {"../theirs/naps.py:Nap"}
    assert "attnbench-" not in (folder / "mine" / "kept.jsonl").read_text().replace(told["reason"], "")
    assert not (folder / "theirs").exists()
