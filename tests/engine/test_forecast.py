"""What a dry run foretells: nothing runs, the same limit as a run's, the rows of a plan in order whatever happens."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from canned_channels import Answer
from canned_lanes import Machine, lane
from hypothesis import given, settings
from hypothesis import strategies as st

import attnbench.engine.measure as measure
import attnbench.metrics.throughput as throughput
from attnbench.core.case import Case
from attnbench.core.errors import OutOfMemoryError
from attnbench.core.forecast import Forecast, Outlook
from attnbench.core.record import Note, Reading, Record
from attnbench.core.store import Store
from attnbench.engine.crew import Crew
from attnbench.engine.forecasts.duration import ESTIMATE, INSTRUMENTS, Length, counting_metrics, lasting, live_seconds
from attnbench.engine.forecasts.forecast import foreseen, runs
from attnbench.engine.forecasts.scout import scouted
from attnbench.engine.question import Question
from attnbench.engine.room import room
from attnbench.engine.session import prepared
from attnbench.engine.workers.channels import Event, WorkerDied
from attnbench.metrics.metric import Options, known
from attnbench.metrics.roof.peaks import Peaks, Rung
from attnbench.metrics.timing.sampling import difference, sample, steps_a_block, warm_up

GIB = 2**30
# Round figures: a GFLOP takes a millisecond, and so does a megabyte.
PEAKS = Peaks("cpu", "fp32", "f", 1e12, "matmul", (Rung(2**30, 1e9, 1e9, 1e9),), 2**20, 1, False, "now")
COUNTED: list[Note | Reading] = [
    Reading("static.params", 100, "count"),
    Reading("static.macs", 10**9, "MAC"),
    Reading("static.uncounted_ops", {}),
    Reading("static.bytes_moved", 10**6, "bytes"),
    Reading("static.predicted_peak_bytes", GIB, "bytes"),
]


@dataclass
class Host(Machine):
    """A machine that also tells its memory and its roof."""

    measure: Callable[[Case], Answer] = lambda case: COUNTED
    free: int | None = 2 * GIB
    log: list[str] = field(default_factory=list)

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.log.append(request["do"])
        if request["do"] == "free":
            yield {"event": "free", "bytes": self.free}
        elif request["do"] == "peaks":
            yield {"event": "peaks", "peaks": PEAKS.to_dict() | {"bytes_per_s": 1e9, "beyond_caches": True}}
        else:
            yield from super().ask(request, timeout)
            return
        yield {"event": "done", "status": "ok", "reason": ""}


def asked(count: int = 3, **options: Any) -> list[Question]:
    case = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw", device="cpu")
    return [Question(case.with_(seed=seed), Options(**options)) for seed in range(count)]


def forecasts(
    questions: list[Question], *hosts: Host, resume: Path | None = None, each_fresh: bool = False
) -> list[Forecast]:
    lanes = [lane(host, f"lane {n}", "here") for n, host in enumerate(hosts or [Host()])]
    crew = Crew(scouted(lanes, live=any(map(runs, questions))))
    found = dict(foreseen(questions, prepared(questions, crew, resume), crew, each_fresh=each_fresh))
    assert sorted(found) == list(range(len(questions)))
    return [found[place] for place in range(len(questions))]


def test_nothing_that_needs_a_device_is_asked_for() -> None:
    host = Host()
    forecasts(asked(metrics=("all",)), host)
    measured = [request["options"]["metrics"] for request in host.asked if request["do"] == "measure"]
    assert len(measured) == 4  # the first is asked twice, once to load what it needs
    assert not any(known()[name].live for names in measured for name in names)


def test_what_is_foretold_of_a_case() -> None:
    (found,) = forecasts(asked(1))
    assert (found.verdict, found.peak, found.limit) == ("fits", GIB, int(2 * GIB * 0.95))
    assert found.least_ms == 2.0  # 2 GFLOP by the arithmetic, a megabyte in one millisecond
    assert found.limited_by == "95 % of what is free"
    assert found.seconds is not None
    assert found.seconds > Options().max_time
    assert found.record.repro.startswith("attnbench run --module se")


def test_no_time_is_a_bound_from_below_where_products_may_be_skipped() -> None:
    """What a mask hides is skipped by compiled code; the operands are read all the same."""
    question = Question(asked(1)[0].case.with_(engine="compile"), Options())
    (found,) = forecasts([question])
    assert found.least_ms == 1.0


@pytest.mark.parametrize("mem_limit", [None, GIB - 1, 5 * GIB])
def test_the_least_of_what_is_free_and_what_is_allowed_counts(mem_limit: int | None) -> None:
    (found,) = forecasts(asked(1, mem_limit=mem_limit))
    assert found.verdict == ("too_large" if mem_limit == GIB - 1 else "fits")
    assert found.limited_by == ("--mem-limit" if mem_limit == GIB - 1 else "95 % of what is free")


@settings(deadline=None)
@given(st.integers(1, 2**50), st.integers(0, 2**50) | st.none(), st.integers(1, 2**50) | st.none())
def test_a_dry_run_and_a_run_never_disagree(predicted: int, free: int | None, limit: int | None) -> None:
    case = Case("se", height=4, width=4, tokens=16, dim=8)
    record = Record(case, "ok", readings=(Reading("static.predicted_peak_bytes", predicted, "bytes"),))
    foretold = Forecast(record, limit=room("cpu", free, limit)).verdict == "too_large"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "free_bytes", lambda device: free)
        try:
            measure._guard(case, predicted, limit)
            refused = False
        except OutOfMemoryError:
            refused = True
    assert foretold == refused


def test_the_edge_itself_fits() -> None:
    """The largest that a run starts, and one byte more."""
    edge = room("cpu", 1000)
    assert edge == 950
    assert room("cuda:0", 1000) == 1000
    assert room("cpu", None, None) is None
    assert room("cpu", None, 7) == 7


def test_without_a_prediction_weights_alone_may_be_too_large() -> None:
    why = Note("not_measured", "static.predicted_peak_bytes, static.bytes_moved: cannot run on fake tensors (it looks)")
    unknown: Answer = [Reading("static.params", 100, "count"), why]
    (found,) = forecasts(asked(1), Host(measure=lambda case: unknown))
    assert found.verdict == "unknown"
    assert "its peak cannot be predicted: cannot run on fake tensors (it looks)" in [
        note.text for note in found.record.notes
    ]
    (found,) = forecasts(asked(1), Host(measure=lambda case: [Reading("static.params", GIB, "count"), why]))
    assert found.verdict == "too_large"  # 4 GiB of them, 2 GiB free


def test_what_cannot_be_told_is_said() -> None:
    (found,) = forecasts(asked(1), Host(free=None))
    assert found.verdict == "unknown"
    assert any("how much memory is free" in note.text for note in found.record.notes)
    odd = [*COUNTED, Reading("static.uncounted_ops", {"aten.odd": 1})]
    (found,) = forecasts(asked(1), Host(measure=lambda case: [each for each in odd if each != COUNTED[2]]))
    assert found.least_ms is None
    assert any("no least time of a step: its MACs are a lower bound" in note.text for note in found.record.notes)


def test_where_nothing_runs_neither_roof_nor_memory_is_looked_for_and_the_time_is_that_of_counting() -> None:
    host = Host()
    found = forecasts(asked(2, metrics=("static",)), host)
    assert [each.verdict for each in found] == ["runs_nothing", "runs_nothing"]
    assert "peaks" not in host.log
    assert all(each.seconds is not None and each.seconds < 1 and each.least_ms is None for each in found)


def test_a_case_that_kills_the_worker_is_a_row_and_is_asked_once() -> None:
    def deadly(case: Case) -> Answer:
        return WorkerDied("crashed", "it crashed the worker process (SIGSEGV)") if case.seed == 0 else COUNTED

    host = Host(measure=deadly)
    found = forecasts(asked(3), host)
    assert [each.verdict for each in found] == ["refused", "fits", "fits"]
    assert found[0].record.status == "crashed"
    assert [case.seed for case in host.measured] == [0, 1, 2]


def test_a_case_that_cannot_be_built_is_a_row() -> None:
    def refused(case: Case) -> Answer | Case:
        return ("unsupported", "no such size") if case.seed == 1 else case

    found = forecasts(asked(3), Host(resolve=refused))
    assert [each.verdict for each in found] == ["fits", "refused", "fits"]
    assert found[1].record.reason == "no such size"


def test_what_is_stored_stands_in_its_place_and_takes_no_time(tmp_path: Path) -> None:
    questions, path = asked(5), tmp_path / "r.jsonl"
    crew = Crew([lane(Host())])
    list(prepared(questions[1:3], crew).records(crew, Store(path)))
    found = forecasts(questions, resume=path)
    assert [each.verdict for each in found] == ["fits", "stored", "stored", "fits", "fits"]
    assert [each.record.case.seed for each in found] == [0, 1, 2, 3, 4]
    assert found[1].seconds == 0
    assert forecasts(questions[1:3], resume=path)[0].stored  # also when nothing is left


def test_several_lanes_share_the_rows_and_the_time() -> None:
    hosts = [Host(), Host()]
    found = forecasts(asked(20), *hosts)
    assert [each.record.case.seed for each in found] == list(range(20))
    assert sum(len(host.measured) for host in hosts) >= 20
    alone, shared = Outlook(found, 20), Outlook(found, 20, lanes=2)
    assert shared.seconds - shared.start == pytest.approx((alone.seconds - alone.start) / 2)
    assert Outlook(found[:1], 1, lanes=8).seconds == pytest.approx(found[0].start + (found[0].seconds or 0))


def test_a_case_asked_in_two_ways_is_counted_once() -> None:
    case = asked(1)[0].case
    host = Host()
    once, thrice = forecasts([Question(case, Options()), Question(case, Options(processes=3))], host)
    assert len(host.measured) == 2  # one of them unheard
    assert (thrice.seconds or 0) > 2.5 * (once.seconds or 0)


CASE = Case("se", height=4, width=4, tokens=16, dim=8)
LENGTH = Length(step=1e-3, counting=0.1, start=2.0)


def test_fresh_processes_start_anew() -> None:
    alone = lasting(CASE, Options(), LENGTH)
    assert lasting(CASE, Options(processes=3), LENGTH) > 3 * LENGTH.start + alone
    (shared,), (fresh,) = forecasts(asked(1)), forecasts(asked(1), each_fresh=True)
    assert fresh.seconds == pytest.approx((shared.seconds or 0) + fresh.start, abs=0.1)


def test_what_was_not_asked_for_takes_no_time() -> None:
    parts = [live_seconds(CASE, Options(metrics=(name,)), LENGTH) for name in ("latency", "throughput", "memory")]
    assert all(each > 0 for each in parts)
    assert live_seconds(CASE, Options(metrics=("latency", "memory")), LENGTH) < parts[0] + parts[2]  # built once
    assert live_seconds(CASE, Options(metrics=("static",)), LENGTH) == 0
    assert lasting(CASE, Options(metrics=("static",)), LENGTH) == LENGTH.counting
    assert "latency" not in counting_metrics(Options())
    assert counting_metrics(Options(metrics=("params",))) == ("params",)


class Watch:
    """A clock that only the steps move on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def block(self, step: float) -> Callable[[int], float]:
        def run(steps: int) -> float:
            self.now += steps * step
            return step * 1e3

        return run


