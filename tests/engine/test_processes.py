"""Several processes for one latency: figures merged by hand-made numbers, doubts judged anew, failures told."""

import statistics
from dataclasses import replace

import pytest
from canned_channels import Answer, each_in_turn
from canned_lanes import Machine, lane

from attnbench.core.case import Case
from attnbench.core.errors import UsageError
from attnbench.core.record import Note, Reading, Record
from attnbench.core.stats import Estimate, median_estimate
from attnbench.core.store import Store, load
from attnbench.engine import processes
from attnbench.engine.asking import replicated
from attnbench.engine.crew import Crew
from attnbench.engine.processes import as_kept, check, merged
from attnbench.engine.question import Question
from attnbench.engine.session import prepared
from attnbench.engine.workers.channels import InlineChannel, WorkerChannel, WorkerDied
from attnbench.metrics.metric import Options

CASE = Case("se", height=4, width=4, tokens=16, dim=8, layout="bchw")
WIDE = Note("imprecise", "the interval of one process is wide")
BUSY = Note("busy", "other processes used the same cores")
LOOSE, STRICT = 10.0, 1e-9


def latency(*samples: float, **others: object) -> list[Reading]:
    """What the instrument gives in one process."""
    estimate = median_estimate([samples])
    figures = {"median_ms": estimate.median, "ci_low_ms": estimate.low, "ci_high_ms": estimate.high,
               "mean_ms": statistics.fmean(samples), "p95_ms": max(samples), "min_ms": min(samples),
               "processes": 1, "samples": len(samples), "samples_ms": list(samples), **others}  # fmt: skip
    titled = {"title": "Latency", "low": "latency.ci_low_ms", "high": "latency.ci_high_ms"}
    return [
        Reading(f"latency.{name}", value, "ms", **(titled if name == "median_ms" else {}))
        for name, value in figures.items()
    ]


def process(*findings: Reading | Note, status: str = "ok", reason: str = "", **env: object) -> Record:
    readings = tuple(each for each in findings if isinstance(each, Reading))
    notes = tuple(each for each in findings if isinstance(each, Note))
    return Record(CASE, status, reason, readings, notes, env)


def texts(record: Record, kind: str) -> list[str]:
    return [note.text for note in record.notes if note.kind == kind]


def test_the_latency_is_that_of_all_processes() -> None:
    first = process(Reading("static.params", 7), *latency(2.0, 2.0, 2.0, 2.0))
    others = [process(*latency(3.0, 3.0)), process(*latency(1.0, 7.0, 7.0, 7.0))]
    record = merged(first, others, LOOSE)
    assert record.value("static.params") == 7
    assert record.value("latency.median_ms") == 3  # of 2, 3 and 7
    # 4 x 2, 2 x 3, 1 and 3 x 7 are 36 in ten samples; nine tenths of the way from the ninth to the tenth 7 is 7.
    assert record.value("latency.mean_ms") == pytest.approx(3.6)
    assert record.value("latency.p95_ms") == 7
    assert record.value("latency.min_ms") == 1
    assert record.value("latency.processes") == 3
    assert record.value("latency.samples") == 10
    assert record.value("latency.samples_ms") == [[2, 2, 2, 2], [3, 3], [1, 7, 7, 7]]
    assert record.reading("latency.median_ms").title == "Latency"


def test_the_interval_is_that_of_the_series_of_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def canned(series: list[list[float]]) -> Estimate:
        asked.append(series)
        return Estimate(5.0, 4.0, 7.0)

    monkeypatch.setattr(processes, "median_estimate", canned)
    record = merged(process(*latency(2.0, 3.0)), [process(*latency(9.0, 8.0))], LOOSE)
    assert asked == [[[2.0, 3.0], [9.0, 8.0]]]
    assert [record.value(f"latency.{name}_ms") for name in ("median", "ci_low", "ci_high")] == [5, 4, 7]


def test_processes_that_differ_widen_the_interval() -> None:
    """Each process is sure of its own level; together they are not."""
    each = [process(*latency(*[level, level * 1.001] * 10)) for level in (1.0, 1.2, 1.4)]
    record = merged(each[0], each[1:], LOOSE)
    alone = each[0].value("latency.ci_high_ms") - each[0].value("latency.ci_low_ms")
    assert record.value("latency.ci_high_ms") - record.value("latency.ci_low_ms") > 10 * alone
    assert record.value("latency.ci_low_ms") <= 1.0
    assert record.value("latency.ci_high_ms") >= 1.4


