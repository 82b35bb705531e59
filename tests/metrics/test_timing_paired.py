"""Quads with a clock that moves only when a canned block takes its time: orders, clocks to judge by, and the end."""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest

from attnbench.metrics.timing.paired import (
    Ms,
    PairedBlock,
    Pairing,
    Quads,
    host_and_cpu,
    paired,
    standard_error,
    wall_only,
)

# Takes the number of a block, counted over both steps, and gives what a step takes in it.
Takes = Callable[[int], Ms]


class Rig:
    """A clock, and two steps that move it; `order` is which of them ran, block by block."""

    def __init__(self, first: Takes, second: Takes) -> None:
        self.now, self.order, self.steps = 50.0, "", set[tuple[str, int]]()
        self.blocks = (self._block("A", first), self._block("B", second))

    def __call__(self) -> float:
        return self.now

    def _block(self, name: str, takes: Takes) -> PairedBlock:
        def block(steps: int) -> Ms:
            ms = takes(len(self.order))
            self.order += name
            self.steps.add((name, steps))
            self.now += ms.wall * steps / 1000
            return ms

        return block

    def quads(self, how: Pairing | None = None, seed: int = 0, steps: tuple[int, int] = (1, 1)) -> Quads:
        return paired(*self.blocks, steps, how or Pairing(), random.Random(seed), self)


def steady(ms: float) -> Takes:
    return lambda number: Ms(ms, ms)


def of_both(ms: float, wall: Callable[[int], float]) -> Takes:
    """A step of so much CPU time, that takes `wall` times as long on the wall."""
    return lambda number: Ms(ms * wall(number), ms)


def noisy(ms: float, spread: float, seed: int) -> Takes:
    rng = random.Random(seed)

    def takes(number: int) -> Ms:
        found = ms * math.exp(rng.gauss(0, spread))
        return Ms(found, found)

    return takes


def test_a_steady_drift_cancels_in_each_quad() -> None:
    def drifting(ms: float) -> Takes:
        return lambda number: Ms(ms * math.exp(0.01 * number), ms * math.exp(0.01 * number))

    found = Rig(drifting(1.0), drifting(1.1)).quads(Pairing(most=40))
    assert found.log_ratios == pytest.approx([math.log(1.1)] * 30)  # the drift is a half by then
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.first_ms > 1.3


def test_what_slows_both_from_some_time_on_meets_no_more_than_a_quad() -> None:
    def slowed(ms: float) -> Takes:
        return lambda number: Ms(ms * (2 if number >= 41 else 1))

    found = Rig(slowed(1.0), slowed(1.1)).quads(Pairing())
    assert found.median == pytest.approx(math.log(1.1))
    assert sum(abs(each - math.log(1.1)) > 1e-9 for each in found.log_ratios) == 1


def test_the_order_is_by_chance_and_neither_comes_first_more_often() -> None:
    rig = Rig(noisy(1.0, 0.1, 1), noisy(1.0, 0.1, 2))
    found = rig.quads(Pairing(error=0, seconds=1e9))
    quads = [rig.order[place : place + 4] for place in range(0, len(rig.order), 4)]
    assert len(quads) == len(found.log_ratios) == 400
    assert set(quads) == {"ABBA", "BAAB"}
    assert 160 <= quads.count("ABBA") <= 240  # four standard deviations
    changes = sum(quad != after for quad, after in pairwise(quads))
    assert 159 <= changes <= 240  # no rhythm, either


def test_the_order_is_that_of_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        rig = Rig(steady(1.0), steady(1.0))
        rig.quads(seed=seed)
        orders.append(rig.order)
    assert orders[0] == orders[1] != orders[2]


def test_each_block_is_of_as_many_steps_as_it_was_given() -> None:
    rig = Rig(steady(1.0), steady(4.0))
    rig.quads(steps=(8, 2))
    assert rig.steps == {("A", 8), ("B", 2)}


def test_a_step_that_works_all_the_time_is_judged_by_its_cpu_time() -> None:
    rng = random.Random(5)
    busy = of_both(1.0, lambda number: 1.0 if rng.random() < 0.2 else rng.uniform(1.5, 9))
    found = Rig(busy, of_both(1.04, lambda number: 1.001)).quads()
    assert found.clock == "cpu"
    assert found.log_ratios == pytest.approx([math.log(1.04)] * len(found.log_ratios))
    assert (found.first_ms, found.second_ms) == (1.0, 1.04)


WAITS, HELPED, WORKS = of_both(1.0, lambda number: 1.1), of_both(1.0, lambda number: 0.6), steady(1.0)


