"""The generic registry: duplicates, near names, and other packages' entry points."""

from dataclasses import dataclass
from typing import Any

import pytest

from attnbench.core import plugins
from attnbench.core.errors import UsageError
from attnbench.core.plugins import PluginWarning
from attnbench.core.registry import Registry, did_you_mean


@dataclass
class Point:
    """An entry point that says when it is loaded."""

    name: str
    thing: object
    loaded: int = 0

    def load(self) -> object:
        self.loaded += 1
        return self.thing


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    found: list[Point] = []

    def entry_points(*, group: str) -> list[Point]:
        assert group == "attnbench.things"
        return found

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    return found


def filled() -> Registry[int]:
    things = Registry[int]("thing", "attnbench.things")
    things.register("beta")(2)
    things.register("alpha")(1)
    return things


def test_a_thing_is_found_by_its_name_and_in_the_order_of_registration() -> None:
    things = Registry[int]("thing")
    assert things.register("beta")(2) == 2  # a decorator gives back what it decorates
    things.register("alpha")(1)
    assert (things["alpha"], "beta" in things, "gamma" in things, 3 in things) == (1, True, False, False)
    assert (list(things), things.items()) == (["beta", "alpha"], [("beta", 2), ("alpha", 1)])


def test_a_duplicate_is_refused_and_the_first_stays(points: list[Point]) -> None:
    things = filled()
    with pytest.raises(ValueError, match="the thing 'alpha' is registered twice"):
        things.register("alpha")(9)
    assert things["alpha"] == 1


def test_a_miss_names_the_nearest_and_all_that_is_known(points: list[Point]) -> None:
    with pytest.raises(UsageError, match=r"unknown thing 'alhpa'\. Did you mean 'alpha'\? Known: alpha, beta\."):
        filled()["alhpa"]
    with pytest.raises(UsageError, match=r"unknown thing 'xyz'\. Known: alpha, beta\."):
        filled()["xyz"]


@pytest.mark.parametrize(
    ("name", "answer"),
    [("self_atn", " Did you mean 'self_attn'?"), ("SELF_ATTN", " Did you mean 'self_attn'?"), ("qqq", ""), ("", "")],
)
def test_did_you_mean(name: str, answer: str) -> None:
    assert did_you_mean(name, ["self_attn", "mha"]) == answer


@pytest.mark.parametrize(
    "look",
    [lambda t: t["gamma"], lambda t: "gamma" in t, list, lambda t: t.items()],
    ids=["get", "in", "iter", "items"],
)
def test_entry_points_are_loaded_once_and_only_when_somebody_looks(points: list[Point], look: Any) -> None:
    points.append(Point("gamma", 3))
    things = filled()
    assert points[0].loaded == 0
    look(things)
    look(things)
    assert points[0].loaded == 1
    assert things["gamma"] == 3


def test_an_entry_point_cannot_take_a_name_that_is_taken(points: list[Point]) -> None:
    points.append(Point("alpha", 3))
    things = filled()
    with pytest.warns(PluginWarning, match="^the plug-in 'alpha' is left out: there is another thing of that name$"):
        assert things["alpha"] == 1


def test_a_broken_entry_point_is_left_out_and_the_others_stay(points: list[Point]) -> None:
    class Broken(Point):
        def load(self) -> object:
            raise ImportError("no module named 'gone'")

    points += [Broken("broken", None), Point("gamma", 3)]
    things = filled()
    with pytest.warns(PluginWarning, match="^the plug-in 'broken' is left out: ImportError: no module named 'gone'$"):
        assert things["gamma"] == 3
    assert "broken" not in things


def test_a_registry_without_a_group_asks_for_no_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "entry_points", lambda **_: pytest.fail("asked"))
    assert list(Registry[int]("thing")) == []