def test_what_each_process_gives_once() -> None:
    first = process(*latency(1.0, 1.0, set_aside=1, host_ms=0.5, cold_ms=2.0, cold_low_ms=1.9, cold_high_ms=2.1,
                             other_cores=0.1, launch_bound=False, method="events"))  # fmt: skip
    others = [
        process(*latency(1.0, 1.0, set_aside=4, host_ms=0.7, cold_ms=4.0, cold_low_ms=3.8, cold_high_ms=4.4,
                         other_cores=1.5, launch_bound=True, method="others")),
        process(*latency(1.0, 1.0, set_aside=0, host_ms=0.6, cold_ms=3.0, cold_low_ms=1.8, cold_high_ms=3.3,
                         other_cores=None, launch_bound=False)),
    ]  # fmt: skip
    record = merged(first, others, LOOSE)
    found = {name: record.value(f"latency.{name}") for name in
             ("set_aside", "host_ms", "cold_ms", "cold_low_ms", "cold_high_ms", "other_cores", "launch_bound",
              "method")}  # fmt: skip
    assert found == {"set_aside": 5, "host_ms": 0.6, "cold_ms": 3, "cold_low_ms": 1.8, "cold_high_ms": 4.4,
                     "other_cores": 1.5, "launch_bound": True, "method": "events"}  # fmt: skip


def roofline(roof_ms: float, ms: float) -> list[Reading]:
    """What the instrument gives of a step of 4e6 FLOPs and 12e6 bytes that took `ms`."""
    return [
        Reading("roofline.percent_of_roof", 100 * roof_ms / ms), Reading("roofline.flops_per_s", 4e9 / ms),
        Reading("roofline.bytes_per_s", 12e9 / ms), Reading("roofline.roof_ms", roof_ms),
        Reading("roofline.intensity", 1 / 3), Reading("roofline.bound", "memory"),
    ]  # fmt: skip


def test_rates_follow_the_merged_times() -> None:
    """The same work in the merged time is another rate; what is no rate stays."""
    cold = {"cold_low_ms": 7.0, "cold_high_ms": 9.0}
    first = process(*latency(4.0, 4.0, cold_ms=8.0, **cold), *roofline(0.8, 4.0),
                    Reading("roofline.cold_percent_of_roof", 100 * 1.6 / 8), Reading("throughput.samples_per_s", 250.0),
                    )  # fmt: skip
    others = [process(*latency(ms, ms, cold_ms=ms * 3, **cold)) for ms in (2.0, 1.0)]
    record = merged(first, others, LOOSE)
    assert record.value("latency.median_ms") == 2
    assert record.value("latency.cold_ms") == 6
    expected = {reading.name: reading.value for reading in roofline(0.8, 2.0)} | {
        "roofline.cold_percent_of_roof": 100 * 1.6 / 6, "throughput.samples_per_s": 250.0,
    }  # fmt: skip
    assert {name: record.value(name) for name in expected} == pytest.approx(expected)


def test_a_cold_time_that_only_another_process_has_is_nobodys() -> None:
    first = process(*latency(4.0, 4.0), *roofline(0.8, 4.0), Reading("roofline.cold_percent_of_roof", 20.0))
    record = merged(first, [process(*latency(4.0, 4.0, cold_ms=9.0))], LOOSE)
    assert record.value("latency.cold_ms") is None
    assert record.value("roofline.cold_percent_of_roof") == 20


def test_a_step_that_is_launch_bound_in_another_process_is_bound_by_launches() -> None:
    first = process(*latency(4.0, 4.0, launch_bound=False), *roofline(0.8, 4.0))
    record = merged(first, [process(*latency(4.0, 4.0, launch_bound=True))], LOOSE)
    assert record.value("roofline.bound") == "launch"


@pytest.mark.parametrize(
    ("roof", "own", "kinds"),
    [
        # The merged step takes 2 ms, and its interval is canned as 1.9 to 2.1: 5 %.
        (1.9, Note("impossible", "mine"), []),
        (2.05, None, ["at_roof"]),
        (2.05, Note("impossible", "mine"), ["at_roof"]),
        (2.2, None, ["impossible"]),
        (2.2, Note("impossible", "mine"), ["impossible"]),
    ],
)
def test_that_a_step_is_faster_than_its_roof_is_judged_anew(
    monkeypatch: pytest.MonkeyPatch, roof: float, own: Note | None, kinds: list[str]
) -> None:
    monkeypatch.setattr(processes, "median_estimate", lambda series: Estimate(2.0, 1.9, 2.1))
    first = process(*latency(3.0, 3.0), *roofline(roof, 3.0), *([own] if own else []))
    record = merged(first, [process(*latency(2.0, 2.0))], LOOSE)
    found = [note for note in record.notes if note.kind in ("at_roof", "impossible")]
    assert [note.kind for note in found] == kinds
    if own and own.kind in kinds:
        assert found == [own]


