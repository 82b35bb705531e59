"""Launches against a stored baseline: what they say, what makes them worth nothing, and the errors of a whole check."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from canned_machine import Machine

from attnbench.core.case import Case
from attnbench.core.record import Record
from attnbench.core.surroundings import Surroundings
from attnbench.engine.gate.baseline import Baseline, Line
from attnbench.engine.gate.calm import best_loop, unrest
from attnbench.engine.gate.contest import Contest
from attnbench.engine.gate.duel import Failed, Launch
from attnbench.engine.gate.stored import (
    LIMITS,
    Against,
    StoredLauncher,
    against,
    stored_duel,
)
from attnbench.engine.gate.thresholds import Threshold, margin_for
from attnbench.engine.gate.update import made
from attnbench.engine.gate.yardsticks import YARDSTICKS, shape_for
from attnbench.engine.workers.channels import InlineChannel
from attnbench.metrics.timing.paired import Pairing

SOFTMAX, LINEAR = YARDSTICKS
CASE = Case("self_attn", layout="bchw", height=32, width=32, tokens=1024, dim=64)
LINE = Line(CASE, shape=(1, 1024, 64), log_ratios={SOFTMAX: (math.log(2), math.log(2)), LINEAR: (math.log(4),) * 2},
            step_ms=4.0, yardstick_ms={SOFTMAX: 2.0, LINEAR: 1.0})  # fmt: skip
STEADY = {SOFTMAX: 2.0, LINEAR: 1.0, "self_attn": 4.0}
THRESHOLD = Threshold(0.05, margin_for(0.05))


def launch(machine: Machine, line: Line = LINE, loop_us: float | None = None) -> Launch:
    launcher = StoredLauncher(machine, Baseline({}, (line,), loop_us=loop_us))
    launcher.fresh()
    found = launcher.launch(stored_duel("self_attn", line, THRESHOLD), 0, harder=False)
    assert isinstance(found, Launch)
    return found


def test_the_same_step_on_a_faster_machine_is_no_change() -> None:
    found = launch(Machine({target: ms / 3 for target, ms in STEADY.items()}))
    assert found.told.log_ratio == pytest.approx(0)
    assert found.candidate_ms == pytest.approx(4 / 3)
    assert found.told.doubt == pytest.approx(0) and found.disturbed == ""


def test_a_slower_step_is_slower_by_what_both_yardsticks_say() -> None:
    found = launch(Machine(STEADY | {"self_attn": 4.4}))
    assert found.told.log_ratio == pytest.approx(math.log(1.1))
    assert found.baseline_ms == pytest.approx(4.0) and found.candidate_ms == pytest.approx(4.4)


def test_yardsticks_that_disagree_are_a_doubt_of_half_of_it() -> None:
    found = launch(Machine(STEADY | {SOFTMAX: 2.02}))
    assert found.told.log_ratio == pytest.approx(-math.log(1.01) / 2)
    assert found.told.doubt == pytest.approx(math.log(1.01) / 2)


def test_what_the_stored_launches_differ_by_is_an_error_and_their_mean_a_doubt() -> None:
    ratios = {SOFTMAX: tuple(math.log(2) + each for each in (0.01, -0.01, 0.01, -0.01)), LINEAR: (math.log(4),) * 4}
    line = replace(LINE, log_ratios=ratios)
    found = launch(Machine(STEADY), line)
    assert line.spread == pytest.approx(0.005774, rel=1e-3)
    assert found.told.error == pytest.approx(line.spread)
    assert found.told.doubt == pytest.approx(line.spread / 2)
    assert launch(Machine(STEADY, error=0.02), line).told.error == pytest.approx(0.02 / math.sqrt(2))


@pytest.mark.parametrize(
    "machine, words",
    [(Machine(STEADY, load=lambda number: 1.0, slowing=0.0), "other programs were busy"),
     (Machine(STEADY, reasons=("sw_thermal",)), "held down or shared (sw_thermal)"),
     (Machine(STEADY, loop_us=100.0), "slower than it can be"),
     (Machine(STEADY, clock="wall"), "only the wall time was to be had, and the cpu time is stored"),
     (Machine({target: 1.3 * ms for target, ms in STEADY.items()}), "the yardsticks took longer than they can"),
     (Machine(STEADY | {LINEAR: 1.05}), "moved against each other")],
)  # fmt: skip
def test_what_disturbs_a_launch_is_said(machine: Machine, words: str) -> None:
    machine.fresh()
    assert words in launch(machine, loop_us=70.0).disturbed


def test_a_core_that_was_faster_in_an_earlier_launch_is_slow_now() -> None:
    machine = Machine(STEADY)
    launcher = StoredLauncher(machine, Baseline({}, (LINE,)))
    found = []
    for machine.loop_us in (80.0, 60.0, 80.0):
        launcher.fresh()
        found.append(launcher.launch(stored_duel("self_attn", LINE, THRESHOLD), 0, harder=False))
    assert [isinstance(each, Launch) and bool(each.disturbed) for each in found] == [False, False, True]


def test_yardsticks_that_were_faster_in_an_earlier_launch_are_slow_now() -> None:
    """By 20 % another machine of the kind may be slower, but not this one than it was a moment ago."""
    machine = Machine(STEADY)
    launcher = StoredLauncher(machine, Baseline({}, (LINE,)))
    disturbed = []
    for slower in (1.2, 1.05, 1.2):
        machine.ms = {target: slower * ms for target, ms in STEADY.items()}
        found = launcher.launch(stored_duel("self_attn", LINE, THRESHOLD), 0, harder=False)
        assert isinstance(found, Launch)
        disturbed.append(bool(found.disturbed))
    assert disturbed == [False, False, True]


def test_a_failure_is_the_cases_own_or_nobodys() -> None:
    for failing, which in (("self_attn", 1), (LINEAR, None)):
        launcher = StoredLauncher(Machine(STEADY, failing=failing), Baseline({}, (LINE,)))
        found = launcher.launch(stored_duel("self_attn", LINE, THRESHOLD), 0, harder=False)
        assert isinstance(found, Failed) and (found.which, found.status) == (which, "oom")


def test_the_yardstick_is_of_the_cases_dtype_device_and_mode() -> None:
    machine = Machine(STEADY)
    case = CASE.with_(mode="bwd", dtype="bf16", device="cuda:0", engine="compile", backend="math")
    against(machine, case, (2, 512, 32), YARDSTICKS, Pairing(), 0, None)
    first, second = (Case.from_dict(side["case"]) for side in machine.asked[0]["sides"])
    assert second == case
    assert (first.target, first.mode, first.dtype, first.device) == (SOFTMAX, "fwd_bwd", "bf16", "cuda:0")
    assert (first.batch_size, first.tokens, first.dim, first.engine, first.backend) == (2, 512, 32, "eager", None)


@pytest.mark.parametrize(
    "change, shape",
    [({}, (1, 1024, 64)), ({"tokens": 16, "dim": 8, "batch_size": 64}, (4, 256, 32)),
     ({"tokens": 10**6, "dim": 4096}, (1, 1024, 128)), ({"device": "cuda"}, (1, 1024, 64)),
     ({"device": "cuda", "tokens": 10**6, "dim": 4096}, (1, 4096, 256)),
     ({"kind": "network", "dim": None}, (1, 1024, 64))],
)  # fmt: skip
def test_the_yardsticks_have_the_shape_of_the_case_within_bounds(
    change: dict[str, Any], shape: tuple[int, ...]
) -> None:
    assert shape_for(CASE.with_(**change)) == shape


def test_a_little_of_a_large_machine_disturbs_nobody() -> None:
    assert unrest([Surroundings(1.0)], "cpu", cores=2) and not unrest([Surroundings(1.0)], "cpu", cores=16)
    assert unrest([Surroundings(2.0)], "cpu", cores=16) and not unrest([Surroundings(2.0)], "cuda", cores=16)
    assert not unrest([Surroundings()], "cpu", 70.0) and not unrest([], "cpu")
    assert best_loop([Surroundings(), Surroundings(0.0, 80.0)], 90.0) == 80.0 and best_loop([]) is None


def _checked(before: Machine, now: Machine, cases: int = 10) -> Counter[str]:
    """What becomes of ten cases in a check of `now` against a baseline that was made on `before`."""
    records = [Record(CASE.with_(target=f"case {number}"), "ok") for number in range(cases)]
    baseline = made(records, before, {})
    hours = iter(range(10**6))
    duels = [stored_duel(line.case.target, line, THRESHOLD) for line in baseline.lines]
    contest = Contest(
        duels, None, StoredLauncher(now, baseline), LIMITS, clock=lambda: 5.5 * next(hours), seed=now.seed
    )
    contest.run()
    return Counter(decision.answer for decision in contest.decisions)


def _ten(factor: float = 1.0) -> dict[str, float]:
    return {SOFTMAX: 2.0, LINEAR: 1.0} | {f"case {number}": 3.0 * factor for number in range(10)}


def _over(machine: Callable[[int], Machine], checks: int) -> Counter[str]:
    found: Counter[str] = Counter()
    for seed in range(checks):
        found += _checked(Machine(_ten(), 0.007, seed), machine(1000 + seed))
    return found


def test_without_a_change_nothing_fails_and_what_is_slower_is_found() -> None:
    """With what a launch was measured to differ by from the next on a quiet machine."""
    assert _over(lambda seed: Machine(_ten(), 0.007, seed), 10)["same"] >= 98
    found = _over(lambda seed: Machine(_ten(1.05), 0.007, seed), 10)
    assert found["worse"] >= 90 and found["worse"] + found["undecided"] == 100
    assert _over(lambda seed: Machine(_ten(1.1), 0.007, seed), 10)["worse"] >= 99


def test_beside_others_nothing_fails() -> None:
    """What they slow is each kind of step by its own: by 2 % where they can be seen, and all else is right."""
    found = _over(lambda seed: Machine(_ten(), 0.007, seed, load=lambda number: 1.0, slowing=0.02), 10)
    assert found == {"undecided": 100}


def test_what_cannot_be_seen_and_slows_a_little_fails_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Against, "unrest", lambda self, device, loop_us: "")
    found = _over(lambda seed: Machine(_ten(), 0.007, seed, load=lambda number: 1.0, slowing=0.01), 10)
    assert found["worse"] == 0


def test_others_who_come_and_go_cost_launches_and_no_answer() -> None:
    found = _over(lambda seed: Machine(_ten(), 0.007, seed, load=lambda number: 1.0 * (number % 3 == 0)), 10)
    assert found["worse"] == 0 and found["same"] >= 95


class _OneProcess(InlineChannel):
    """Answers here: a fresh process would cost the test three seconds."""

    def fresh(self) -> None:
        return


def test_a_real_case_beside_real_yardsticks() -> None:
    short = Pairing(fewest=5, most=5, seconds=0.05)
    found = against(_OneProcess(), CASE.with_(height=16, width=16, tokens=256, dim=32), (1, 256, 32), YARDSTICKS, short,
                    0, None)  # fmt: skip
    assert isinstance(found, Against)
    assert set(found.log_ratios) == set(YARDSTICKS) and found.step_ms > 0
    for launched in found.launches.values():
        assert launched.told.log_ratio == pytest.approx(math.log(launched.candidate_ms / launched.baseline_ms), abs=0.7)
        assert launched.around.loop_us is not None and launched.around.loop_us > 1
