"""What tests of a check share: a scratch repository in the current folder, and a runner that is made by hand."""

from pathlib import Path

import pytest
from check_repository import OTHER, SMALL, SUITE, Here, Says, Slower, git

from attnbench.engine.gate import twin_launcher
from attnbench.engine.gate.duel import Failed
from attnbench.engine.workers import channels


@pytest.fixture
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the user's git, nor a runner of GitHub's that the tests may run on."""
    for name in ("GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "A")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "a@b")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")


@pytest.fixture
def repository(cli, no_surroundings: None, tmp_path: Path) -> Path:
    """The current folder, with two modules and a suite of both in its one commit."""
    Path("small.py").write_text(SMALL)
    Path("other.py").write_text(OTHER)
    Path("suite.toml").write_text(SUITE)
    git("init", "--quiet", "--initial-branch", "main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    return tmp_path


@pytest.fixture
def slower(monkeypatch: pytest.MonkeyPatch, repository: Path) -> Slower:
    """`slower(Small=0.5)`: what is said of the latencies. Gives the names of the cases that are timed from then on."""
    monkeypatch.setattr(channels, "WorkerChannel", Here)
    monkeypatch.setattr(twin_launcher, "TwinLauncher", Says)

    def say(**changes: float | Failed) -> list[str]:
        monkeypatch.setattr(Says, "slower", changes)
        monkeypatch.setattr(Says, "asked", [])
        return Says.asked

    say()
    return say