def test_notes_are_told_once_and_what_only_another_process_saw_is_kept() -> None:
    first = process(*latency(1.0, 1.0), Note("built", "as se"), Note("not_measured", "energy: none"))
    others = [process(*latency(1.0, 1.0), Note("not_measured", "not asked for: static"), BUSY) for _ in range(2)]
    record = merged(first, others, LOOSE)
    assert [note.kind for note in record.notes] == ["built", "not_measured", "busy", "method"]
    assert texts(record, "not_measured") == ["energy: none"]
    assert "latency is of 3 processes, what else was measured of the first" in texts(record, "method")[0]


@pytest.mark.parametrize(
    ("own", "target", "advice"),
    [
        ([WIDE, WIDE], LOOSE, None),
        ([WIDE, WIDE], STRICT, "more --max-time and more --processes"),
        ([WIDE, None], STRICT, "since they differ, against which more --max-time does not help: give more --processes"),
        ([None, None], STRICT, "since they differ, against which more --max-time does not help: give more --processes"),
    ],
)
def test_precision_is_judged_anew(own: list[Note | None], target: float, advice: str | None) -> None:
    first, other = (
        process(*latency(level, level), *([note] if note else []))
        for level, note in zip((1.0, 1.1), own, strict=True)
    )  # fmt: skip
    found = texts(merged(first, [other], target), "imprecise")
    assert len(found) == (advice is not None)
    assert all(advice in text and "over 2 processes" in text for text in found)


@pytest.mark.parametrize(("aside", "said"), [(4, []), (20, ["most"])])
def test_that_most_samples_were_set_aside_is_judged_anew(aside: int, said: list[str]) -> None:
    """Of 2 processes with 3 samples each, 4 or 20 are set aside in the first."""
    first = process(*latency(1.0, 1.0, 1.0, set_aside=aside), Note("set_aside", "most"))
    record = merged(first, [process(*latency(1.0, 1.0, 1.0, set_aside=0))], LOOSE)
    assert texts(record, "set_aside") == said


def test_processes_that_failed_are_told_with_their_reasons() -> None:
    first = process(*latency(1.0, 1.0))
    crashed = process(status="crashed", reason="it crashed the worker process (SIGSEGV)")
    others = [crashed, process(*latency(3.0, 3.0)), crashed, process(status="timeout", reason="nothing came from it")]
    record = merged(first, others, LOOSE)
    assert record.ok
    assert record.value("latency.processes") == 2
    assert record.value("latency.median_ms") == 2
    assert texts(record, "processes") == [
        "only 2 of 5 processes gave a latency: crashed, it crashed the worker process (SIGSEGV); timeout, nothing came "
        "from it"
    ]


def test_samples_of_a_process_that_failed_do_not_count() -> None:
    half = process(*latency(9.0, 9.0), status="crashed", reason="late")
    record = merged(process(*latency(1.0, 1.0)), [half, process(*latency(1.0, 1.0))], LOOSE)
    assert record.value("latency.samples") == 4


def test_the_first_process_alone_keeps_its_own_figures_and_doubts() -> None:
    first = process(*latency(1.0, 2.0, 4.0), WIDE)
    record = merged(first, [process(status="oom", reason="not started")], STRICT)
    assert record.readings == first.readings
    assert [note.kind for note in record.notes] == ["imprecise", "processes"]


def test_every_reason_for_a_throttled_clock_is_kept() -> None:
    first = process(*latency(1.0, 1.0), fingerprint="f", throttle_reasons=[])
    others = [process(*latency(1.0, 1.0), throttle_reasons=reasons) for reasons in (["heat"], ["power", "heat"])]
    record = merged(first, others, LOOSE)
    assert record.env == {"fingerprint": "f", "throttle_reasons": ["heat", "power"]}


def answers(*levels: float) -> list[Answer]:
    return [[Reading("static.params", 7), *latency(level, level)] for level in levels]


def test_each_process_is_fresh_and_only_the_first_measures_everything() -> None:
    channel = each_in_turn(answers(1.0, 2.0, 3.0))
    told: list[str] = []
    record = replicated(CASE, channel, Options(processes=3), None, told.append)
    assert [isinstance(each, str) for each in channel.log] == [True, False] * 3
    assert [each["options"]["metrics"] for each in channel.asked] == [("all",), ("latency",), ("latency",)]
    assert [each["options"]["scratch"] for each in channel.asked] == [True, False, False]
    assert record.value("latency.median_ms") == 2
    assert told == ["process 1 of 3", "process 2 of 3", "process 3 of 3"]


