"""A command line in this process, in a folder of its own: exit code, standard output, standard error."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Cli, Outcome

from attnbench.cli import _code

# Workers side by side with as many threads each as there are cores stand in each other's way.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


# Files that take minutes, the longest first.
_LONG = ("test_readme", "test_cli_audit", "test_killed_sweeps")


def _place(item: pytest.Item) -> int:
    return next((place for place, name in enumerate(_LONG) if name in item.nodeid), len(_LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: one worker has to run all of a file, and the others must not wait for it at the end.

    What needs a GPU is left out where workers would share it: they would take each other's memory and time.
    """
    items.sort(key=_place)
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1:
        alone = pytest.mark.skip(reason="a GPU is measured by one process at a time: pytest -n 0 -m gpu")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(alone)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """`--threads` with `--no-isolate` is for the whole process: the next test has as many as it would have alone."""
    torch: Any = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    yield
    if before and torch.get_num_threads() != before:
        torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def kept_roofs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The peaks that this session measures are kept in a folder of its own, and not in the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`cli("run", "-m", "se")`; `--no-isolate` keeps it in this process, which has torch loaded already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def call(*words: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["attnbench", *words])
        code = _code()
        captured = capfd.readouterr()
        return Outcome(code, captured.out, captured.err)

    yield call
