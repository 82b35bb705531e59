"""What disturbs a stretch of samples, told by canned loads, loops and devices."""

from collections.abc import Callable, Iterator

import pytest

from attnbench.metrics.timing import disturbance
from attnbench.metrics.timing.disturbance import OTHERS, SLOWED, CoreSpeed, Disturbances, crowded


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CoreSpeed, "best", float("inf"))
    monkeypatch.setattr(disturbance.torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(disturbance, "_cores", lambda: 4)


def loop(*seconds: float) -> Callable[[], float]:
    """The given times, three for each look."""
    times = iter(seconds)
    return lambda: next(times)


def test_the_fastest_of_three_loops_counts() -> None:
    core = CoreSpeed(loop(5.0, 1.0, 9.0, 7.0, 1.1, 7.0))
    assert [core.slowed(), core.slowed()] == [False, False]


def test_a_core_that_was_faster_before_is_slowed() -> None:
    core = CoreSpeed(loop(*[1.0] * 3, *[1.2] * 3, *[1.35] * 3, *[1.0] * 3))
    assert [core.slowed() for _ in range(4)] == [False, False, True, False]


def test_what_the_process_has_seen_before_is_remembered() -> None:
    CoreSpeed(loop(*[1.0] * 3)).slowed()
    assert CoreSpeed(loop(*[1.35] * 3)).slowed()


def test_a_core_that_is_found_slow_is_not_known_to_be() -> None:
    core = CoreSpeed(loop(*[1.35] * 3, *[1.35] * 3, *[1.0] * 3, *[1.35] * 3))
    assert [core.slowed() for _ in range(4)] == [False, False, False, True]


def test_the_real_loop_takes_time() -> None:
    assert 1e-7 < min(disturbance._loop_seconds() for _ in range(3)) < 1


@pytest.mark.parametrize(("others", "expected"), [(0.0, False), (2.0, False), (2.2, True), (9.0, True)])
def test_two_threads_of_four_cores_leave_two_to_others(others: float, expected: bool) -> None:
    assert crowded(others) == expected


class Load:
    now: float | None = 0.0

    def cores(self) -> float | None:
        return self.now


class Device:
    reasons: tuple[str, ...] = ()

    def look(self) -> tuple[str, ...]:
        return self.reasons

    def findings(self) -> Iterator[None]:
        yield from ()


@pytest.mark.parametrize(
    ("device", "others", "reasons", "slow", "found"),
    [
        ("cpu", 0.0, (), False, ()),
        ("cpu", 3.0, (), False, (OTHERS,)),
        ("cpu", None, (), False, ()),
        ("cpu", 0.0, ("thermal",), True, ("thermal", SLOWED)),
        ("cpu", 3.0, (), True, (SLOWED, OTHERS)),
        ("cuda", 3.0, ("hw_thermal",), True, ("hw_thermal",)),
    ],
)
def test_a_stretch_is_disturbed_by(
    monkeypatch: pytest.MonkeyPatch, device: str, others: float | None, reasons: tuple[str, ...], slow: bool,
    found: tuple[str, ...],
) -> None:  # fmt: skip
    monkeypatch.setattr(disturbance, "OtherLoad", Load)
    monkeypatch.setattr(Load, "now", others)
    monkeypatch.setattr(Device, "reasons", reasons)
    monkeypatch.setattr(disturbance, "_loop_seconds", lambda: 2.0 if slow else 1.0)
    monkeypatch.setattr(CoreSpeed, "best", 1.0)
    assert Disturbances(Device(), device).look() == found  # type: ignore[arg-type]