def test_one_process_is_the_one_that_is_there() -> None:
    channel = each_in_turn(answers(1.0))
    record = replicated(CASE, channel, Options())
    assert "fresh" not in channel.log
    assert record.value("latency.median_ms") == 1
    assert not texts(record, "method")


@pytest.mark.parametrize("end", [("oom", "not started"), WorkerDied("oom", "not started")])
def test_a_case_that_the_first_cannot_finish_is_not_tried_again(end: Answer) -> None:
    channel = each_in_turn([end])
    record = replicated(CASE, channel, Options(processes=5))
    assert (record.status, record.reason, len(channel.asked)) == ("oom", "not started", 1)


def test_a_case_without_samples_is_not_tried_again_and_says_so() -> None:
    channel = each_in_turn([[Reading("latency.median_ms", 1.0)]])
    record = replicated(CASE, channel, Options(processes=5))
    assert record.ok
    assert "no other process was started" in texts(record, "processes")[0]


def test_a_later_process_that_dies_costs_only_itself() -> None:
    first, last = answers(1.0, 3.0)
    channel = each_in_turn([first, WorkerDied("crashed", "SIGSEGV"), last])
    record = replicated(CASE, channel, Options(processes=3))
    assert record.value("latency.median_ms") == 2
    assert texts(record, "processes") == ["only 2 of 3 processes gave a latency: crashed, SIGSEGV"]


@pytest.mark.parametrize(("count", "series"), [(1, [[1.0, 1.0]]), (2, [[1.0, 1.0], [2.0, 2.0]])])
def test_samples_are_kept_on_request_as_a_list_for_each_process(tmp_path, count: int, series: list) -> None:
    options = Options(processes=count, keep_samples=True)
    path = tmp_path / "records.jsonl"

    def recorded(options: Options) -> Record:
        """Of one Case, through a session, with the store that it is written to."""
        answered = each_in_turn(answers(1.0, 2.0))
        crew = Crew([lane(Machine(lambda case: answered.answer({})))])
        (record,) = prepared([Question(CASE, options)], crew).records(crew, Store(path))
        return record

    record = recorded(options)
    assert record.value("latency.samples_ms") == series
    assert load(path).records[0].to_dict()["latency"]["samples_ms"] == series
    without = recorded(replace(options, keep_samples=False))
    assert without.reading("latency.samples_ms") is None
    assert "latency.samples_ms: not kept" in texts(without, "not_measured")[-1]
    assert load(path).records[1] == without


def test_where_nothing_was_sampled_nothing_is_said_of_samples() -> None:
    record = process(Reading("static.params", 7))
    assert as_kept(record, Options()) == record


def test_samples_are_no_column() -> None:
    from attnbench.report.table import sheet

    kept = as_kept(process(*latency(1.0, 2.0)), Options(keep_samples=True))
    assert kept.value("latency.samples_ms") == [[1.0, 2.0]]
    assert [column.name for column in sheet([kept]).columns if column.measured] == ["latency.median_ms"]


@pytest.mark.parametrize(
    ("options", "isolate", "sentence"),
    [
        (Options(processes=0), True, "--processes 0 is out of range"),
        (Options(processes=-3), True, "--processes -3 is out of range"),
        (Options(processes=1001), True, "from 1 to 1000"),
        (Options(processes=2), False, "--processes 2 needs worker processes: leave --no-isolate away"),
        (Options(("static", "memory"), processes=2), True, "for the latency: add it to --metrics static,memory"),
    ],
)
def test_what_cannot_be_asked_of_several_processes(options: Options, isolate: bool, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        check(options, isolate=isolate)


@pytest.mark.parametrize("metrics", [("latency",), ("all",), ("static", "latency")])
def test_what_can(metrics: tuple[str, ...]) -> None:
    check(Options(metrics, processes=5), isolate=True)
    check(Options(("static",)), isolate=False)


def test_a_channel_of_this_process_cannot_be_fresh() -> None:
    with pytest.raises(UsageError, match="--no-isolate"):
        InlineChannel().fresh()


def test_a_fresh_worker_is_another_process_set_up_like_the_first() -> None:
    channel = WorkerChannel(quiet=True)
    try:
        list(channel.ask({"do": "hello", "device": "cpu", "dtypes": ["fp32"], "threads": 1, "metrics": ["all"]}))
        before = channel._process.pid
        channel.fresh()
        events = list(channel.ask({"do": "resolve", "case": CASE.to_dict()}))
        assert channel._process.pid != before
        assert events[0]["env"]["threads"] == 1
        assert events[-1]["status"] == "ok"
    finally:
        channel.close()
