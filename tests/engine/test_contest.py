"""Contests on a runner made by hand: false failures and detections of whole suites, and each way to an answer."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from simulated_launcher import CONTROL, Asked, Draw, Simulated, duel, heavy, normal

from attnbench.core.sequential import Decision, Told
from attnbench.engine.gate.contest import Contest, Limits
from attnbench.engine.gate.duel import Duel, Failed, Launch

SUITE = tuple(f"case {number}" for number in range(10))


def contest(launcher: Simulated, *duels: Duel, limits: Limits | None = None, control: Duel | None = CONTROL) -> Contest:
    made = Contest(duels, control, launcher, limits, clock=launcher.clock, seed=launcher.seed)
    made.run()
    return made


def decided(launcher: Simulated, *duels: Duel, limits: Limits | None = None) -> Decision:
    """What is decided of the first duel, by default of one of 1 % and 5 %."""
    return contest(launcher, *(duels or (duel("one"),)), limits=limits).decisions[0]


def answers(launcher: Simulated, *, margin: float = 0.01, tolerance: float = 0.05) -> dict[str, str]:
    """Of a suite of ten."""
    made = contest(launcher, *(duel(name, margin, tolerance) for name in SUITE))
    return {name: decision.answer for name, decision in zip(SUITE, made.decisions, strict=True)}


def disturbed(by: str) -> Launch:
    return Launch(Told(9.0, 0.001), 2.0, 2.0, "cpu", disturbed=by)


# --- Errors of whole suites


@pytest.mark.parametrize("draw", [normal, heavy])
@pytest.mark.parametrize("spread", [0.005, 0.03])
def test_no_suite_of_equals_fails(draw: Draw, spread: float) -> None:
    found = [answers(Simulated(spread=spread, draw=draw, seed=seed)) for seed in range(300)]
    assert sum("worse" in each.values() for each in found) <= (0 if spread < 0.01 else 3)  # one in a hundred
    assert sum("better" in each.values() for each in found) <= 3


@pytest.mark.parametrize("draw", [normal, heavy])
@pytest.mark.parametrize("spread", [0.005, 0.03])
def test_what_is_slower_by_the_margin_fails_in_one_suite_of_a_hundred_at_most(draw: Draw, spread: float) -> None:
    slower = dict.fromkeys(SUITE, 0.01)
    found = [answers(Simulated(slower, spread, draw, seed)) for seed in range(300)]
    assert sum("worse" in each.values() for each in found) <= 3


@pytest.mark.parametrize(
    ("slower", "margin", "tolerance", "share"),
    [(0.02, 0.008, 0.03, 0.95), (0.03, 0.01, 0.05, 0.99), (0.05, 0.01, 0.05, 1.0)],
    ids=["2%-of-3%", "3%-of-5%", "5%-of-5%"],
)
@pytest.mark.parametrize("draw", [normal, heavy])
def test_what_got_slower_is_found(draw: Draw, slower: float, margin: float, tolerance: float, share: float) -> None:
    slow = SUITE[:3]
    found: Counter[str] = Counter()
    launches = 0
    for seed in range(60):
        launcher = Simulated(dict.fromkeys(slow, slower), 0.004, draw, seed)
        suite = answers(launcher, margin=margin, tolerance=tolerance)
        found.update(suite[name] for name in slow)
        assert all(suite[name] == "same" for name in SUITE[3:])
        launches += sum(len(launcher.asked_of(name)) for name in slow)
    assert found["worse"] >= share * 180
    assert launches / 180 <= 9


def test_a_slowdown_of_the_tolerance_is_undecided_where_the_noise_hides_it_and_hardly_ever_passes() -> None:
    found: Counter[str] = Counter()
    for seed in range(60):
        found.update(answers(Simulated(dict.fromkeys(SUITE, 0.05), 0.03, normal, seed)).values())
    assert found["same"] <= 0.03 * 600
    assert found["undecided"] >= 0.2 * 600


# --- The way to an answer


def test_equals_take_three_processes_and_the_control_is_in_each() -> None:
    launcher = Simulated(spread=0.002)
    made = contest(launcher, duel("one"), duel("two"))
    assert [decision.answer for decision in made.decisions] == ["same", "same"]
    assert launcher.processes == 3
    for name in ("one", "two", CONTROL.name):
        assert [each.process for each in launcher.asked_of(name)] == [1, 2, 3]
    assert made.control is not None and len(made.control.every) == 3


def test_who_comes_first_in_a_process_is_by_chance_and_no_seed_is_given_twice() -> None:
    launcher = Simulated(spread=0.06, seed=4)
    contest(launcher, *map(duel, SUITE))
    firsts = {after.name for before, after in pairwise(launcher.asked) if before.process != after.process}
    assert len(firsts) > 3
    assert len({each.seed for each in launcher.asked}) == len(launcher.asked)


def test_worse_has_what_it_rests_on_and_what_confirmed_it_by_other_processes() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.002)
    found = decided(launcher)
    assert (found.answer, found.reason) == ("worse", "")
    assert (len(found.told), len(found.confirming)) == (3, 2)
    assert found.evidence is not None and found.evidence.interval[0] < 1.1 < found.evidence.interval[1]
    sought, confirming = (launcher.asked_of("one", harder=harder) for harder in (False, True))
    assert not {each.process for each in sought} & {each.process for each in confirming}


def test_better_is_confirmed_by_other_processes_as_well() -> None:
    launcher = Simulated({"one": -0.1}, spread=0.002)
    found = decided(launcher)
    assert (found.answer, len(found.confirming)) == ("better", 2)
    assert len(launcher.asked_of("one", harder=True)) == 2


@pytest.mark.parametrize(("sign", "way"), [(1, "slower"), (-1, "faster")])
def test_the_processes_that_raised_a_suspicion_do_not_confirm_it(sign: int, way: str) -> None:
    """However far those were off, what counts is what the others find: nothing."""
    launcher = Simulated(instead=lambda asked: None if asked.harder or asked.name != "one" else sign * 0.3)
    found = decided(launcher, duel("one", both_ways=True))
    assert (found.answer, len(found.told), len(found.confirming)) == ("same", 3, 12)


@pytest.mark.parametrize(("sign", "way"), [(1, "slower"), (-1, "faster")])
def test_a_suspicion_that_is_neither_confirmed_nor_refuted_is_undecided(sign: int, way: str) -> None:
    def torn(asked: Asked) -> float | None:
        later = 0.14 if asked.process % 2 else -0.1
        return sign * (later if asked.harder else 0.3) if asked.name == "one" else None

    found = decided(Simulated(instead=torn), duel("one", both_ways=True))
    assert (found.answer, len(found.told), len(found.confirming)) == ("undecided", 3, 12)
    assert found.reason == f"it seems {way}, but 12 more processes did not prove it"


def test_a_small_suspicion_that_is_not_confirmed_is_acquitted_by_all_that_was_heard() -> None:
    launcher = Simulated(instead=lambda asked: None if asked.harder or asked.name != "one" else 0.03)
    found = decided(launcher)
    assert (found.answer, len(found.confirming)) == ("same", 12)


def test_those_that_are_decided_are_not_asked_while_others_are_confirmed() -> None:
    launcher = Simulated({"two": 0.1}, spread=0.002)
    contest(launcher, duel("one"), duel("two"))
    assert {each.name for each in launcher.asked if each.harder} == {"two", CONTROL.name}


def test_faster_is_no_regression_and_with_both_ways_it_is_news() -> None:
    def fast_at_first(asked: Asked) -> float | None:
        later = 0.0 if asked.process % 2 else -0.12
        return (later if asked.harder else -0.13) if asked.name == "one" else None

    assert decided(Simulated(spread=0.002, instead=fast_at_first)).answer == "same"
    assert decided(Simulated(spread=0.002, instead=fast_at_first), duel("one", both_ways=True)).answer == "undecided"


def test_what_was_fast_at_first_and_is_slow_ever_after_does_not_pass() -> None:
    launcher = Simulated(instead=lambda asked: (0.3 if asked.harder else -0.3) if asked.name == "one" else None)
    assert decided(launcher).answer == "undecided"


def test_noise_is_named_where_it_leaves_nothing_decided() -> None:
    found = decided(Simulated({"one": 0.03}, spread=0.06, seed=1))
    assert found.answer == "undecided"
    assert found.reason == ("not decided within 12 processes: this runner is too noisy to tell 1 % from 5 %; quiet it, "
                            "or allow a larger --threshold")  # fmt: skip
    assert found.evidence is not None and len(found.told) == 12


def test_the_noise_of_the_control_is_the_noise_of_all() -> None:
    """Processes that agree by luck are not believed where equals are seen to differ."""
    told = {True: decided(Simulated(instead=lambda asked: 0.03 if asked.name == "one" else None, spread=0.0)),
            False: decided(Simulated(instead=lambda asked: 0.03 if asked.name == "one" else
                                     0.15 * (-1) ** asked.process, spread=0.0))}  # fmt: skip
    assert told[True].answer == "worse"
    assert told[False].answer == "undecided"


# --- Time


def test_the_time_of_a_duel_ends_the_asking() -> None:
    launcher = Simulated({"one": 0.03}, spread=0.06, seconds=4.0, seed=1)
    found = decided(launcher, limits=Limits(max_time=18))
    assert found.reason == ("not decided within --max-time 18: this runner is too noisy to tell 1 % from 5 %; quiet "
                            "it, or give it more --max-time")  # fmt: skip
    assert len(found.told) == 5  # of 4 s each; those of the control are its own


def test_one_that_is_too_slow_for_three_processes_says_so() -> None:
    found = decided(Simulated(seconds=30.0), limits=Limits(max_time=50))
    assert found.reason == "--max-time 50 was over after 2 of the 3 processes that it takes at least; give it more"


def test_a_slow_duel_does_not_take_the_time_of_another() -> None:
    launcher = Simulated({"one": 0.03, "two": 0.03}, spread=0.06, seed=1)

    def slow(asked: Asked) -> None:
        launcher.now += 10 if asked.name == "one" else 1

    launcher.instead = slow
    contest(launcher, duel("one"), duel("two"), limits=Limits(max_time=60))
    assert (len(launcher.asked_of("one")), len(launcher.asked_of("two"))) == (6, 12)


def test_a_suspicion_has_its_first_look_when_the_time_is_over() -> None:
    launcher = Simulated({"one": 0.2}, spread=0.002, seconds=4.0)
    found = decided(launcher, limits=Limits(max_time=10))
    assert (found.answer, len(found.told), len(found.confirming)) == ("worse", 3, 2)


def test_and_no_second_one() -> None:
    launcher = Simulated(instead=lambda asked: 0.3 if asked.name == "one" and not asked.harder else None, seconds=4.0)
    found = decided(launcher, limits=Limits(max_time=10))
    assert (found.answer, len(found.confirming)) == ("undecided", 2)


# --- Processes that say nothing, or nothing of worth


def test_a_process_that_fails_decides_its_duel_alone() -> None:
    failed = Failed(1, "oom", "it needs 12 GiB")
    launcher = Simulated(instead=lambda asked: failed if asked.name == "one" else None, spread=0.002)
    made = contest(launcher, duel("one"), duel("two"))
    assert made.courses[0].failed is failed
    assert made.decisions[0] == Decision("undecided", None, reason="oom: it needs 12 GiB")
    assert made.decisions[1].answer == "same"
    assert len(launcher.asked_of("one")) == 1


def test_one_that_fails_while_it_is_confirmed_keeps_what_was_heard() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.002)
    launcher.instead = lambda asked: Failed(0, "crashed", "gone") if asked.harder and asked.name == "one" else None
    found = decided(launcher)
    assert (found.answer, found.reason, len(found.told)) == ("undecided", "crashed: gone", 3)
    assert len(launcher.asked_of("one", harder=True)) == 1


def test_a_control_that_fails_leaves_the_runner_as_it_is_known() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.002)
    launcher.instead = lambda asked: Failed(0, "crashed", "gone") if asked.name == CONTROL.name else None
    assert decided(launcher, duel("one"), duel("two")).answer == "worse"


def test_a_disturbed_process_counts_for_nothing_and_another_is_asked() -> None:
    launcher = Simulated(spread=0.002)
    launcher.instead = lambda asked: disturbed("load") if asked.process in (1, 3) and asked.name == "one" else None
    found = decided(launcher)
    assert (found.answer, len(found.told)) == ("same", 3)
    assert [each.process for each in launcher.asked_of("one")] == [1, 2, 3, 4, 5]


def test_where_all_are_disturbed_the_reason_is_what_disturbs() -> None:
    launcher = Simulated()
    launcher.instead = lambda asked: disturbed(("load", "heat")[asked.process % 2]) if asked.name == "one" else None
    found = decided(launcher)
    assert found == Decision("undecided", None, reason="4 of 4 processes were disturbed: heat, load")


def test_a_suspicion_ends_where_all_that_could_confirm_it_are_disturbed() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.002)
    launcher.instead = lambda asked: disturbed("load") if asked.harder and asked.name == "one" else None
    found = decided(launcher)
    assert (found.answer, found.reason) == ("undecided", "12 of 15 processes were disturbed: load")


# --- The control


@pytest.mark.parametrize("change", [0.1, -0.1])
def test_where_equals_differ_nothing_is_worse_or_better(change: float) -> None:
    launcher = Simulated({"one": 0.5, "two": -0.3, CONTROL.name: change}, spread=0.001)
    made = contest(launcher, duel("one"), duel("two"), duel("three", tolerance=0.9))
    worse, better, same = made.decisions
    assert (worse.answer, better.answer, same.answer) == ("undecided", "undecided", "same")
    assert worse.reason == better.reason
    assert worse.reason == f"the same code twice seems to differ by {change * 100:.2g} % on this runner"


def test_equals_that_differ_by_less_than_the_margin_are_no_obstacle() -> None:
    launcher = Simulated({"one": 0.1, CONTROL.name: 0.007}, spread=0.0005)
    assert decided(launcher).answer == "worse"


def test_it_can_do_without_a_control_and_without_a_duel() -> None:
    made = contest(Simulated({"one": 0.1}, spread=0.002), duel("one"), control=None)
    assert made.decisions[0].answer == "worse"
    launcher = Simulated()
    assert contest(launcher, control=None).decisions == []
    assert launcher.asked == []


# --- Ctrl-C


def interrupting(when: Callable[[Asked], bool]) -> Callable[[Asked], None]:
    def instead(asked: Asked) -> None:
        if when(asked):
            raise KeyboardInterrupt

    return instead


def test_ctrl_c_leaves_what_is_decided_and_what_is_not_says_so() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.002, instead=interrupting(lambda asked: asked.process == 5))
    made = Contest([duel("one"), duel("two")], CONTROL, launcher)
    with pytest.raises(KeyboardInterrupt):
        made.run()
    one, two = made.decisions
    assert (one.answer, one.reason) == ("undecided", "it was interrupted before this was decided")
    assert (len(one.told), two.answer, two.reason) == (3, "same", "")


def test_ctrl_c_in_the_first_process_leaves_a_decision_of_nothing() -> None:
    made = Contest([duel("one")], CONTROL, Simulated(instead=interrupting(lambda asked: True)))
    with pytest.raises(KeyboardInterrupt):
        made.run()
    (found,) = made.decisions
    assert found == Decision("undecided", None, reason="it was interrupted before this was decided")
    assert made.courses[0].times is None


def test_whoever_watches_is_told_of_each_process() -> None:
    told: list[str] = []
    Contest([duel("one")], CONTROL, Simulated({"one": 0.1}, spread=0.002), tell=told.append).run()
    assert len(told) == 10
    assert {"one (1 of 2)", "one (2 of 2)"} >= {each.partition(": ")[2] for each in told if "one" in each}
    assert told[0].startswith("round 1: ") and told[-1].startswith("confirming 5: ")


def test_the_times_of_a_step_are_medians_over_all_processes() -> None:
    launcher = Simulated({"one": 0.1}, spread=0.0)
    made = contest(launcher, duel("one"))
    assert made.courses[0].times == (pytest.approx(2.0), pytest.approx(2.2))