@pytest.mark.parametrize(
    ("first", "second", "log_ratio"),
    [
        (WAITS, WORKS, math.log(1 / 1.1)),
        (WORKS, WAITS, math.log(1.1)),
        (HELPED, WORKS, math.log(1 / 0.6)),
        (WORKS, HELPED, math.log(0.6)),
        (lambda number: Ms(2.0, 0.0), WORKS, math.log(0.5)),  # below the tick of the clock
        (lambda number: Ms(2.0), lambda number: Ms(3.0), math.log(1.5)),
        (lambda number: Ms(2.0), WORKS, math.log(0.5)),
    ],
    ids=["first-waits", "second-waits", "first-helped", "second-helped", "no-tick", "no-cpu", "one-without-cpu"],
)
def test_where_cpu_time_is_not_what_a_step_takes_the_wall_decides(
    first: Takes, second: Takes, log_ratio: float
) -> None:
    found = Rig(first, second).quads()
    assert found.clock == "wall"
    assert found.median == pytest.approx(log_ratio)


@pytest.mark.parametrize(("undisturbed", "clock"), [(0.25, "cpu"), (0.03, "wall")])
def test_a_step_that_is_hardly_ever_let_through_is_taken_for_one_that_waits(undisturbed: float, clock: str) -> None:
    every = round(1 / undisturbed)
    shared = of_both(1.0, lambda number: 1.0 if number % every == 0 else 1.5)
    assert Rig(shared, shared).quads(Pairing(fewest=100)).clock == clock


def test_it_stops_when_the_error_is_small_enough() -> None:
    how = Pairing(error=0.003, seconds=1e9)
    found = [Rig(noisy(1.0, 0.02, seed), noisy(1.0, 0.02, seed + 100)).quads(how, seed) for seed in range(20)]
    # A quad's spread is that of a block, 2 %: (1.2533 x 0.02 / 0.003) squared is 70, or less where it is lucky.
    assert 50 <= statistics.fmean(len(each.log_ratios) for each in found) <= 75
    assert max(each.error for each in found) <= 0.003
    assert max(abs(each.median) for each in found) <= 4 * 0.003


def test_it_takes_the_fewest_where_there_is_no_noise_and_the_most_where_there_is_much() -> None:
    assert len(Rig(steady(1.0), steady(2.0)).quads(Pairing(fewest=33)).log_ratios) == 33
    assert len(Rig(steady(1.0), steady(2.0)).quads(Pairing(fewest=1)).log_ratios) == 5
    wild = Rig(noisy(1.0, 0.5, 1), noisy(1.0, 0.5, 2))
    assert len(wild.quads(Pairing(most=50, seconds=1e9)).log_ratios) == 50


@pytest.mark.parametrize(("ms", "count"), [(10.0, 30), (39.9, 8), (10_000.0, 5)])
def test_no_quad_is_begun_when_the_time_is_over_but_there_are_five(ms: float, count: int) -> None:
    rig = Rig(steady(ms), steady(ms))
    assert len(rig.quads(Pairing(fewest=100, seconds=0.1, longest=1.2)).log_ratios) == pytest.approx(count, abs=1)
    assert rig.order.count("A") == rig.order.count("B")


@pytest.mark.parametrize("count", [25, 100])
def test_the_standard_error_is_what_medians_differ_by(count: int) -> None:
    rng = random.Random(11)
    series = [[rng.gauss(0, 0.02) for _ in range(count)] for _ in range(1500)]
    true = statistics.pstdev(map(statistics.median, series))
    assert statistics.fmean(map(standard_error, series)) == pytest.approx(true, rel=0.08)


def test_disturbed_quads_hardly_widen_the_standard_error() -> None:
    rng = random.Random(12)
    calm = [rng.gauss(0, 0.02) for _ in range(100)]
    assert standard_error([*calm[:90], *([5.0] * 10)]) < 1.4 * standard_error(calm)


def canned(ticks: Sequence[int]) -> Callable[[], int]:
    left = iter(ticks)
    return lambda: next(left)


def test_a_block_of_the_host_is_a_step_by_both_clocks() -> None:
    ran: list[int] = []
    block = host_and_cpu(ran.append, canned([1_000, 9_001_000]), canned([500, 6_000_500]))
    assert block(3) == Ms(3.0, 2.0)
    assert ran == [3]


def test_a_block_of_a_device_has_no_cpu_time() -> None:
    assert wall_only(lambda steps: 2.0 * steps)(4) == Ms(8.0, None)


@pytest.mark.parametrize(("ms", "count"), [(10.0, 30), (1.0, 125)])
def test_a_long_step_gets_more_time_until_there_are_enough_quads_of_it(ms: float, count: int) -> None:
    """Four blocks a quad: thirty of 10 ms take 1.2 s; of 1 ms there are enough before the half second is over."""
    wild = Rig(noisy(ms, 0.3, 0), noisy(ms, 0.3, 1))
    found = wild.quads(Pairing(error=0, fewest=30, seconds=0.5, longest=9.0))
    assert len(found.log_ratios) == pytest.approx(count, rel=0.2)
