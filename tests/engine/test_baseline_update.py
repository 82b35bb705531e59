"""How a stored baseline is made and refreshed: calm launches only, a noisy machine refused, few lines changed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from canned_machine import Machine

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Reading, Record
from attnbench.engine.gate.baseline import Baseline
from attnbench.engine.gate.update import LAUNCHES, made, refreshed
from attnbench.engine.gate.yardsticks import YARDSTICKS

ENV = {"device_name": "Xeon", "torch": "2.8.0", "load_average": 1.0}
CASE = Case("self_attn", layout="bchw", height=32, width=32, tokens=1024, dim=64)
OTHER = CASE.with_(target="linear_attn")


def record(case: Case, status: str = "ok", params: int = 7) -> Record:
    return Record(case, status, "" if status == "ok" else "it is too large",
                  (Reading("static.params", params, "count", "same", "Params"),), env=ENV)  # fmt: skip


def machine(spread: float = 0.005, seed: int = 0, slower: float = 1.0) -> Machine:
    return Machine(dict.fromkeys(YARDSTICKS, 1.0) | {"self_attn": 3.0 * slower, "linear_attn": 2.0}, spread, seed)


def base(*cases: Case, **changes: object) -> Baseline:
    return made([record(case) for case in cases or (CASE, OTHER)], machine(**changes), ENV)  # type: ignore[arg-type]


def test_a_baseline_has_a_launch_in_each_of_twelve_fresh_processes() -> None:
    channel = machine()
    found = made([record(CASE), record(OTHER)], channel, ENV)
    assert channel.processes == LAUNCHES == 12
    assert found.env == {"device_name": "Xeon", "torch": "2.8.0"}
    line = found.line(CASE)
    assert line is not None and line.figures == {"static.params": 7} and line.shape == (1, 1024, 64)
    assert [len(each) for each in line.log_ratios.values()] == [12, 12]
    assert line.step_ms == pytest.approx(3.0, rel=0.02) and line.clock == "cpu" and found.loop_us == 70.0


def test_the_cases_of_a_process_come_in_another_order_each_time() -> None:
    channel = machine()
    made([record(CASE), record(OTHER)], channel, ENV)
    assert len({request["sides"][1]["case"]["target"] for request in channel.asked[::4]}) == 2


def test_what_did_not_end_well_is_kept_with_its_status_and_not_timed() -> None:
    channel = machine()
    channel.failing = "linear_attn"
    found = made([record(CASE, "unsupported"), record(OTHER)], channel, ENV)
    lines = {line.case.target: line for line in found.lines}
    assert (lines["self_attn"].status, lines["self_attn"].reason) == ("unsupported", "it is too large")
    assert (lines["linear_attn"].status, lines["linear_attn"].reason) == ("oom", "too large")
    assert not any(line.is_timed for line in found.lines) and channel.processes == 1


def test_disturbed_launches_are_taken_again() -> None:
    channel = machine()
    channel.load = lambda number: 1.5 * (number % 3 == 0)
    line = made([record(CASE)], channel, ENV).line(CASE)
    assert line is not None and len(line.launches) == 12 and channel.processes == 17


def test_a_machine_with_others_on_it_is_refused_soon() -> None:
    channel = machine()
    channel.load = lambda number: 1.5
    with pytest.raises(CannotJudgeError, match=r"noisy .*in 5 of 5 processes other programs were busy; end"):
        made([record(CASE)], channel, ENV)
    assert channel.processes == 5


def test_a_machine_that_is_disturbed_more_often_than_not_is_refused() -> None:
    channel = machine()
    channel.load = lambda number: 1.5 * (number % 4 != 0)
    with pytest.raises(CannotJudgeError, match=r"in 13 of 17 processes"):
        made([record(CASE)], channel, ENV)


def test_a_launch_that_a_later_one_shows_to_have_been_slow_is_put_aside() -> None:
    class SlowFirst(Machine):
        def fresh(self) -> None:
            super().fresh()
            if self.processes <= 3:
                self._process = {target: slow + 0.2 for target, slow in self._process.items()}

    channel = SlowFirst(machine().ms, 0.002)
    line = made([record(CASE)], channel, ENV).line(CASE)
    assert line is not None and len(line.launches) == 12 and channel.processes == 15
    assert line.yardstick_ms[YARDSTICKS[0]] == pytest.approx(1.0, abs=0.01)


def test_launches_that_differ_too_much_are_refused() -> None:
    with pytest.raises(CannotJudgeError, match=r"from process to process self_attn 32x32 differs by [345]\.?\d* %"):
        base(CASE, spread=0.028)


def test_a_baseline_of_few_launches_is_refused() -> None:
    with pytest.raises(UsageError, match="4 launches"):
        made([record(CASE)], machine(), ENV, launches=4)


def test_an_update_of_what_has_not_changed_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    base().write(path)
    old = Baseline.load(path)
    assert refreshed(old, base(seed=1)) is old


def test_an_update_changes_the_line_that_changed_alone(tmp_path: Path) -> None:
    before, after = tmp_path / "before.jsonl", tmp_path / "after.jsonl"
    base().write(before)
    refreshed(Baseline.load(before), base(seed=1, slower=1.05)).write(after)
    old, new = (path.read_text().splitlines() for path in (before, after))
    changed = [json.loads(line)["case"]["target"] for line in set(new[1:]) - set(old[1:])]
    assert changed == ["self_attn"]


def test_another_figure_is_a_change_although_the_time_is_the_same() -> None:
    new = made([record(CASE, params=8)], machine(seed=1), ENV)
    line = refreshed(base(CASE), new).line(CASE)
    assert line is not None and line.figures == {"static.params": 8}


def test_cases_that_were_not_asked_for_stay(tmp_path: Path) -> None:
    old = base()
    found = refreshed(old, base(CASE, seed=1, slower=1.5))
    assert found.line(OTHER) is old.line(OTHER) and found.line(CASE) is not old.line(CASE)


def test_lines_of_two_kinds_of_machine_are_not_mixed() -> None:
    other = replace(base(CASE, seed=1), env=ENV | {"torch": "2.9.0"})
    with pytest.raises(CannotJudgeError, match=r"torch 2.8, and this is torch 2.9, and 1 of its cases .*linear_attn"):
        refreshed(base(), other)
    assert refreshed(base(CASE), other) is other
    with pytest.raises(CannotJudgeError, match="other yardsticks"):
        refreshed(replace(base(), yardsticks=("yardstick:old-0",)), base(CASE))