STEPS = [1e-5, 1e-3, 0.01, 0.1, 0.5, 3.0]


@pytest.mark.parametrize("mode", ["fwd", "bwd"])
@pytest.mark.parametrize("step", STEPS)
def test_the_time_of_a_latency_is_that_of_the_rules_of_sampling(step: float, mode: str) -> None:
    """The instrument's own loops on a clock of ours; what is beside the steps (estimating) is a constant."""
    watch, options = Watch(), Options(metrics=("latency",), max_time=0.2, precision_target=1e-12)
    whole, kept = watch.block(step), watch.block(step / 3)
    level = warm_up(whole, options.max_time, watch)
    if mode == "bwd":
        warm_up(kept, options.max_time, watch)
        whole = difference(whole, kept)
    sample(lambda steps: whole(steps) * (1 + watch.now % 0.1), steps_a_block(level), options, clock=watch)
    foretold = INSTRUMENTS["latency"](CASE.with_(mode=mode), options, Length(step, 0.0, 0.0)) - ESTIMATE
    assert 0.7 <= foretold / watch.now <= 1.4


@pytest.mark.parametrize("step", STEPS)
def test_the_time_of_a_throughput_is_that_of_its_runs(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    watch, options = Watch(), Options(metrics=("throughput",))
    monkeypatch.setattr(throughput.time, "perf_counter", watch)

    class Steps:
        case = CASE

        def repeat(self, steps: int) -> None:
            watch.now += steps * step

        def synchronize(self) -> None:
            return

    list(throughput.measure_throughput(Steps(), options))  # type: ignore[arg-type]
    assert 0.7 <= INSTRUMENTS["throughput"](CASE, options, Length(step, 0.0, 0.0)) / watch.now <= 1.4
