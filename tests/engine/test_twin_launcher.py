"""What is asked of the workers for a launch, and what becomes of twins that fail, or cannot share a process."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from attnbench.core.case import Case
from attnbench.engine.gate.duel import Duel, Failed, Launch, Side
from attnbench.engine.gate.thresholds import Threshold
from attnbench.engine.gate.twin_launcher import TwinLauncher, layout
from attnbench.engine.workers.channels import Event, WorkerDied
from attnbench.metrics.timing.paired import Pairing

CASE = Case("mine.py:Mine", layout="bnc", tokens=64, dim=32)
BASE = {"top": "/top", "root": "/root"}
DUEL = Duel("mine", Side(CASE, BASE), Side(CASE), Threshold(0.05, 0.01))


@dataclass
class Workers:
    """Answers `twins` by what the two sides are called: base, head, or a yardstick; `steps` are their milliseconds.

    Sides whose names are in `failing` end with that status, and base and head in one process in `together`.
    """

    steps: dict[str, float] = field(default_factory=lambda: {"base": 2.0, "head": 3.0, "yardstick": 1.0})
    failing: dict[str, str] = field(default_factory=dict)
    together: str = ""
    processes: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    how: list[dict[str, float]] = field(default_factory=list)

    def fresh(self) -> None:
        self.processes += 1

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        names = tuple(map(name_of, request["sides"]))
        self.asked.append(names)
        self.how.append(request["how"])
        if self.together and set(names) == {"base", "head"}:
            yield {"event": "done", "status": self.together, "reason": "both define the operator mine::mix"}
            return
        for which, name in enumerate(names):
            yield {"event": "standing", "which": which}
            if name in self.failing:
                if self.failing[name] == "dies":
                    raise WorkerDied("crashed", "it crashed the worker process")
                yield {"event": "done", "status": self.failing[name], "reason": f"{name} does not run"}
                return
        yield {"event": "standing", "which": None}
        first, second = (self.steps[name] for name in names)
        change = math.log(second / first)
        yield {"event": "quads", "log_ratios": [change], "first_ms": first, "second_ms": second, "clock": "cpu",
               "median": change, "error": 0.001}  # fmt: skip
        yield {"event": "done", "status": "ok", "reason": ""}

    def close(self) -> None:
        return


def name_of(side: Event) -> str:
    if side["case"]["target"].startswith("yardstick:"):
        return "yardstick"
    return "base" if side["version"] else "head"


def test_both_sides_are_in_one_process_the_baseline_first() -> None:
    workers = Workers()
    found = TwinLauncher(workers).launch(DUEL, 1, harder=False)
    assert isinstance(found, Launch)
    assert workers.asked == [("base", "head")] and workers.processes == 0
    assert found.told.log_ratio == pytest.approx(math.log(1.5))
    assert (found.baseline_ms, found.candidate_ms) == (2.0, 3.0)


def test_a_suspicion_is_timed_for_longer() -> None:
    workers = Workers()
    launcher = TwinLauncher(workers, how=Pairing(seconds=1.0, fewest=20))
    for harder in (False, True):
        launcher.launch(DUEL, 1, harder=harder)
    assert [(how["seconds"], how["fewest"]) for how in workers.how] == [(1.0, 20), (1.5, 30)]


@pytest.mark.parametrize("seed", [1, 2])
def test_versions_that_clash_take_turns_in_processes_of_their_own(seed: int) -> None:
    workers = Workers(together="clash")
    launcher = TwinLauncher(workers)
    found = launcher.launch(DUEL, seed, harder=False)
    assert isinstance(found, Launch)
    assert set(workers.asked[1:]) == {("yardstick", "base"), ("yardstick", "head")} and workers.processes == 3
    assert found.told.log_ratio == pytest.approx(math.log(1.5))
    assert found.told.error > 0.015  # two processes differ by more than twins
    assert (found.baseline_ms, found.candidate_ms) == (2.0, 3.0)
    assert launcher.apart == {"mine": "both define the operator mine::mix"}
    launcher.launch(DUEL, seed, harder=False)
    assert len(workers.asked) == 5  # they are not put together again


def test_the_order_of_turns_is_by_chance() -> None:
    orders = []
    for seed in (1, 2):
        workers = Workers(together="clash")
        TwinLauncher(workers).launch(DUEL, seed, harder=False)
        orders.append([name for _, name in workers.asked[1:]])
    assert orders == [["base", "head"], ["head", "base"]]


@pytest.mark.parametrize(("side", "which"), [("base", 0), ("head", 1)])
@pytest.mark.parametrize("status", ["oom", "dies"])
def test_the_side_that_fails_is_named_and_the_other_is_tried(side: str, which: int, status: str) -> None:
    workers = Workers(failing={side: status})
    found = TwinLauncher(workers).launch(DUEL, 1, harder=False)
    assert isinstance(found, Failed)
    assert (found.which, found.other) == (which, None)
    assert found.status == ("crashed" if status == "dies" else status)
    other = {"base": "head", "head": "base"}[side]
    assert workers.asked == [("base", "head"), (other, other)]


def test_what_neither_side_can_is_said_of_both() -> None:
    found = TwinLauncher(Workers(failing={"base": "oom", "head": "oom"})).launch(DUEL, 1, harder=False)
    assert found == Failed(0, "oom", "base does not run", Failed(1, "oom", "head does not run"))


def test_a_side_that_fails_in_turns_is_named_and_a_yardstick_is_no_side() -> None:
    found = TwinLauncher(Workers(together="clash", failing={"head": "oom"})).launch(DUEL, 1, harder=False)
    assert found == Failed(1, "oom", "head does not run")
    found = TwinLauncher(Workers(together="clash", failing={"yardstick": "oom"})).launch(DUEL, 1, harder=False)
    assert isinstance(found, Failed) and found.which is None


def test_tunables_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    assert layout() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=1")
    assert layout() == {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"}
