"""Which instruments are run, in which order, and how they are declared and found."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from attnbench.core import plugins
from attnbench.core.errors import UsageError
from attnbench.core.record import SECTIONS
from attnbench.metrics.metric import GROUPS, Options, chosen, known, metric


def names(*asked: str) -> list[str]:
    return [each.name for each in chosen(asked)]


def test_all_are_run_with_what_needs_no_device_first() -> None:
    """A row that runs out of memory still has its GFLOPs."""
    places = [each.on for each in chosen(("all",))]
    assert places == sorted(places, key=["meta", "fake", "device", "after"].index)
    assert set(places) == {"meta", "fake", "device", "after"}
    assert set(names("all")) == set(known())
    assert {"params", "macs", "predicted_memory", "memory", "latency", "throughput"} <= set(known())


def test_static_is_what_needs_no_device() -> None:
    assert {each.on for each in chosen(("static",))} == {"meta", "fake"}
    assert {"params", "macs", "predicted_memory"} <= set(names("static"))


def test_what_an_instrument_needs_is_run_before_it() -> None:
    found = names("roofline")
    assert found[-1] == "roofline"
    assert {"macs", "bytes_moved", "latency"} <= set(found)


def test_what_leaves_the_device_hot_comes_after_what_it_would_disturb() -> None:
    found = names("all")
    assert found.index("energy") > max(found.index(each) for each in ("latency", "memory", "throughput"))


def test_names_are_run_in_the_same_order_however_they_are_asked_for() -> None:
    assert names("latency", "params") == names("params", "latency", "params") == ["params", "latency"]
    assert names("latency", "static") == [*names("static"), "latency"]
    assert names("macs", "all") == names("all")
    assert names() == []


@pytest.mark.parametrize(
    ("name", "near"),
    [("latancy", "latency"), ("Latency", "latency"), ("mac", "macs"), ("stat", "static"), ("al", "all")],
)
def test_an_unknown_name_offers_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown metric '{name}'\. Did you mean '{near}'\? Known: static, all, "):
        chosen(("params", name))


def test_a_name_like_nothing_offers_nothing() -> None:
    with pytest.raises(UsageError, match=r"unknown metric 'qqqqq'\. Known: "):
        chosen(("qqqqq",))


@pytest.mark.parametrize("name", sorted(known()))
def test_each_declaration_leads_to_its_instrument_and_to_fields_of_the_record(name: str) -> None:
    declared = known()[name]
    declaration = (declared.name, declared.on, declared.fields, declared.needs)
    assert declared.load().declaration == declaration  # type: ignore[attr-defined]
    assert set(declared.needs) <= set(known())
    for field in declared.fields:
        section, _, figure = field.partition(".")
        assert figure in SECTIONS[section] if figure else section in (*SECTIONS, "kernels")
    assert name not in GROUPS


def test_every_instrument_is_known_without_torch() -> None:
    code = "import sys; from attnbench.metrics.metric import chosen; chosen(('all',)); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"


@metric(name="carbon", on="fake", fields=("carbon.grams",))
def measure_carbon(subject: Any, options: Options) -> Iterator[Any]:
    yield from ()


@pytest.fixture
def _plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    point = EntryPoint("carbon", f"{__name__}:measure_carbon", "attnbench.metrics")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [point])
    known.cache_clear()
    yield
    known.cache_clear()


@pytest.mark.usefixtures("_plugin")
def test_an_instrument_of_another_package_takes_its_place_in_the_order() -> None:
    assert names("static")[-1] == "carbon" or names("static").index("carbon") > names("static").index("macs")
    assert names("all").index("carbon") < names("all").index("latency")
    assert known()["carbon"].load() is measure_carbon
