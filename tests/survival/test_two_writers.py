"""Two runs and one file: what they append stands there whole, and two that resume do not measure the same twice."""

import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from survivor import Command, instant_site, keys, torn_lines

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing keeps two processes apart there")

SIZES = range(20, 60)
ENV = {"INSTANT_MS": "5", "INSTANT_NOTE": "100000", "INSTANT_DISK": "30000"}
WORDS = ["--executor", "instant", "-m", "se", "--res", ",".join(map(str, SIZES))]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**ENV, "PYTHONPATH": str(instant_site(tmp_path / "site"))}


def test_a_file_that_is_being_resumed_is_not_resumed_a_second_time(tmp_path: Path, env: dict[str, str]) -> None:
    store = tmp_path / "r.jsonl"
    (tmp_path / "link.jsonl").symlink_to(store)
    gate = tmp_path / "gate"
    gate.touch()
    store.write_bytes(b"{")
    first = Command(WORDS, store, len(SIZES), {**env, "INSTANT_GATE": str(gate)})
    second = Command(WORDS, tmp_path / "link.jsonl", len(SIZES), env)  # the same file by another name
    process = first.start()
    while not first.said()[1]:  # that the first line is set aside: it has begun
        time.sleep(0.001)
    assert second.start().wait() == 2
    said = second.said()[1]
    assert said.startswith(f"attnbench: another run is writing to {second.store}, and --resume goes on only where")
    assert said.count("\n") == 1
    gate.unlink()
    assert process.wait() == 0
    assert max(Counter(keys(first.stored())).values()) == 1
    assert len(keys(first.stored())) == len(SIZES)
    assert second.start().wait() == 0  # its turn has come
    assert re.search(rf"^{len(SIZES)} records in .*, {len(SIZES)} of them from before$", second.said()[1], re.MULTILINE)


def test_whoever_starts_at_the_same_moment_resumes_alone(tmp_path: Path, env: dict[str, str]) -> None:
    store = tmp_path / "r.jsonl"
    processes = [Command(WORDS, store, len(SIZES), env).start() for _ in range(3)]
    codes = sorted(process.wait() for process in processes)
    assert codes[0] == 0
    assert set(codes) <= {0, 2}  # 0 as well for one that was late enough to find everything done
    assert sorted(Counter(keys(store.read_bytes())).values()) == [1] * len(SIZES)
    assert torn_lines(store.read_bytes()) == []


def test_runs_that_only_append_to_the_same_file_stand_there_whole(tmp_path: Path, env: dict[str, str]) -> None:
    paths = {**os.environ, **env}
    words = [sys.executable, "-m", "attnbench", "run", *WORDS, "-o", "r.jsonl", "--quiet"]
    both = [subprocess.Popen(words, cwd=tmp_path, env=paths, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    data = (tmp_path / "r.jsonl").read_bytes()
    assert torn_lines(data) == []
    assert sorted(Counter(keys(data)).values()) == [2] * len(SIZES)
