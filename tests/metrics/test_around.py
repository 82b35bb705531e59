"""What goes on around a stretch of timing: who else works, what the device says, and how fast the core is."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from attnbench.core.surroundings import Surroundings
from attnbench.metrics.timing import disturbance
from attnbench.metrics.timing.disturbance import Around


class Loads:
    """Of two cores, so many that others use."""

    def __init__(self, cores: float | None) -> None:
        self._cores = cores

    def cores(self) -> float | None:
        return self._cores


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """Its loop takes a millisecond before and three after, its watch sees what is said, and others are on it."""
    said = SimpleNamespace(looks=iter([("thermal",), ()]), loops=iter([1e-3] * 25 + [3e-3] * 25), shared=True)
    monkeypatch.setattr(disturbance, "watch", lambda device: SimpleNamespace(look=lambda: next(said.looks)))
    monkeypatch.setattr(disturbance, "_loop_seconds", lambda: next(said.loops))
    monkeypatch.setattr(disturbance, "OtherLoad", lambda: Loads(0.5))
    monkeypatch.setattr(disturbance, "gpu_of", lambda device: "a GPU")
    monkeypatch.setattr(disturbance, "sharing", lambda gpu: said.shared)
    yield said


def test_what_is_seen_before_and_after_counts(machine: SimpleNamespace) -> None:
    found = Around("cpu").seen()
    assert found.other_cores == 0.5 and found.reasons == ("thermal",)
    assert found.loop_us == pytest.approx(2000)


def test_others_on_the_gpu_are_a_reason(machine: SimpleNamespace) -> None:
    assert Around("cuda:0").seen().reasons == ("thermal", "other programs")


def test_a_gpu_of_ones_own_is_none(machine: SimpleNamespace) -> None:
    machine.shared = None
    assert Around("cuda").seen().reasons == ("thermal",)


def test_it_crosses_a_pipe() -> None:
    for found in (Surroundings(), Surroundings(0.5, 70.0, ("thermal",))):
        assert Surroundings.from_dict(json.loads(json.dumps(asdict(found)))) == found
