"""Nobody takes what is printed, since the disk is full or the reader has gone: what was measured is kept."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from survivor import instant_site, keys

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full to write to")

SIDES = range(4, 204)
CASES = ["-m", "se,eca", "--res", ",".join(map(str, SIDES))]
RUN = ["run", "--executor", "instant", *CASES, "-o", "r.jsonl", "-o", "t.csv"]


def attnbench(folder: Path, out: object, unbuffered: str, *words: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(instant_site(folder / "site")), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "attnbench", *words], cwd=folder, stdout=out, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": unbuffered},
    )  # type: ignore[call-overload,no-any-return]  # fmt: skip


def check_kept(folder: Path) -> None:
    assert len(keys((folder / "r.jsonl").read_bytes())) == 2 * len(SIDES)
    assert (folder / "t.csv").read_text().count("\n") == 1 + 2 * len(SIDES)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_table_that_has_no_room(tmp_path: Path, unbuffered: str) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = attnbench(tmp_path, full, unbuffered, *RUN)
        _, err = process.communicate()
    assert err == "attnbench: the system refused to go on: [Errno 28] No space left on device.\n"
    assert process.returncode == 2
    check_kept(tmp_path)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_table_whose_reader_has_gone(tmp_path: Path, unbuffered: str) -> None:
    process = attnbench(tmp_path, subprocess.PIPE, unbuffered, *RUN)
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate()
    assert err == ""
    assert process.returncode == 0
    check_kept(tmp_path)
