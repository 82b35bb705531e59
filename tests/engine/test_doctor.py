"""What the doctor asks of a worker and makes of the answers: figures of the A/A run by hand, deaths, and advice."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from attnbench.core.case import Case
from attnbench.core.errors import CannotJudgeError, UsageError
from attnbench.core.record import Note, Reading, Record
from attnbench.core.stats import median_estimate
from attnbench.engine.doctor import Plan, advice, blank, examined, noise_of
from attnbench.engine.workers.channels import Event, InlineChannel, WorkerDied
from attnbench.metrics.metric import Options

CASE = Case("se", layout="bchw", height=8, width=8, tokens=64, dim=64)
OK = {"event": "done", "status": "ok", "reason": ""}
ENV = {"event": "env", "env": {"threads": 2, "affinity": 2, "malloc": "warm"}}
OPTIONS = Options(("latency",), max_time=1.0, processes=3)
PLAN = Plan(CASE, OPTIONS, ("fp32", "bf16"), timeout=60.0)
PEAKS = {"dtype": "fp32", "flops_per_s": 1e11, "bytes_per_s": 1e10, "disturbed": False}


class Scripted:
    """Answers each request as told; a death among the events is one."""

    def __init__(self, answer: Callable[[Event], Sequence[Event | WorkerDied]]) -> None:
        self._answer = answer
        self.log: list[Event | str] = []

    def ask(self, request: Event, timeout: float | None = None) -> Iterator[Event]:
        self.log.append(request)
        for event in self._answer(request):
            if isinstance(event, WorkerDied):
                raise event
            yield event

    def fresh(self) -> None:
        self.log.append("fresh")

    def close(self) -> None:
        return


def ability(name: str, **figures: Any) -> list[Event]:
    found = {"name": name, "can": "yes", "how": f"{name} was read", "advice": "", "figures": figures}
    return [{"event": "trying", "name": name}, {"event": "ability", **found}]


def latency(median: float, *, low: float, high: float, samples: Sequence[float]) -> list[Event]:
    readings = {"median_ms": median, "ci_low_ms": low, "ci_high_ms": high, "samples_ms": list(samples),
                "other_cores": 0.25}  # fmt: skip
    return [{"event": "reading", "value": value, **Reading(f"latency.{name}", value).describe()}
            for name, value in readings.items()]  # fmt: skip


def healthy(request: Event) -> list[Event | WorkerDied]:
    match request["do"]:
        case "abilities":
            return [ENV, *ability("latency"), *ability("other load", other_cores=0.0), OK]
        case "measure":
            return [ENV, *latency(2.0, low=1.9, high=2.1, samples=[1.9, 2.0, 2.1]), OK]
        case _:
            return [{"event": "peaks", "peaks": {**PEAKS, "dtype": request["dtype"]}}, OK]


def last(plan: Plan, channel: Any, told: list[str] | None = None) -> dict[str, Any]:
    *_, found = examined(plan, channel, (told if told is not None else []).append)
    return found


# Putting it together


def test_parts_stand_as_soon_as_they_are_known() -> None:
    steps = list(examined(PLAN, Scripted(healthy), lambda what: None))
    known = [(len(each["abilities"]), each["noise"] is not None, len(each["roof"] or ())) for each in steps]
    without = [(0, False, 0), (1, False, 0), (2, False, 0)]
    assert known == [*without, (2, True, 0), (2, True, 0), (2, True, 1), (2, True, 2)]
    assert all(each["env"] == ENV["env"] and each["device"] == "cpu" for each in steps)
    assert steps[3]["noise"]["processes"] == 2
    assert steps[-1]["noise"]["processes"] == 3
    assert [peaks["dtype"] for peaks in steps[-1]["roof"]] == ["fp32", "bf16"]
    assert set(steps[-1]) == set(blank())


def test_each_process_and_each_roof_is_a_fresh_one_and_told() -> None:
    channel, told = Scripted(healthy), list[str]()
    last(PLAN, channel, told)
    does = [each if isinstance(each, str) else each["do"] for each in channel.log]
    assert does == ["abilities", *["fresh", "measure"] * 3, *["fresh", "peaks"] * 2]
    assert told == ["latency", "other load", "A/A run, process 1 of 3", "A/A run, process 2 of 3",
                    "A/A run, process 3 of 3", "roof, fp32", "roof, bf16"]  # fmt: skip
    measures = [each for each in channel.log if isinstance(each, dict) and each["do"] == "measure"]
    assert all(each["options"]["metrics"] == ("latency",) and each["options"]["max_time"] == 1.0 for each in measures)


def test_quick_asks_nothing_else() -> None:
    channel = Scripted(healthy)
    found = last(replace(PLAN, quick=True), channel)
    (request,) = channel.log
    assert request == {"do": "abilities", "device": "cpu", "quick": True, "done": []}
    assert found["noise"] is None
    assert found["roof"] is None


def test_fresh_is_for_the_roof() -> None:
    for fresh in (False, True):
        channel = Scripted(healthy)
        last(replace(PLAN, fresh=fresh), channel)
        asked = [each["fresh"] for each in channel.log if isinstance(each, dict) and each["do"] == "peaks"]
        assert asked == [fresh, fresh]


def test_a_trial_that_ends_the_worker_is_a_row_and_the_others_are_tried() -> None:
    def answer(request: Event) -> list[Event | WorkerDied]:
        if not request["done"]:
            return [ENV, *ability("latency"), {"event": "trying", "name": "kernel list"},
                    WorkerDied("crashed", "it crashed the worker process (SIGSEGV)")]  # fmt: skip
        return [ENV, *ability("energy"), OK]

    channel = Scripted(answer)
    found = last(replace(PLAN, quick=True), channel)
    assert [(each["name"], each["can"]) for each in found["abilities"]] == [
        ("latency", "yes"), ("kernel list", "no"), ("energy", "yes")]  # fmt: skip
    assert found["abilities"][1]["how"] == "trying it fails: it crashed the worker process (SIGSEGV)"
    assert set(found["abilities"][1]) == set(found["abilities"][0])
    assert [each["done"] for each in channel.log if isinstance(each, dict)] == [[], ["latency", "kernel list"]]


@pytest.mark.parametrize("before", [[], [ENV], [ENV, *ability("latency")]])
def test_a_worker_that_dies_of_nothing_is_not_asked_forever(before: list[Event]) -> None:
    channel = Scripted(lambda request: [*before, WorkerDied("crashed", "it ended")])
    with pytest.raises(CannotJudgeError, match="cannot be examined: it ended"):
        last(replace(PLAN, quick=True), channel)


def test_what_the_worker_says_of_a_fault_is_passed_on() -> None:
    with pytest.raises(UsageError, match="wrong"):
        last(PLAN, Scripted(lambda request: [{"event": "usage", "text": "wrong"}]))
    failed = {"event": "done", "status": "error", "reason": "CUDA is gone"}
    with pytest.raises(CannotJudgeError, match="CUDA is gone"):
        last(PLAN, Scripted(lambda request: [failed]))


def test_a_dtype_without_a_roof_says_why_and_so_does_a_death() -> None:
    def answer(request: Event) -> list[Event | WorkerDied]:
        if request["do"] != "peaks":
            return healthy(request)
        if request["dtype"] == "fp32":
            return [{"event": "done", "status": "unsupported", "reason": "no such dtype"}]
        return [WorkerDied("timeout", "nothing came")]

    assert last(PLAN, Scripted(answer))["roof"] == [
        {"dtype": "fp32", "reason": "no such dtype"}, {"dtype": "bf16", "reason": "nothing came"}]  # fmt: skip


def test_the_real_answers_fit() -> None:
    """The same requests, answered by this process: no channel that is made by hand stands between."""
    found = last(replace(PLAN, quick=True), InlineChannel())
    assert found["env"]["threads"] > 0
    assert [each["name"] for each in found["abilities"]][:2] == ["latency", "cold latency"]
    assert all(set(each) == {"name", "can", "how", "advice", "figures"} for each in found["abilities"])


# The noise floor


def record(median: float, width: float, samples: Sequence[float], *notes: Note, others: float | None = 0.1) -> Record:
    figures = {"median_ms": median, "ci_low_ms": median - width, "ci_high_ms": median + width,
               "samples_ms": list(samples)} | ({} if others is None else {"other_cores": others})  # fmt: skip
    readings = tuple(Reading(f"latency.{name}", value) for name, value in figures.items())
    return Record(CASE, "ok", readings=readings, notes=notes)


def test_the_noise_floor_by_hand() -> None:
    """Medians of 10, 11 and 12 ms: any two differ by 10 %, 20 % and 1/11; alone each is within 2, 4 and 6 %."""
    series = [[9.9, 10.0, 10.1], [10.9, 11.0, 11.1], [11.9, 12.0, 12.1]]
    widths = (0.2, 0.44, 0.72)
    processes = [record(each[1], width, each, others=width / 3.6) for each, width in zip(series, widths, strict=True)]
    noise = noise_of(processes, 1.0)
    assert noise["medians_ms"] == [10.0, 11.0, 12.0]
    assert noise["largest"] == pytest.approx(0.2)
    assert noise["typical"] == pytest.approx(0.1)
    assert noise["alone"] == pytest.approx(0.04)
    assert noise["other_cores"] == pytest.approx(0.2)
    assert noise["processes"] == 3
    over = median_estimate(series)
    assert (noise["median_ms"], noise["low_ms"], noise["high_ms"]) == (over.median, over.low, over.high)
    assert noise["precision"] == pytest.approx((over.high - over.low) / 2 / 11.0)
    assert noise["reason"] == ""
    assert noise["max_time"] == 1.0
    assert Case.from_dict(noise["case"]) == CASE


def test_two_equal_processes_do_not_differ() -> None:
    noise = noise_of([record(5.0, 0.05, [4.9, 5.0, 5.1])] * 2, 1.0)
    assert noise["largest"] == noise["typical"] == 0.0


def test_order_does_not_matter_to_a_difference() -> None:
    one, other = record(4.0, 0.1, [4.0, 4.0]), record(5.0, 0.1, [5.0, 5.0])
    assert noise_of([one, other], 1.0)["largest"] == noise_of([other, one], 1.0)["largest"] == pytest.approx(0.25)


def test_processes_that_failed_are_told_and_not_counted() -> None:
    crash = Record(CASE, "crashed", "it crashed the worker process (SIGSEGV)")
    noise = noise_of([record(4.0, 0.1, [4.0, 4.0]), crash, record(5.0, 0.1, [5.0, 5.0])], 1.0)
    assert noise["processes"] == 2
    assert noise["largest"] == pytest.approx(0.25)
    assert noise["reason"] == "it crashed the worker process (SIGSEGV)"


def test_one_process_tells_no_difference() -> None:
    silent = Record(CASE, "ok")
    noise = noise_of([record(4.0, 0.1, [4.0, 4.0]), silent], 1.0)
    assert noise["processes"] == 1
    assert noise["reason"] == "no samples"
    figures = ("median_ms", "low_ms", "high_ms", "precision", "alone", "largest", "typical", "medians_ms")
    assert [noise[name] for name in figures] == [None] * len(figures)


def test_the_same_note_of_all_processes_is_one() -> None:
    busy = Note("busy", "other processes")
    noise = noise_of([record(4.0, 0.1, [4.0, 4.0], busy), record(5.0, 0.1, [5.0, 5.0], busy, Note("gaps", "g"))], 1.0)
    assert noise["notes"] == [{"kind": "busy", "text": "other processes"}, {"kind": "gaps", "text": "g"}]


def test_a_load_that_nobody_tells_is_not_zero() -> None:
    assert noise_of([record(4.0, 0.1, [4.0, 4.0], others=None)] * 2, 1.0)["other_cores"] is None


# Advice


def advised(env: dict[str, Any], device: str = "cpu", load: dict[str, Any] | None = None, **parts: Any) -> list[str]:
    other = {"name": "other load", "figures": load or {}}
    return list(advice({**blank(), "device": device, "env": env, "abilities": [other], **parts}))


def test_a_quiet_machine_needs_no_advice() -> None:
    env = {"threads": 2, "affinity": 4, "cores": 8, "governor": "performance", "malloc": "warm", "smt": True}
    assert advised(env, load={"other_cores": 1.9}) == []
    gpu = {**env, "threads": 64, "malloc": "default", "persistence": True, "mig": False, "ecc": True}
    assert advised(gpu, "cuda", {"others": 0}) == []
    assert advised({}) == []
    assert list(advice(blank())) == []


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"governor": "powersave"}, "governor is powersave"),
        ({"governor": "performance, powersave"}, "governor is performance, powersave"),
        ({"malloc": "default"}, "unset MALLOC_MMAP_MAX_"),
        ({"persistence": False}, "sudo nvidia-smi -pm 1"),
        ({"mig": True}, "slices (MIG)"),
        ({"threads": 64, "affinity": 2, "cores": 64}, "--threads 2"),
        ({"threads": 9, "affinity": None, "cores": 8}, "--threads 8"),
    ],
)
def test_each_setting_that_makes_figures_unsteady_has_its_advice(env: dict[str, Any], words: str) -> None:
    (sentence,) = advised(env)
    assert words in sentence


@pytest.mark.parametrize(
    ("threads", "others", "sentences"),
    [
        (4, 0.05, []),
        (3, 0.9, []),
        (4, 0.3, ["--threads 3"]),
        (4, 2.5, ["--threads 1"]),
        (4, 9.0, ["--threads 1"]),
        (1, 3.5, ["quiet the machine"]),
    ],
)
def test_threads_and_the_load_of_others_share_the_cpus(threads: int, others: float, sentences: list[str]) -> None:
    found = advised({"threads": threads, "affinity": 4, "cores": 4}, load={"other_cores": others})
    assert len(found) == len(sentences)
    assert all(words in sentence for words, sentence in zip(sentences, found, strict=True))
    if threads == 1:
        assert not any("--threads" in sentence for sentence in found)


def test_the_load_while_it_was_measured_counts_too() -> None:
    env = {"threads": 2, "affinity": 2, "cores": 2}
    assert advised(env, load={"other_cores": 0.0}) == []
    (sentence,) = advised(env, load={"other_cores": 0.0}, noise={"other_cores": 1.0})
    assert "others keep 1.0 of 2 CPUs busy" in sentence


def test_who_else_is_on_a_gpu_and_a_roof_of_a_busy_machine() -> None:
    (sentence,) = advised({"threads": 64, "affinity": 2}, "cuda:1", {"others": 2})
    assert "CUDA_VISIBLE_DEVICES" in sentence
    (sentence,) = advised({}, roof=[PEAKS, {**PEAKS, "disturbed": True}, {"dtype": "tf32", "reason": "none"}])
    assert "--fresh" in sentence
